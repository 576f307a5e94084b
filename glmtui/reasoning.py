"""Answers that begin with the model thinking aloud: ``<think>…</think>``, then what is meant for the reader.

The whole of it is the message's text, in files too; whoever shows or sends it takes it apart here.
"""

from __future__ import annotations

from typing import NamedTuple

OPEN, CLOSE = "<think>", "</think>"


class Reasoned(NamedTuple):
    """An answer's two parts."""

    thought: str
    """Without the marks around it; empty where the model did not think aloud."""
    answer: str
    thinking: bool = False
    """Whether the thought is not over yet, so that there is no answer."""


def split(text: str) -> Reasoned:
    """Take apart an answer, or the beginning of one."""
    start = text.lstrip()
    if not start.startswith(OPEN):
        if start and OPEN.startswith(start):  # it may become one
            return Reasoned("", "", thinking=True)
        return Reasoned("", text)
    thought, close, answer = start[len(OPEN) :].partition(CLOSE)
    if not close:
        return Reasoned(_without_beginning_of(CLOSE, thought).strip(), "", thinking=True)
    return Reasoned(thought.strip(), answer.lstrip())


def answer_of(text: str) -> str:
    """Return what of an answer is meant for the reader; a thought that was never finished is not."""
    return split(text).answer


def quoted(text: str) -> str:
    """Return an answer as Markdown, its thought as a quotation before it."""
    thought, answer, _thinking = split(text)
    if not thought:
        return answer or text
    return "\n".join(f"> {line}".rstrip() for line in thought.split("\n")) + f"\n\n{answer}"


def _without_beginning_of(mark: str, text: str) -> str:
    """Return `text` without the part of `mark` that it may end with."""
    for length in range(len(mark) - 1, 0, -1):
        if text.endswith(mark[:length]):
            return text[:-length]
    return text

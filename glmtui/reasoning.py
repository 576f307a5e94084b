"""Answers that begin with the model thinking aloud: ``<think>…</think>``, then what is meant for the reader.

In messages and events thought and answer are apart; only what a model reads and writes has the marks.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from glmtui.protocol.messages import Part, Text, Thought, text_of, thought_of

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


def parts_of(text: str) -> tuple[Part, ...]:
    """Take apart a complete answer as a model wrote it."""
    thought, answer, _thinking = split(text)
    return (*((Thought(thought),) if thought else ()), *((Text(answer),) if answer else ()))


def written(parts: tuple[Part, ...]) -> str:
    """Return an answer as a model writes it; one without a text is still in its thought."""
    thought, text = thought_of(parts), text_of(parts)
    if not thought:
        return text
    opened = f"{OPEN}\n{thought}"
    return f"{opened}\n{CLOSE}\n\n{text}" if any(isinstance(part, Text) for part in parts) else opened


class Piece(NamedTuple):
    """Some of what a model wrote, without marks."""

    text: str
    thought: bool


class ThoughtStream:
    """Tells the thought from the answer while the text comes: as `split` does, but nothing is taken back.

    Args:
        begun: what is there of the answer already, which goes on.
    """

    def __init__(self, begun: tuple[Part, ...] = ()) -> None:
        self._held = ""  # a mark that has begun, or blanks that are kept only if something follows
        self._stage: Literal["start", "thought", "gap", "answer"] = "start"
        if any(isinstance(part, Text) for part in begun):
            self._stage = "answer"
        elif thought_of(begun):
            self._stage = "thought"
        self._blank = not begun  # nothing of the thought is there yet
        self.thought = self._stage == "thought"
        """Whether there is, or was, a thought."""

    def push(self, text: str) -> list[Piece]:
        """Return what is decided once `text` has come."""
        pieces: list[Piece] = []
        text, self._held = self._held + text, ""
        if self._stage == "start":
            start = text.lstrip()
            if start.startswith(OPEN):
                self._stage, self.thought, text = "thought", True, start[len(OPEN) :]
            elif OPEN.startswith(start):
                self._held = text
                return []
            else:
                self._stage = "answer"
        if self._stage == "thought":
            if self._blank:
                text = text.lstrip()
                self._blank = not text
            thought, close, rest = text.partition(CLOSE)
            if close:
                self._stage = "gap"
            else:
                thought = _without_beginning_of(CLOSE, thought)
            shown = thought.rstrip()
            self._held = "" if close else text[len(shown) :]
            pieces.append(Piece(shown, thought=True))
            text = rest
        if self._stage == "gap":
            text = text.lstrip()
            self._stage = "answer" if text else "gap"
        pieces.append(Piece(text, thought=False))
        return [piece for piece in pieces if piece.text]

    def finish(self, *, complete: bool) -> list[Piece]:
        """Return what was held back, as the text ends here; half a mark belongs to it if it is `complete`."""
        text, self._held = self._held, ""
        if not complete and text.strip() and OPEN.startswith(text.lstrip()):
            return []
        if self._stage == "thought":
            text = text.rstrip() if complete else ""
        return [Piece(text, thought=self._stage == "thought")] if text else []


def _without_beginning_of(mark: str, text: str) -> str:
    """Return `text` without the part of `mark` that it may end with."""
    for length in range(len(mark) - 1, 0, -1):
        if text.endswith(mark[:length]):
            return text[:-length]
    return text

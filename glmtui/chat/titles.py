"""Titles made from the first exchange."""

from __future__ import annotations

import re

from glmtui.chat.tree import Message, Tree
from glmtui.protocol.messages import Attachment, Image

LENGTH = 60
"""Characters a made title has at most; lists cut it further to their width."""
_SHORT = 6
"""A first question of fewer characters (你好, hi) says too little: the answer's beginning is added."""
_DATE = re.compile(r"^\d{4}-\d\d-\d\d-\d{6}")
_BEGINNING = 10_000
"""Characters of a text in which its first line is looked for."""
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})[^\s`]*\s*")
_BLOCK_MARKS = re.compile(r"\s*(?:(?:#{1,6}|[>*+-]|\d{1,9}[.)])\s+)*")
"""Of headings, quotations and lists: none without a space behind it (``-5 + 3``, ``#include``)."""
_CODE = re.compile(r"(?<!`)(`+)(?!`)([^`]+)\1(?!`)")
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9_)\]*])(\*{1,3})(?=[^\s*])([^*]*)(?<=[^\s*])\1(?!\*)")
"""Not between figures and letters, as CommonMark would have it: ``2*3*4`` is a product."""


def make_title(tree: Tree) -> str:
    """Return one line that tells what the conversation is about, empty when nothing was said."""
    question = answer = ""
    for message in tree.messages.values():
        if not tree.visible(message.id):
            continue
        if message.role == "user" and not question:
            question = first_line(message.text) or _first_name(message)
        elif message.role == "assistant" and question and not answer:
            answer = first_line(message.text)
        if len(question) >= _SHORT or answer:
            break
    if answer and len(question) < _SHORT:
        question = f"{question} · {answer}"
    return shorten(question)


def _first_name(message: Message) -> str:
    names = (part.name for part in message.parts if isinstance(part, Attachment | Image))
    return next((name for name in names if name), "")


def first_line(text: str) -> str:
    """Return the first line of `text` that says something, without Markdown's marks."""
    for line in text[:_BEGINNING].split("\n"):
        if not _FENCE.fullmatch(line):
            unmarked = _CODE.sub(r"\2", _BLOCK_MARKS.sub("", line, count=1))
            if stripped := " ".join(_EMPHASIS.sub(r"\2", unmarked).split()):
                return stripped
    return ""


def shorten(text: str, length: int = LENGTH) -> str:
    """Cut `text` to `length` characters, marking the cut."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def title_of_name(name: str) -> str:
    """Return what the name of a conversation file tells: the words behind its date."""
    stem = name.rpartition(".")[0]
    words = _DATE.sub("", stem).replace("-", " ").strip()
    return words or stem

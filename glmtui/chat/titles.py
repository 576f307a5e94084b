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
_MARKUP = re.compile(r"^(?:[#>\-*+\s]|\d+[.)]\s|```\w*)+|[*`]{1,3}")


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
    for line in text.split("\n"):
        if stripped := " ".join(_MARKUP.sub("", line).split()):
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

"""Text files that go with what a person sends."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class AttachedFile:
    """A file whose name stands in the message behind an ``@``."""

    name: str
    """As it was named there."""
    origin: str
    """Its absolute path."""
    text: str


def in_full(text: str, attached: Iterable[AttachedFile]) -> str:
    """Return a message with the files that it names quoted in the places of their names."""
    for file in attached:
        text = text.replace(f"@{file.name}", quote_file(file.name, file.text), 1)
    return text


def quote_file(name: str, text: str) -> str:
    """Return a file for a model to read: its name, and its text between fences longer than any in it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", text)), 0)
    return f"{name}:\n{fence}\n{text}\n{fence}"

"""What a document is once it was read: a stream of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from glmtui.protocol.phrases import Phrase

Kind = Literal["heading", "text", "table", "code"]

LARGEST = 512 << 20
"""Bytes of a file that is looked into at all."""
MOST_TEXT = 48 << 20
"""Bytes of a file that is text as a whole; of a compressed one, of what is unpacked of it.

Python keeps up to four bytes for each of them: a reader has no room for a second copy of the text.
"""
MOST_CHARACTERS = 20_000_000
"""Of one document: about ten thousand pages."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a document that belongs together."""

    kind: Kind
    text: str
    """Of a table its rows, one a line, the cells separated by `CELLS`."""
    level: int = 0
    """Of a heading, from 1."""
    page: int = 0
    """From 1, also of slides; 0 where there are none."""
    first: int = 0
    """First line (in a table row) of the file, from 1; 0 where there are none..."""
    last: int = 0
    """...and the last one."""
    header: str = ""
    """Of a table: its first row, which is not in `text`."""


CELLS = " | "


@dataclass(slots=True)
class Reading:
    """A file that is being read. What is known of it grows while its blocks are taken."""

    file: BinaryIO
    """Can be sought in."""
    name: str
    """With its suffix."""
    title: str = ""
    """As the document itself says."""
    pages: int = 0
    notes: list[Phrase] = field(default_factory=list)
    """What a person should know of it, such as pages without text."""

"""Text files that go with what a person sends."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmtui.protocol.messages import Attachment, Part, Text

if TYPE_CHECKING:
    from glmtui.chat.attachments import Attachments


@dataclass(frozen=True)
class AttachedFile:
    """A file whose name stands in the message behind an ``@``."""

    name: str
    """As it was named there."""
    origin: str
    """Its absolute path."""
    text: str


def parts_of(
    text: str, attached: Iterable[AttachedFile], kept: Iterable[Part], attachments: Attachments
) -> tuple[Part, ...]:
    """Return the parts of a message: its text, its files, and what an earlier version of it had (`kept`)."""
    parts: list[Part] = [Text(text)]
    parts += [attachments.attach(file.name, file.text, file.origin) for file in attached]
    for part in kept:
        if isinstance(part, Text) or part in parts:
            continue
        if not isinstance(part, Attachment) or f"@{part.name}" in text:
            parts.append(part)
    return tuple(parts)


def in_full(text: str, attached: Iterable[AttachedFile]) -> str:
    """Return a message with the files that it names quoted in the places of their names."""
    for file in attached:
        text = text.replace(f"@{file.name}", quote_file(file.name, file.text), 1)
    return text


def quote_file(name: str, text: str) -> str:
    """Return a file for a model to read: its name, and its text between fences longer than any in it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", text)), 0)
    return f"{name}:\n{fence}\n{text}\n{fence}"

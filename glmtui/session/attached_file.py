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
    new = [attachments.attach(file.name, file.text, file.origin) for file in attached]
    names = {part.name for part in new}
    stays = [
        part
        for part in kept
        if not isinstance(part, Text | Attachment)
        or (isinstance(part, Attachment) and part.name not in names and _mention(part.name).search(text))
    ]
    return (Text(text), *new, *stays)


def in_full(text: str, attached: Iterable[AttachedFile]) -> str:
    """Return a message with the files that it names quoted in the places of their names."""
    for file in attached:
        quoted = quote_file(file.name, file.text)
        text = _mention(file.name).sub(quoted.replace("\\", r"\\"), text, count=1)
    return text


def _mention(name: str) -> re.Pattern[str]:
    """Match ``@name``, but not as the beginning of another name."""
    return re.compile(rf"@{re.escape(name)}(?![\w/-]|\.\w)")


def quote_file(name: str, text: str) -> str:
    """Return a file for a model to read: its name, and its text between fences longer than any in it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", text)), 0)
    return f"{name}:\n{fence}\n{text}\n{fence}"

"""What goes with what a person sends: text files, and pictures by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmtui.protocol.messages import Attachment, Image, Part, Text, text_of

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
    """Return the parts of a message: its text, its files, and what an earlier version of it had (`kept`).

    Of that, files and pictures stay unless the person took their names out of the text, or names them again.
    Pictures come in the order in which the text names them, whichever was read first.
    """
    new = [attachments.attach(file.name, file.text, file.origin) for file in attached]
    kept = tuple(kept)
    names, before = {part.name for part in new}, text_of(kept)

    def stays(part: Part) -> bool:
        if not isinstance(part, Attachment | Image):
            return not isinstance(part, Text)
        mention = mention_of(part.name)
        taken_out = mention.search(before) and not mention.search(text)
        return part.name not in names and not taken_out

    def place(part: Part) -> int:
        match = mention_of(part.name).search(text) if isinstance(part, Image) else None
        return match.start() if match else -1

    return (Text(text), *new, *sorted(filter(stays, kept), key=place))


def named_parts(kept: Sequence[Part]) -> Iterator[Part]:
    """Yield the text of a message, its files, and those of its pictures that the text names."""
    text = text_of(kept)
    for part in kept:
        if isinstance(part, Text | Attachment) or (
            isinstance(part, Image) and mention_of(part.name).search(text)
        ):
            yield part


def in_full(text: str, attached: Iterable[AttachedFile]) -> str:
    """Return a message with the files that it names quoted in the places of their names."""
    for file in attached:
        if match := mention_of(file.name).search(text):
            block = quote_file(file.name, file.text)
            text = on_its_own(text[: match.start()], block, text[match.end() :])
    return text


def on_its_own(before: str, block: str, after: str) -> str:
    """Put a block into a text, on lines of its own."""
    if before and not before.endswith("\n"):
        before = before.rstrip(" ") + "\n"
    if after and not after.startswith("\n"):
        after = "\n" + after.lstrip(" ")
    return before + block + after


def mention_of(name: str) -> re.Pattern[str]:
    """Match ``@name``, but not as the beginning of another name. Chinese may follow a suffix at once."""
    if not name:
        return re.compile(r"(?!)")
    letter = "A-Za-z0-9_" if name[-1:].isascii() else r"\w"
    return re.compile(rf"@{re.escape(name)}(?![{letter}/-]|\.\w)")


def quote_file(name: str, text: str) -> str:
    """Return a file for a model to read: its name, and its text between fences longer than any in it."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", text)), 0)
    return f"{name}:\n{fence}\n{text}\n{fence}"

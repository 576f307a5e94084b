"""What goes with what a person sends: text files, and pictures by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmtui import paths
from glmtui.errors import BadValueError, UserError
from glmtui.protocol.messages import Attachment, Image, Part, Text, text_of
from glmtui.protocol.phrases import Phrase, _
from glmtui.text.encodings import read_text

if TYPE_CHECKING:
    from glmtui.chat.attachments import Attachments


LONGEST_NAME = 1024
"""Characters behind an ``@`` in which the name of a file is looked for."""
_MENTIONED = re.compile(r"""(?<![A-Za-z0-9_.@])@(?:"([^"\n]+)"|'([^'\n]+)'|([^\s@"']+))""")

_END = re.compile(r"(?<=[\x00-\x7f])(?![A-Za-z0-9_/-]|\.\w)|(?<=[^\x00-\x7f])(?![\w/-]|\.\w)")
"""Where a name may end, as in `mention_of`."""


@dataclass(frozen=True)
class AttachedFile:
    """A file whose name stands in the message behind an ``@``."""

    name: str
    """As it was named there."""
    origin: str
    """Its absolute path."""
    text: str


def is_file(path: str) -> bool:
    """Whether there is a file at `path`, as typed."""
    try:
        return paths.typed(path).is_file()
    except (OSError, ValueError, UserError):
        return False


def take(path: str, limit: int) -> tuple[Phrase, AttachedFile]:
    """Return a label for the file at `path` (its name and size in tokens), and the file.

    Args:
        path: as typed or offered.
        limit: tokens that the model takes; 0 if that is not known.

    Raises:
        UserError: it cannot be read, is no text, or is too big.
    """
    file = paths.typed(path)
    text = read_text(file)
    tokens = estimate(text)
    if limit and tokens > limit:
        raise BadValueError(
            _("{path} has about {tokens} tokens; the model takes {limit} at once.").format(
                path=path, tokens=f"{tokens:,}", limit=f"{limit:,}"
            )
        )
    label = _("{name}, about {tokens} tokens").format(name=file.name, tokens=f"{tokens:,}")
    return label, AttachedFile(path, str(file.absolute()), text)


def estimate(text: str) -> int:
    """Return about how many tokens `text` has, without a tokenizer, by its hanzi and letters."""
    hanzi = len(re.findall(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]", text))
    return round(hanzi * 0.65 + (len(text) - hanzi) * 0.3)


def files_named_in(text: str) -> tuple[str, list[str]]:
    """Return a line in which names behind an ``@`` have no quotes, and those of them that are files.

    Where no list of files is at hand, a person writes ``@"my notes.txt"`` for what has blanks; what follows a
    name, such as a comma or hanzi, is no part of it.
    """
    names: list[str] = []

    def found(match: re.Match[str]) -> str:
        quoted, run = match[1] or match[2], (match[3] or "")[:LONGEST_NAME]
        tried = [quoted] if quoted else [run[: end.start()] for end in _END.finditer(run)]
        name = next(filter(is_file, reversed(tried)), "")
        if not name:
            return match[0]
        names.append(name)
        return f"@{quoted}" if quoted else match[0]

    written = _MENTIONED.sub(found, text)
    return written, list(dict.fromkeys(names))


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
    fence, text = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`{3,}", text)), 0), text.strip("\n")
    return f"{name}:\n{fence}\n{text}\n{fence}"

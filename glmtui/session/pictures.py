"""Pictures that go with what a person sends: how they name them, and where they are read from."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shlex
from collections.abc import Callable, Container, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from glmtui import images, paths
from glmtui.connections import without_login
from glmtui.errors import UserError
from glmtui.protocol.messages import Image, Part, Text, text_of
from glmtui.protocol.phrases import Option, Phrase, Sayable, _, listing
from glmtui.session.attached_file import mention_of
from glmtui.text.clean import one_line

if TYPE_CHECKING:
    from glmtui.chat.tree import Message

MOST_DROPPED = 20
"""Pictures that are taken at once."""
LONGEST_DROP = 1 << 14
"""Characters of a paste in which paths are looked for."""
_ADDRESS = re.compile(r"https?://\S+", re.IGNORECASE)
_SUFFIX = "|".join(re.escape(suffix) for suffix in images.SUFFIXES)
_TYPED = re.compile(
    rf"""(?<![A-Za-z0-9_.@])@(?: "([^"\n]+)" | '([^'\n]+)' | ((?:\\.|[^\s@"'])+?(?:{_SUFFIX}))"""
    r"(?![A-Za-z0-9_/-]|\.\w) )",
    re.IGNORECASE | re.VERBOSE,
)
_CLIPBOARD = ("x-special/nautilus-clipboard", "copy", "cut")
"""What file managers write before the addresses of what was copied."""


class NamedPictures:
    """The pictures that the message being written names, while they are read."""

    def __init__(self) -> None:
        self._reading: dict[str, asyncio.Future[object]] = {}

    def begin(
        self, name: str, read: Coroutine[Any, Any, object], failed: Callable[[BaseException], None]
    ) -> None:
        """Read the picture `name`; what goes wrong is told at once, and raised by `wait`."""

        def ended(task: asyncio.Future[object]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                failed(error)

        task = asyncio.ensure_future(read)
        task.add_done_callback(ended)
        self._reading[name] = task

    @property
    def names(self) -> Container[str]:
        """Those that are taken."""
        return self._reading.keys()

    async def wait(self, text: str) -> None:
        """Wait for what `text` names. Raises what went wrong with one of them."""
        for name, task in tuple(self._reading.items()):
            if mention_of(name).search(text):
                await task

    def forget(self) -> None:
        """Begin another message: what is not read yet belongs to none."""
        for task in self._reading.values():
            task.cancel()
        self._reading.clear()


def is_address(source: str) -> bool:
    """Whether a picture is named by an address of the web."""
    return _ADDRESS.fullmatch(source.strip()) is not None


def is_picture(path: str | Path) -> bool:
    """Whether there is a file at `path`, as typed, that is called like a picture."""
    try:
        found = paths.typed(path)
        return found.suffix.lower() in images.SUFFIXES and found.is_file()
    except (OSError, ValueError, UserError):
        return False


def typed(text: str) -> list[str]:
    """Return the paths of pictures that `text` names behind an ``@``, as they stand there."""
    named = ("".join(filter(None, match.groups())) for match in _TYPED.finditer(text))
    return list(dict.fromkeys(name for name in named if is_picture(name)))


def dropped(text: str) -> list[Path]:
    """Return the pictures whose paths are all that `text` has: pasted, or dropped into the terminal.

    Terminals write them quoted, with backslashes, or as ``file://`` addresses, several in one line or each in
    its own. An empty list where there is anything else, or one is not there.
    """
    if not text.strip() or len(text) > LONGEST_DROP:
        return []
    lines = [line for line in text.splitlines() if line.strip() and line.strip() not in _CLIPBOARD]
    for words in (lines, _words(" ".join(lines))):
        if words and len(words) <= MOST_DROPPED and all(map(is_picture, words)):
            return [paths.typed(word) for word in words]
    return []


def _words(line: str) -> Sequence[str]:
    try:
        return shlex.split(line, posix=os.sep == "/")
    except ValueError:  # a quote without its end
        return ()


def free_name(wanted: str, *taken: Container[str]) -> str:
    """Return `wanted`, or with a number where another picture of the message has it."""
    name, number = wanted, 2
    while any(name in each for each in taken):
        stem, suffix = os.path.splitext(wanted)
        name, number = f"{stem}-{number}{suffix}", number + 1
    return name


def name_of(source: str) -> str:
    """Return what a picture is called in a message: the last part of its path or address."""
    if is_address(source):
        address = urlsplit(without_login(source.strip()))
        return one_line(unquote(address.path).rpartition("/")[2]) or address.netloc
    return one_line(paths.typed(source).name)


async def read(source: str) -> tuple[bytes, str]:
    """Return the file of the picture at a path or an address, and its media type.

    Raises:
        UserError: it cannot be had, or is no picture that can be used.
    """
    if is_address(source):
        from glmtui.retrieval.web.fetch import fetch_picture

        data = await fetch_picture(source.strip())
    else:
        data = await asyncio.to_thread(images.read_picture, paths.typed(source))
    return data, await asyncio.to_thread(images.check, data, name_of(source))


# --- in a message ---


def names_in(parts: Iterable[Part]) -> list[str]:
    """Return what the pictures among `parts` are called."""
    return [part.name for part in parts if isinstance(part, Image)]


def named_in(text: str, messages: Iterable[Message]) -> list[Image]:
    """Return the pictures of `messages` that `text` names, of one name the last."""
    found = {part.name: part for message in messages for part in message.parts if isinstance(part, Image)}
    return [part for name, part in found.items() if mention_of(name).search(text)]


def is_same(path: Path, kept: Iterable[Part]) -> bool:
    """Whether the file at `path` is among `kept` as it is."""
    try:
        sha256 = hashlib.sha256(images.read_picture(path)).hexdigest()
    except UserError:
        return False
    return any(isinstance(part, Image) and part.sha256 == sha256 for part in kept)


def with_picture(kept: Sequence[Part], image: Image, *, named: bool) -> tuple[Part, ...]:
    """Return what belongs to a message besides its text, with one more picture.

    Where it is `named` in the text, it goes when the person takes its name out.
    """
    text = text_of(kept)
    if named and not mention_of(image.name).search(text):
        text = f"{text} @{image.name}"
    others = (
        part
        for part in kept
        if not isinstance(part, Text) and not (isinstance(part, Image) and part.name == image.name)
    )
    return (Text(text), *others, image)


def without_mentions(text: str, names: Iterable[str]) -> str:
    """Return `text` without the names of pictures at its ends, where they are no words of a sentence."""
    before = None
    names = list(names)
    text = text.strip()
    while text != before:
        before = text
        for name in names:
            if match := mention_of(name).match(text):
                text = text[match.end() :].strip()
            elif (tail := mention_of(name).search(text, max(len(text) - len(name) - 1, 0))) and (
                tail.end() == len(text)
            ):
                text = text[: tail.start()].strip()
    return text


def cannot_see(name: str) -> Phrase:
    """Say that a model does not look at pictures."""
    said = _("{name} does not see pictures. Choose a model that does: {option}")
    return said.format(name=name, option=Option("model", _("NAME")))


def goes_along(names: Sequence[str]) -> Sayable:
    """Say which pictures go with the next message."""
    return _("With your next message goes: {names}").format(names=listing(names))

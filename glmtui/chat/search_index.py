"""The cached index of the conversations' folder: a summary and the searchable text of each file.

Never the truth: an entry counts only while the file has the size and time it was made from and the checksums
are right, and all of it may be deleted. A generation is a folder with two append-only files:

``entries.jsonl``
    One line per file and version of it, the last one holds: the line's own checksum, then as JSON name,
    signature, summary, place in the text and its checksum.
``text.bin``
    The text of all conversations as `fold` makes it, UTF-8, message after message, each behind its id.

Search is a plain scan of the text through a memory map. It finds any substring in any script, which word
or trigram indexes do not (most Chinese words have two characters), and runs at gigabytes per second.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import shutil
import sys
import time
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from glmtui.chat.files import parse
from glmtui.chat.titles import make_title, title_of_name
from glmtui.chat.tree import EARLIEST, LATEST, Tree
from glmtui.locking import locked
from glmtui.paths import make_private
from glmtui.regular_files import open_regular, read_regular

FORMAT = 2
"""Begins the generations' names: another layout or another way to make entries does not find the old ones."""
_LARGEST = 1 << 30
"""Bytes of the entries; some hundred for each conversation."""
_BEFORE_ID, _BEFORE_TEXT = b"\x01", b"\x02"
_GARBAGE = 32 << 20
"""Bytes of outdated text that are tolerated before the index is written anew."""


class Entry(NamedTuple):
    """What is known of one conversation file."""

    name: str
    mtime: int
    """In nanoseconds, as `os.stat` gives it."""
    size: int
    id: str
    title: str
    updated: float
    """Seconds since 1970 of the last message, 0 when there is none."""
    messages: int
    model: str
    pinned: bool
    offset: int = 0
    length: int = 0
    """Bytes of text at `offset`."""
    checksum: int = 0
    """CRC-32 of that text."""
    text: bytes | None = None
    """The text itself while it is not on disk yet."""


_TYPES = (str, int, int, str, str, float, int, str, bool, int, int, int, type(None))
_TIMES = EARLIEST.timestamp(), LATEST.timestamp()
_WIDE = {**{chr(ord(mark) + 0xFEE0): mark for mark in ",!?:;()~"}, "\u3000": " ", "…": "..."}
"""What Chinese text is full of and NFKC changes: one by one, that takes a tenth of the time."""


def make_entry(name: str, mtime: int, size: int, data: bytes) -> Entry:
    """Read one conversation file's `data` into an entry."""
    tree = Tree(parse(data).records)
    model = ""
    updated = 0.0
    shown = 0
    title = tree.given_title or make_title(tree) or (title_of_name(name) if tree.messages else "")
    text = [_BEFORE_ID, _BEFORE_TEXT, fold(tree.given_title or "")]
    for message in tree.messages.values():
        if not tree.visible(message.id):
            continue
        shown += 1
        updated = max(updated, message.time.timestamp())
        name_of_model = message.meta.get("model")
        if isinstance(name_of_model, str):
            model = name_of_model
        text += (_BEFORE_ID, message.id.encode("unicode_escape"), _BEFORE_TEXT, fold(message.searchable))
    joined = b"".join(text)
    return Entry(
        name=name,
        mtime=mtime,
        size=size,
        id=tree.id or "",
        title=title,
        updated=updated,
        messages=shown,
        model=model,
        pinned=tree.pinned,
        length=len(joined),
        checksum=zlib.crc32(joined),
        text=joined,
    )


def fold(text: str) -> bytes:
    """Return `text` as it is compared in a search: small letters, half width, é as one character."""
    if not text.isascii():
        for wide, narrow in _WIDE.items():
            if wide in text:
                text = text.replace(wide, narrow)
        text = unicodedata.normalize("NFKC", text)
    return text.lower().replace("\1", " ").replace("\2", " ").encode("utf-8", "replace")


class Index:
    """The entries of one conversations' folder by file name, in memory, and their copy in the cache.

    The cache failing (read-only, full, corrupt) is no error: the entries then live in memory only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        """Where the generations lie."""
        self._generation: Path | None = None
        self.entries: dict[str, Entry] = {}
        self._text: mmap.mmap | bytes = b""
        self._garbage = 0
        self._unsaved: set[str] = set()
        self._unchecked: set[str] = set()
        """Entries whose text on disk was not compared with its checksum yet."""
        self._load()

    @property
    def unsaved_bytes(self) -> int:
        """How much text is not in the cache yet."""
        return sum(self.entries[name].length for name in self._unsaved)

    def put(self, entry: Entry) -> None:
        """Take in a new version of an entry, with its text."""
        self.remove(entry.name)
        self.entries[entry.name] = entry
        self._unsaved.add(entry.name)

    def remove(self, name: str) -> None:
        """Forget a file that changed or is gone; its text stays unused until the next generation."""
        entry = self.entries.pop(name, None)
        if entry is not None and entry.text is None:
            self._garbage += entry.length
        self._unsaved.discard(name)
        self._unchecked.discard(name)

    def check(self, deadline: float = math.inf) -> bool:
        """Forget the entries whose text is not what was written, until it is `deadline` (`time.monotonic`).

        Returns:
            Whether all have been looked at; it takes a second for some gigabytes, once.
        """
        with memoryview(self._text) as text:
            while self._unchecked and time.monotonic() < deadline:
                entry = self.entries[self._unchecked.pop()]
                if zlib.crc32(text[entry.offset : entry.offset + entry.length]) != entry.checksum:
                    self.remove(entry.name)
        return not self._unchecked

    def find(self, entry: Entry, words: Sequence[bytes]) -> list[str]:
        """Return the ids of the messages in which all folded `words` occur, longest first; "" is the title.

        If they occur only spread over several messages, the first that has the longest word.
        """
        text: mmap.mmap | bytes = self._text if entry.text is None else entry.text
        start = entry.offset if entry.text is None else 0
        end = start + entry.length
        at = text.find(words[0], start, end)
        if at < 0 or any(text.find(word, start, end) < 0 for word in words[1:]):
            return []
        found: list[str] = []
        first: list[str] = []
        while at >= 0:
            begin = text.rfind(_BEFORE_ID, start, at)
            text_begin = text.find(_BEFORE_TEXT, begin, end)
            if at < text_begin:  # an id that looks like the word
                at = text.find(words[0], text_begin, end)
                continue
            after = text.find(_BEFORE_ID, at, end)
            after = end if after < 0 else after
            message_id = bytes(text[begin + 1 : text_begin]).decode("unicode_escape")
            if all(text.find(word, text_begin, after) >= 0 for word in words[1:]):
                found.append(message_id)
            elif not first:
                first.append(message_id)
            at = text.find(words[0], after, end)
        return found or first

    def save(self) -> None:
        """Write what is not in the cache yet; start a new generation when much of this one is outdated."""
        try:
            if self._generation is None or self._garbage > max(_GARBAGE, len(self._text) // 2):
                self._new_generation()
            elif self._unsaved:
                try:
                    self._append([self.entries[name] for name in self._unsaved])
                except FileNotFoundError:  # another process began a new generation
                    self._new_generation()
        except OSError:
            return  # no place in the cache: search works from memory, the next start indexes again

    def _load(self) -> None:
        generations = _generations(self._folder)
        for generation in reversed(generations):
            try:
                lines = read_regular(generation / "entries.jsonl", _LARGEST).split(b"\n")
                text = _map(generation / "text.bin")
            except OSError:
                continue
            self._generation, self._text = generation, text
            for line in lines:
                entry = _parse_entry(line)
                if entry is not None and entry.offset + entry.length <= len(text):
                    if entry.name in self.entries:
                        self.remove(entry.name)
                    self.entries[entry.name] = entry
            self._unchecked = set(self.entries)
            break
        for outdated in [*generations[:-1], *_of_older_formats(self._folder)]:
            shutil.rmtree(outdated, ignore_errors=True)

    def _append(self, entries: Sequence[Entry]) -> None:
        """Write the texts of `entries` and then the entries, and let go of the texts in memory."""
        assert self._generation is not None
        path = self._generation / "text.bin"
        with path.open("rb+") as text, locked(text.fileno()):
            end = text.seek(0, os.SEEK_END)
            written = []
            for entry in entries:
                text.write(self._text_of(entry))
                written.append(entry._replace(offset=end, text=None))
                end += entry.length
            text.flush()
            with (self._generation / "entries.jsonl").open("ab") as file:
                file.write(b"".join(_encode_entry(entry) for entry in written))
        self._text = _map(path)
        for entry in written:
            self.entries[entry.name] = entry
            self._unsaved.discard(entry.name)

    def _new_generation(self) -> None:
        old = _generations(self._folder)
        number = int(old[-1].name.partition("-")[2]) + 1 if old else 1
        generation = make_private(self._folder / f"{FORMAT}-{number}")
        (generation / "text.bin").touch()
        self._generation = generation
        self._append(list(self.entries.values()))
        self._garbage = 0
        for outdated in old:
            shutil.rmtree(outdated, ignore_errors=True)

    def _text_of(self, entry: Entry) -> bytes:
        if entry.text is not None:
            return entry.text
        return bytes(self._text[entry.offset : entry.offset + entry.length])


def _generations(folder: Path) -> list[Path]:
    """Return the generations of this format, oldest first."""
    found = [path for path in folder.glob(f"{FORMAT}-*") if path.name.partition("-")[2].isdecimal()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def _map(path: Path) -> mmap.mmap | bytes:
    with open_regular(path, sys.maxsize) as file:
        if file.seek(0, os.SEEK_END) == 0:
            return b""  # an empty file cannot be mapped
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _of_older_formats(folder: Path) -> list[Path]:
    return [path for format_ in range(1, FORMAT) for path in folder.glob(f"{format_}-*")]


def _encode_entry(entry: Entry) -> bytes:
    line = json.dumps(entry[:-1]).encode()  # ASCII: names of files need not be UTF-8
    return b"%08x %b\n" % (zlib.crc32(line), line)


def _parse_entry(line: bytes) -> Entry | None:
    """Read an entry; None where it is torn or damaged, so that its file is read again."""
    checksum, _space, values = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(values):
        return None
    try:
        entry = Entry(*json.loads(values.decode()))
    except (ValueError, TypeError):
        return None
    fits = entry.offset >= 0 and entry.length >= 0 if tuple(map(type, entry)) == _TYPES else False
    return entry if fits and _TIMES[0] <= entry.updated <= _TIMES[1] else None

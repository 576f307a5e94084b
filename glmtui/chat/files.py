"""The conversation file: JSON Lines that only ever grow.

Each line is one JSON object, a *record*; what records mean is told in `glmtui.chat.tree`. A person can read,
copy and edit the file with anything, another glmtui may append to it at the same time, and the power may go
at any byte. So:

* A record is written with one append under an advisory lock and synced to the disk before `append` returns.
* An append first ends a line that was left without its newline, so a torn record spoils nothing but itself.
* Reading takes every line that is a JSON object and reports the others by number; it never gives up, and it
  never changes the file.
* Lines end at ``\\n`` only: what else Unicode calls a line break (U+2028 and its kin) belongs to the text.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from glmtui import paths
from glmtui.atomic import sync_directory
from glmtui.errors import BadFileError, NotFoundError, StorageError, UserError
from glmtui.locking import locked
from glmtui.protocol.phrases import _
from glmtui.regular_files import open_regular, reason
from glmtui.text.json_values import loads
from glmtui.text.quoting import reason_of

Record = dict[str, Any]
_BOM = b"\xef\xbb\xbf"
_HEADER = b'{"type": "conversation"'
"""How a file of ours begins."""
SUFFIX = ".jsonl"
LARGEST = 1 << 30
"""Bytes of a conversation file that is read."""
TRASH = "trash"
"""Folder inside the conversations' folder that deleted files move to."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a conversation file holds."""

    records: tuple[Record, ...]
    damaged: tuple[int, ...] = ()
    """Numbers of the lines (from 1) that are no JSON object: torn by a crash, or edited by mistake."""


def parse(data: bytes) -> Contents:
    """Read records from the bytes of a file; nothing in them makes it fail."""
    records: list[Record] = []
    damaged: list[int] = []
    for number, line in enumerate(data.removeprefix(_BOM).split(b"\n"), 1):
        line = line.strip(b" \t\r\0")  # a power loss can leave a run of NULs where data was to be
        if not line:
            continue
        try:
            record = loads(line.decode("utf-8", "replace"))
        except ValueError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            damaged.append(number)
    return Contents(tuple(records), tuple(damaged))


def encode(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the lines of `records`, as readable as JSON can be. Lone surrogates become ``?``."""
    return b"".join(
        json.dumps(record, ensure_ascii=False, separators=(", ", ": ")).encode("utf-8", "replace") + b"\n"
        for record in records
    )


class ConversationFile:
    """One file on disk, which may not exist yet.

    Either at a given `path`, or somewhere in `folder`: the name is then chosen when the first records are
    written. Keeps no file open, so the file may be moved or deleted at any time: what is then appended
    follows it to the trash, or makes `append` raise `FileNotFoundError` so that its owner writes all anew.
    """

    def __init__(self, path: Path | None = None, *, folder: Path | None = None) -> None:
        if (path is None) == (folder is None):
            raise TypeError("give either path or folder")
        self.path = path
        self._folder = folder
        self._seen: tuple[int, int, int] | None = None
        """Inode, size and time of change when this object last read or wrote the file."""

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        folder = self.path.parent if self.path is not None else self._folder
        assert folder is not None
        return folder

    def read(self) -> Contents:
        """Read all records.

        Raises:
            UserError: the file is missing, cannot be read, or is something else than a conversation, to
                which nothing must be appended.
        """
        path = self._current_path()
        if path is None:
            raise NotFoundError(_("There is no conversation file {path}.").format(path=self.path))
        try:
            with open_regular(path, LARGEST) as file:
                status = os.fstat(file.fileno())  # before reading: what comes in between is noticed later
                data = file.read()
        except OSError as error:
            raise BadFileError(
                _("The conversation {path} cannot be read: {error}.").format(path=path, error=reason(error))
            ) from error
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise BadFileError(
                _("{path} is UTF-16 text. Save it as UTF-8 in your editor and open it again.").format(
                    path=path
                )
            )
        contents = parse(data)
        if not _is_conversation(data, contents):
            raise BadFileError(
                _("{path} is not a conversation of glmtui. /import reads files of other programs.").format(
                    path=path
                )
            )
        self._seen = _signature(status)
        return contents

    def create(self, records: Sequence[Record], *, created: datetime, title: str) -> bool:
        """Write a new file with `records`; in a folder its name is made from `created` and `title`.

        Returns:
            Whether there was something in a file at the given path already; it stays, before the records.

        Raises:
            UserError: nothing, or not all, could be written; the message names the place.
        """
        data = encode(records)
        try:
            if self.path is not None:
                paths.make_private(self.path.parent)
                descriptor = os.open(self.path, _CREATE, 0o600)
            else:
                assert self._folder is not None
                paths.make_private(self._folder)
                self.path, descriptor = _create_unique(self._folder, file_stem(created, title))
            changed = self._write(descriptor, data)
            sync_directory(self.path.parent)
        except OSError as error:
            raise self._not_written(error) from error
        return changed

    def append(self, records: Sequence[Record]) -> bool:
        """Append `records`; return whether somebody else changed the file since it was last read or written.

        Raises:
            UserError: they are not (all) on disk. Appending them again later does no harm.
            FileNotFoundError: the file is gone, also from the trash.
        """
        path = self._current_path()
        if path is None:
            raise FileNotFoundError(self.path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | _BINARY)
            return self._write(descriptor, encode(records))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._not_written(error) from error

    def exists(self) -> bool:
        """Whether the file is there, in its place or in the trash."""
        return self._current_path() is not None

    def changed(self) -> bool:
        """Whether the file is no longer what this object last read or wrote."""
        path = self._current_path()
        if path is None or self._seen is None:
            return self._seen is not None
        try:
            return _signature(path.stat()) != self._seen
        except OSError:
            return True

    def _write(self, descriptor: int, data: bytes) -> bool:
        try:
            with locked(descriptor):
                before = os.fstat(descriptor)
                changed = _signature(before) != self._seen if self._seen else before.st_size > 0
                if before.st_size:
                    os.lseek(descriptor, -1, os.SEEK_END)
                    data = data if os.read(descriptor, 1) == b"\n" else b"\n" + data
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
                self._seen = _signature(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        return changed

    def _current_path(self) -> Path | None:
        if self.path is None:
            return None
        trashed = self.path.parent / TRASH / self.path.name
        # unlike `Path.exists`, this does not raise where nothing may be looked at or the name is too long
        return next((path for path in (self.path, trashed) if os.path.exists(path)), None)

    def _not_written(self, error: OSError) -> UserError:
        return StorageError(
            _(
                "The conversation could not be saved in {path}: {error}. It is kept in memory and saved with "
                "the next message; make room or allow writing there, or export it elsewhere before you quit."
            ).format(path=self.path or self._folder, error=reason_of(error))
        )


_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate newlines
_CREATE = os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY


def _is_conversation(data: bytes, contents: Contents) -> bool:
    """Whether a file is one of ours: it holds a record, nothing yet, or the torn beginning of the first."""
    if any(isinstance(record.get("type"), str) or "role" in record for record in contents.records):
        return True
    rest = data.removeprefix(_BOM).strip(b" \t\r\n\0")
    return rest.startswith(_HEADER) or _HEADER.startswith(rest)


def _signature(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _create_unique(folder: Path, stem: str) -> tuple[Path, int]:
    number = 1
    while True:
        path = folder / (stem + (f"-{number}" if number > 1 else "") + SUFFIX)
        try:
            return path, os.open(path, _CREATE | os.O_EXCL, 0o600)
        except FileExistsError:
            number += 1


def file_stem(created: datetime, title: str) -> str:
    """Return a name that sorts by date, tells what it is about and is allowed on every platform."""
    return f"{created:%Y-%m-%d-%H%M%S} {slug(title)}".rstrip()


def slug(title: str, *, limit: int = 80) -> str:
    """Return the letters and digits of `title` (of any script), hyphens between, in `limit` bytes."""
    normal = unicodedata.normalize("NFC", title)
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in normal)
    return "-".join(kept.split()).encode()[:limit].decode("utf-8", "ignore").rstrip("-")

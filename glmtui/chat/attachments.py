"""The contents that messages refer to: files and images, stored once each under the SHA-256 of their bytes.

A folder ``attachments`` lies next to the conversation files, so that both can be copied together. A blob is
there, complete and synced, before a record names it. Several conversations may name the same one; what none
needs any more is removed by `Attachments.collect`, but not before it is a day old: a record that names it may
be about to be written, by this program or by another.
"""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from glmtui import paths
from glmtui.atomic import write_atomically
from glmtui.chat.files import LARGEST, TRASH
from glmtui.chat.parts import is_digest
from glmtui.errors import BadFileError, BadValueError, NotFoundError, StorageError, UserError
from glmtui.locking import locked
from glmtui.protocol.messages import Attachment, Image
from glmtui.protocol.phrases import _
from glmtui.regular_files import read_regular, reason
from glmtui.text.quoting import reason_of

FOLDER = "attachments"
LOCK = ".lock"
KEPT = 86_400.0
"""Seconds that a blob stays, though nothing names it."""
_DIGESTS = re.compile(rb"[0-9a-f]{64}")
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)


class Attachments:
    """The blobs in one folder, or (None) in memory, for a conversation that has no file.

    What is not in memory is read from `behind`, where nothing is written.
    """

    def __init__(self, folder: Path | None, behind: Attachments | None = None) -> None:
        self.folder = folder
        self._behind = behind
        self._memory: dict[str, bytes] = {}

    @classmethod
    def next_to(cls, path: Path) -> Attachments:
        """Return the blobs of the conversation file `path`, which may lie in the trash."""
        folder = path.absolute().parent
        return cls((folder.parent if folder.name == TRASH else folder) / FOLDER)

    def put(self, data: bytes) -> str:
        """Store `data`, durably, and return its SHA-256 in hex.

        Raises:
            UserError: it could not be written.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        if self.folder is None:
            self._memory[sha256] = data
            return sha256
        path = self.path(sha256)
        try:
            paths.make_private(self.folder)
            with self._locked():
                if _digest(path) == sha256:
                    os.utime(path)  # young again: `collect` lets it be
                else:
                    write_atomically(path, data)
        except OSError as error:
            raise StorageError(
                _(
                    "The attachment could not be saved in {path}: {error}. Make room or allow writing there."
                ).format(path=self.folder, error=reason_of(error))
            ) from error
        return sha256

    def get(self, sha256: str) -> bytes:
        """Return the bytes of a blob.

        Raises:
            NotFoundError: it is not there.
            BadFileError: it cannot be read, or its bytes are others than they were.
        """
        if self.folder is None or not sha256:
            if sha256 in self._memory:
                return self._memory[sha256]
            if self._behind is not None:
                return self._behind.get(sha256)
            raise NotFoundError(_("The attachment {name} is missing.").format(name=sha256))
        path = self.path(sha256)
        try:
            data = read_regular(path, LARGEST)
        except FileNotFoundError as error:
            raise NotFoundError(_("The attachment {name} is missing.").format(name=path)) from error
        except OSError as error:
            raise BadFileError(
                _("The attachment {name} cannot be read: {error}.").format(name=path, error=reason(error))
            ) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BadFileError(_("The attachment {name} is damaged.").format(name=path))
        return data

    def find(self, sha256: str) -> bytes | None:
        """Return the bytes of a blob, or None where `get` would raise."""
        try:
            return self.get(sha256)
        except UserError:
            return None

    def path(self, sha256: str) -> Path:
        """Return where a blob is, or would be.

        Raises:
            BadValueError: `sha256` is no digest.
        """
        if not is_digest(sha256) or self.folder is None:
            raise BadValueError(_("{value} is not the digest of an attachment.").format(value=sha256))
        return self.folder / sha256

    # --- parts ---

    def attach(self, name: str, text: str, origin: str = "") -> Attachment:
        """Store the content of a text file and return the part that refers to it."""
        data = text.encode("utf-8", "replace")
        return Attachment(name, self.put(data), len(data), origin)

    def text(self, attachment: Attachment) -> str:
        """Return the content of a text file; raises as `get` does."""
        if not attachment.sha256:
            raise NotFoundError(_("The attachment {name} is missing.").format(name=attachment.name))
        return self.get(attachment.sha256).decode("utf-8", "replace")

    def image(self, data: bytes, media_type: str = "", name: str = "") -> Image:
        """Store a picture and return the part that refers to it; its type is looked up in the bytes."""
        found = _media_type(data) or media_type or mimetypes.guess_type(name)[0]
        return Image(self.put(data), found or "application/octet-stream", name)

    def copy(self, digests: Iterable[str], source: Attachments) -> None:
        """Store the blobs `digests` of `source` here too; those that are missing or damaged there are not."""
        if self.folder is None or self.folder != source.folder:
            for sha256 in digests:
                if (data := source.find(sha256)) is not None:
                    self.put(data)

    # --- removing ---

    def collect(self, files: Callable[[], Iterable[Path]], *, older_than: float = KEPT) -> int:
        """Remove the blobs that none of `files` names; return how many.

        Args:
            files: The conversation files that may name them; asked twice, as they move while they are read.
            older_than: Seconds; younger blobs stay.
        """
        limit = time.time() - older_than
        unneeded = set(self._older(limit))
        seen: set[tuple[Path, int, int]] = set()
        try:
            if unneeded:
                _strike_out(unneeded, files(), seen)
            if not unneeded:
                return 0
            with self._locked():  # nothing is put now
                _strike_out(unneeded, files(), seen)
                unneeded &= set(self._older(limit))
                for sha256 in unneeded:
                    self.path(sha256).unlink(missing_ok=True)
        except OSError:  # a file that cannot be read may name any of them
            return 0
        return len(unneeded)

    def _older(self, limit: float) -> Iterator[str]:
        if self.folder is not None:
            with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
                for entry in entries:
                    if is_digest(entry.name) and entry.stat().st_mtime <= limit:
                        yield entry.name

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        assert self.folder is not None
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with locked(descriptor):
                yield
        finally:
            os.close(descriptor)


def _strike_out(digests: set[str], files: Iterable[Path], seen: set[tuple[Path, int, int]]) -> None:
    """Take those from `digests` that one of `files` names, in whatever kind of record."""
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # moved: it is found where it went
            status = path.stat()
            key = (path, status.st_size, status.st_mtime_ns)
            if key not in seen:
                seen.add(key)
                digests -= {match.decode() for match in _DIGESTS.findall(read_regular(path, LARGEST))}


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file, empty where there is none."""
    try:
        return hashlib.sha256(read_regular(path, LARGEST)).hexdigest()
    except FileNotFoundError:
        return ""


def _media_type(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), "")

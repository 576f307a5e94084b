"""Brings an index up to what is on the disk: only what changed is read again, what is gone vanishes."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from glmtui import paths
from glmtui.errors import BadFileError, NotFoundError, UserError
from glmtui.protocol.cancellation import CancelToken
from glmtui.protocol.phrases import Phrase, _
from glmtui.regular_files import open_regular
from glmtui.retrieval import readers
from glmtui.retrieval.collections import ADDRESS, Collection
from glmtui.retrieval.documents import LARGEST, Block, Reading
from glmtui.retrieval.index import DamagedIndexError, FileRecord, Index, throw_away
from glmtui.retrieval.passages import cut
from glmtui.retrieval.reading_child import describe
from glmtui.retrieval.reading_process import ReadingProcess
from glmtui.retrieval.vectors import Load

MOST_FILES = 100_000
LARGEST_UNKNOWN = 2 << 20
"""Of a file of which only its content can say whether it is text."""
SHORT = 256 << 10
"""Bytes of a plain text that is read in this process."""
_PIECE = 1 << 20

Progress: TypeAlias = Callable[[int, int, str], None]
"""Told how many documents of how many were looked at, and which is next."""
Fetch: TypeAlias = Callable[[str], "Fetched"]
"""Fetches an address; raises `UserError`."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What stands at an address."""

    data: bytes
    name: str
    """With the suffix that fits its type."""
    notes: tuple[Phrase, ...] = ()
    """What a person should know of it."""


@dataclass(slots=True)
class Outcome:
    """What an update did."""

    read: int = 0
    unchanged: int = 0
    removed: int = 0
    errors: list[tuple[str, Phrase]] = field(default_factory=list)
    """Documents that could not be read, and why."""
    notes: list[tuple[str, Phrase]] = field(default_factory=list)
    """Documents of which a person should know something."""


def update(
    collection: Collection,
    progress: Progress = lambda _done, _total, _name: None,
    token: CancelToken | None = None,
    fetch: Fetch | None = None,
    *,
    retry: bool = True,
    embedding: Load | None = None,
) -> Outcome:
    """Read what is new or changed in a collection.

    Args:
        collection: what to bring up to date.
        progress: told before each document.
        token: ends it, also within a document; those that were read until then stay.
        fetch: reads addresses that are new. Without it, and those that are known, they stay as they are.
        retry: whether to try again what could not be read and has not changed: a package may be there now.
        embedding: returns the model that makes vectors of the passages, if any does.

    Raises:
        OperationCancelled: it was given up.
        NotFoundError: the collection was removed meanwhile.
        UserError: the index cannot be used.
    """
    token = token or CancelToken()

    def updated() -> Outcome:
        return _updated(collection, progress, token, fetch, retry=retry, embedding=embedding)

    try:
        return updated()
    except DamagedIndexError:
        throw_away(collection.index_path)
        return updated()


def _updated(
    collection: Collection,
    progress: Progress,
    token: CancelToken,
    fetch: Fetch | None,
    *,
    retry: bool,
    embedding: Load | None,
) -> Outcome:
    outcome = Outcome()
    named = frozenset(collection.roots)
    with collection.index() as index, ReadingProcess(token) as process:
        missing = [
            root for root in collection.roots if not ADDRESS.fullmatch(root) and not os.path.lexists(root)
        ]
        outcome.errors += (
            (root, _("There is no file or folder {path}.").format(path=root)) for root in missing
        )
        origins = list(_origins(collection.roots, token))
        for number, origin in enumerate(origins):
            token.check()
            if collection.is_gone:
                break
            if not paths.is_utf8(origin):
                outcome.errors.append(
                    (origin, _("Its name is not UTF-8. It can be read once it is renamed."))
                )
                continue
            progress(number, len(origins), origin)
            known = index.file(origin)  # as it is now: another process may have read it meanwhile
            _Document(
                index, origin, known, outcome, token, fetch, process, retry=retry, named=origin in named
            ).update()
        gone = {record.origin for record in index.files()} - set(
            origins
        )  # but not what stood on a disk that is away
        gone = {origin for origin in gone if not any(_is_below(origin, root) for root in missing)}
        if gone:
            index.remove(gone, token.check)
            outcome.removed += len(gone)
        if embedding is not None:
            try:
                if (model := embedding()) is not None:
                    index.embed(model, token, progress)
            except UserError as error:  # words are found without
                outcome.notes.append((collection.name, error.phrase))
        progress(len(origins), len(origins), "")
    if collection.is_gone:
        throw_away(collection.index_path)
        raise NotFoundError(
            _("The collection {name} was removed while it was read.").format(name=collection.name)
        )
    return outcome


def _origins(roots: Iterable[str], token: CancelToken) -> Iterator[str]:
    """Yield what belongs to a collection, each once, in the order it was added."""
    seen: set[str] = set()
    for root in roots:
        below = [root] if ADDRESS.fullmatch(root) or not os.path.isdir(root) else _below(Path(root))
        for origin in below:
            token.check()
            if origin not in seen and (ADDRESS.fullmatch(origin) or os.path.lexists(origin)):
                seen.add(origin)
                yield origin


def _is_below(origin: str, root: str) -> bool:
    return origin == root or origin.startswith(root.rstrip(os.sep) + os.sep)


def _below(folder: Path) -> Iterator[str]:
    for count, path in enumerate(paths.files_below(folder)):
        if count >= MOST_FILES:
            return
        yield str(path)


class _Document:
    """One document that is looked at."""

    def __init__(
        self,
        index: Index,
        origin: str,
        known: FileRecord | None,
        outcome: Outcome,
        token: CancelToken,
        fetch: Fetch | None,
        process: ReadingProcess,
        *,
        retry: bool,
        named: bool,
    ) -> None:
        self._process = process
        self._retry = retry
        self._named = named
        self._index = index
        self._origin = origin
        self._known = known
        self._outcome = outcome
        self._token = token
        self._fetch = fetch

    def update(self) -> None:
        """Read it if it changed; what goes wrong is kept with it."""
        try:
            if ADDRESS.fullmatch(self._origin):
                self._update_page()
            else:
                self._update_file()
        except DamagedIndexError:
            raise
        except UserError as error:
            self._failed(error.phrase)
        except (
            OSError, LookupError, ValueError, ArithmeticError, AssertionError, RecursionError, EOFError
        ) as error:  # fmt: skip
            self._failed(describe(error).phrase)

    def _update_page(self) -> None:
        if self._fetch is None or (self._known is not None and not (self._known.error and self._retry)):
            self._outcome.unchanged += 1
            return
        fetched = self._fetch(self._origin)
        digest = hashlib.sha256(fetched.data).hexdigest()
        self._read(io.BytesIO(fetched.data), fetched.name, len(fetched.data), 0, digest, fetched.notes)

    def _update_file(self) -> None:
        known, name = self._known, os.path.basename(self._origin)
        try:
            status = os.stat(self._origin)
        except FileNotFoundError:
            if os.path.lexists(self._origin):
                raise
            if known is not None:  # it vanished a moment ago
                self._index.remove([self._origin])
                self._outcome.removed += 1
            return
        if not stat.S_ISREG(status.st_mode):
            return
        same = known is not None and (known.size, known.mtime) == (status.st_size, status.st_mtime_ns)
        if same and not (known is not None and known.error and self._retry):
            self._outcome.unchanged += 1
            return
        if not readers.is_known(name) and status.st_size > LARGEST_UNKNOWN:
            self._pass_over()
            return
        with open_regular(Path(self._origin), LARGEST) as file:
            if not readers.is_known(name) and readers.is_binary(file):
                self._pass_over()
                return
            digest = _digest(file, self._token)
            if known is not None and known.sha256 == digest and not known.error:
                self._index.describe(replace(known, size=status.st_size, mtime=status.st_mtime_ns))
                self._outcome.unchanged += 1
                return
            self._read(file, name, status.st_size, status.st_mtime_ns, digest)

    def _pass_over(self) -> None:
        """Leave out a picture, a program: nobody takes it for a document, unless it was added by name."""
        if self._named:
            raise BadFileError(_("Files of this kind are not read."))

    def _read(
        self, file: BinaryIO, name: str, size: int, mtime: int, digest: str, notes: Sequence[Phrase] = ()
    ) -> None:
        reading = Reading(file, name, notes=list(notes))

        def record(passages: int) -> FileRecord:
            if not passages and not reading.notes and (size or self._named):
                reading.notes.append(_("There is no text in it."))
            return FileRecord(
                self._origin, reading.title or name, size, mtime, digest, reading.pages, passages,
                time.time(), notes=tuple(reading.notes),
            )  # fmt: skip

        try:
            self._index.put(self._origin, cut(self._blocks(reading, size)), record, self._token.check)
        except DamagedIndexError:
            raise
        except BadFileError:
            if readers.is_known(name) or self._named:
                raise
            return
        self._outcome.read += 1
        self._outcome.notes += ((self._origin, note) for note in reading.notes)

    def _blocks(self, reading: Reading, size: int) -> Iterator[Block]:
        if readers.is_plain(reading.name) and size <= SHORT:
            return readers.read(reading)
        return self._process.read(reading, "" if ADDRESS.fullmatch(self._origin) else self._origin)

    def _failed(self, why: Phrase) -> None:
        """Keep why it could not be read in place of what was known of it."""
        self._outcome.errors.append((self._origin, why))
        try:
            status = os.stat(self._origin)
            size, mtime = status.st_size, status.st_mtime_ns
        except OSError:
            size = mtime = 0
        title = os.path.basename(self._origin) or self._origin
        self._index.put(
            self._origin,
            (),
            lambda _count: FileRecord(self._origin, title, size, mtime, "", 0, 0, time.time(), error=why),
            self._token.check,
        )


def _digest(file: BinaryIO, token: CancelToken) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        token.check()
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()

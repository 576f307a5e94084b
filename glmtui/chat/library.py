"""The folder of conversations: list, search, rename, pin, trash."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from glmtui import paths
from glmtui.atomic import remove_abandoned, sync_directory, write_atomically
from glmtui.chat.attachments import FOLDER, KEPT, LOCK, Attachments
from glmtui.chat.conversation import Conversation
from glmtui.chat.excerpts import matching_lines
from glmtui.chat.files import LARGEST, SUFFIX, TRASH, encode
from glmtui.chat.search_index import Entry, Index, fold, make_entry
from glmtui.chat.state_log import DRAFTS, QUEUED
from glmtui.chat.titles import title_of_name
from glmtui.chat.tree import EARLIEST
from glmtui.errors import BadValueError, NotFoundError, StorageError, UserError
from glmtui.protocol.phrases import _
from glmtui.regular_files import read_regular
from glmtui.text.quoting import reason_of

LIST_BUDGET = 0.1
"""Seconds `Library.list` may spend on reading files that changed; the others follow in `Library.refresh`."""
TOLERANCE = 86_400.0
"""Seconds by which a message may be from the future, as clocks and time zones differ."""
SAVE_ABOVE = 8 << 20
"""Bytes of new text that are kept in memory before they are written to the cache."""
SHORT_SCAN = 0.01
"""Seconds a look at the folder may take without being spared."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of the list of conversations."""

    id: str
    folder: Path
    name: str
    """Of the file in `folder`."""
    title: str
    updated: datetime
    """When its last message was begun, in local time."""
    messages: int
    """How many messages it shows, on all branches."""
    model: str = ""
    """Which model answered last."""
    pinned: bool = False

    @property
    def path(self) -> Path:
        """The conversation file."""
        return self.folder / self.name


@dataclass(frozen=True, slots=True)
class Hit:
    """One message in which the words of a search occur."""

    summary: Summary
    message_id: str | None
    """None: the words are in the title."""
    line: str
    """The line with the (longest) word, cut around it."""


Files = dict[str, tuple[int, int]]
"""Names of conversation files, with time of the last change (ns) and bytes."""
Summaries = list[Summary]
Hits = list[Hit]
Names = list[str]


class Library:
    """All conversations in one folder. Safe to use from several threads.

    The folder is the truth and may change at any time; every `list` and `search` looks at it again. What was
    read from the files is kept in an index in the cache directory.
    """

    def __init__(self, folder: Path | None = None, *, cache: Path | None = None) -> None:
        self.folder = folder or paths.data_dir() / "conversations"
        name = hashlib.sha256(os.fsencode(os.path.abspath(self.folder))).hexdigest()[:16]
        self._cache = (cache or paths.cache_dir()) / "conversations" / name
        self._stale: dict[str, os.stat_result] = {}
        """Files that changed since they were indexed, newest name first."""
        self._listed: Summaries | None = None
        """What `list` returns, until something changes."""
        self._scan_again = 0.0
        """Until then `search`, called at every key, may spare itself the look at a large folder."""
        self._lock = threading.RLock()

    # --- looking ---

    def list(self, *, model: str | None = None) -> Summaries:
        """Return the conversations that hold something, pinned ones first, then by last use.

        Of a file that has not been read yet (many are new at once) date and title come from its name;
        `complete` is then False and `refresh` should run in the background.
        """
        with self._lock:
            self._scan()
            return [s for s in self._list() if model is None or s.model == model]

    def look(self) -> Files:
        """Return the files as they are now: where two looks differ, one was added, removed or written to."""
        return {
            name: (status.st_mtime_ns, status.st_size) for name, status in _conversation_files(self.folder)
        }

    @property
    def complete(self) -> bool:
        """Whether every file is in the index as it was at the last look."""
        return not self._stale

    def refresh(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Bring the index up to date, however long it takes; return whether something had changed.

        Meant for a background thread: other calls get in between, and `stop` ends it early.
        """
        with self._lock:
            before = dict(self._index.entries)
            self._scan()
        while self._stale and not stop():
            with self._lock:
                self._read_stale(deadline=time.monotonic() + 0.02)
        checked = False
        while not checked and not stop():
            with self._lock:
                checked = self._index.check(time.monotonic() + 0.02)
        with self._lock:
            self._index.save()
            return before.keys() != self._index.entries.keys() or any(
                entry[1:3] != before[name][1:3] for name, entry in self._index.entries.items()
            )

    def search(
        self, text: str, *, limit: int = 100, per_conversation: int = 5, model: str | None = None
    ) -> Hits:
        """Return the messages in which all words of `text` occur, of the last used conversations first.

        Upper and lower case are the same; a word is found inside longer ones, too; ``"words in quotes"``
        must stand together. Words that only occur spread over a conversation find it as well.
        """
        found_words = re.findall(r'"([^"]+)"|([^\s"]+)', text)
        words = sorted({fold(quoted or plain) for quoted, plain in found_words}, key=len, reverse=True)
        hits: Hits = []
        if not words:
            return hits
        with self._lock:
            index, known = self._index, len(self._index.entries)
            index.check()
            if time.monotonic() >= self._scan_again or len(index.entries) < known:
                self._scan()
            for summary in self._list():
                entry = index.entries.get(summary.name)
                if entry is None or (model is not None and summary.model != model):
                    continue
                if found := index.find(entry, words):
                    lines = matching_lines(summary.path, found[:per_conversation], words[0])
                    hits += (Hit(summary, message_id, line or summary.title) for message_id, line in lines)
                    if len(hits) >= limit:
                        break
        return hits[:limit]

    def models(self) -> Names:
        """Return the models that answered in these conversations, to filter by."""
        return sorted({summary.model for summary in self.list() if summary.model})

    def find(self, conversation_id: str) -> Summary:
        """Return the summary of the conversation with this id (or with a file of this name).

        Raises:
            UserError: there is none.
        """
        for attempt in (self.list, self._read_all):
            for summary in attempt():
                if conversation_id in (summary.id, summary.name.removesuffix(SUFFIX)):
                    return summary
        raise NotFoundError(
            _("There is no conversation {id} in {folder}.").format(id=conversation_id, folder=self.folder)
        )

    def ids(self) -> set[str]:
        """Return the ids of all conversations, after reading those that are not in the index yet."""
        return {summary.id for summary in self._read_all()}

    # --- conversations ---

    def create(self) -> Conversation:
        """Begin a conversation; its file appears in the folder with the first message."""
        return Conversation(folder=self.folder)

    def open(self, path_or_id: Path | str) -> Conversation:
        """Open a conversation by the id of its summary, or any conversation file by its path.

        Raises:
            UserError: there is no such conversation or it cannot be read.
        """
        return Conversation.open(self._path_of(path_or_id))

    def save_as(self, conversation: Conversation, path: Path, *, overwrite: bool = False) -> None:
        """Write a copy of `conversation` to `path`, and of its attachments next to it.

        Raises:
            UserError: a file is there already and `overwrite` is not set, or it cannot be written.
        """
        if os.path.exists(path) and not overwrite:
            raise BadValueError(_("{path} exists already; choose another name.").format(path=path))
        Attachments.next_to(path).copy(conversation.digests(), conversation.attachments)
        try:
            write_atomically(path, encode(conversation.records()))
        except OSError as error:
            raise StorageError(
                _("{path} cannot be written: {error}. Choose another place.").format(
                    path=path, error=reason_of(error)
                )
            ) from error

    def trash(self, path_or_id: Path | str) -> Path:
        """Move a conversation to the trash and return where it is then.

        Where it is open, it goes on there: `restore` brings back all.
        """
        path = self._path_of(path_or_id)
        target = paths.free(paths.make_private(self.folder / TRASH) / path.name)
        self._move(path, target)
        with contextlib.suppress(OSError):
            os.utime(target)  # when it was deleted, for the order of `trashed`
        return target

    def restore(self, path: Path) -> Path:
        """Bring a conversation back from the trash, by its file there; return where it is then."""
        if not path.exists():
            raise NotFoundError(_("There is no conversation {id} in the trash.").format(id=path.name))
        target = paths.free(self.folder / path.name)
        self._move(path, target)
        return target

    def trashed(self) -> Summaries:
        """Return what is in the trash, last deleted first; the files are read anew each time."""
        found = []
        for name, status in _conversation_files(self.folder / TRASH):
            path = self.folder / TRASH / name
            with contextlib.suppress(OSError):
                entry = make_entry(name, status.st_mtime_ns, status.st_size, read_regular(path, LARGEST))
                found.append((status.st_mtime_ns, self._summary(entry, path.parent)))
        return [summary for _time, summary in sorted(found, key=lambda pair: pair[0], reverse=True)]

    def collect_attachments(self, *, older_than: float = KEPT) -> int:
        """Remove the attachments (older than so many seconds) that no conversation, draft or queue names."""
        return Attachments(self.folder / FOLDER).collect(self._files, older_than=older_than)

    def tidy(self) -> None:
        """Do that at most once a day; what cannot be removed stays, without a word.

        The temporary files of killed programs go too.
        """
        kept = (self.folder, self.folder / TRASH, self.folder / FOLDER, paths.state_dir(), paths.config_dir())
        for folder in kept:
            remove_abandoned(folder)
        stamp = self.folder / FOLDER / LOCK
        with contextlib.suppress(OSError, UserError):
            if abs(time.time() - stamp.stat().st_mtime) > KEPT:
                os.utime(stamp)
                self.collect_attachments()

    # --- inside ---

    def _path_of(self, path_or_id: Path | str) -> Path:
        by_id = isinstance(path_or_id, str) and not path_or_id.endswith(SUFFIX)
        return self.find(str(path_or_id)).path if by_id else Path(path_or_id)

    def _files(self) -> Iterator[Path]:
        for folder in (self.folder, self.folder / TRASH):
            yield from [folder / name for name, _status in _conversation_files(folder)]
        yield from (paths.state_dir() / name for name in (DRAFTS, QUEUED))

    @cached_property
    def _index(self) -> Index:
        return Index(self._cache)

    def _scan(self) -> None:
        """Compare the folder with the index."""
        start = time.monotonic()
        index = self._index
        files = dict(_conversation_files(self.folder))
        for name in index.entries.keys() - files.keys():
            index.remove(name)
            self._listed = None
        stale = [
            name
            for name, status in files.items()
            if (entry := index.entries.get(name)) is None
            or (entry.mtime, entry.size) != (status.st_mtime_ns, status.st_size)
        ]
        self._stale = {name: files[name] for name in sorted(stale)}
        end = time.monotonic()
        self._scan_again = end + 20 * (end - start) if end - start > SHORT_SCAN else end

    def _read_all(self) -> Summaries:
        self.list()
        if not self.complete:
            self.refresh()
        return self.list()

    def _list(self) -> Summaries:
        if self._stale:
            self._read_stale(deadline=time.monotonic() + LIST_BUDGET)
        if self._listed is None:
            self._listed = sorted(self._summaries(), key=lambda s: (s.pinned, s.updated), reverse=True)
        return self._listed

    def _read_stale(self, deadline: float) -> None:
        """Index files that changed, the newest first, at least one, until it is `deadline`."""
        self._listed = None
        while self._stale:
            name, status = self._stale.popitem()
            try:
                data = read_regular(self.folder / name, LARGEST)
            except OSError:
                data = b""  # gone again or not readable: not listed, and looked at again when it changes
            self._index.put(make_entry(name, status.st_mtime_ns, status.st_size, data))
            if time.monotonic() >= deadline:
                break
        if self._index.unsaved_bytes > SAVE_ABOVE:
            self._index.save()

    def _summaries(self) -> Iterator[Summary]:
        """Yield what the index knows, and what names tell of the rest, in the order of names."""
        ids: set[str] = set()
        for name, entry in sorted(self._index.entries.items()):
            if name not in self._stale and (entry.messages or entry.title):
                summary = self._summary(entry)
                if summary.id in ids:  # a copied file: the second goes by its name
                    summary = replace(summary, id=summary.name.removesuffix(SUFFIX))
                ids.add(summary.id)
                yield summary
        for name, status in self._stale.items():
            title = title_of_name(name)
            mtime = status.st_mtime_ns
            entry = Entry(name, mtime, status.st_size, "", title, mtime / 1e9, 0, "", False)
            yield self._summary(entry)

    def _summary(self, entry: Entry, folder: Path | None = None) -> Summary:
        updated, now = entry.updated, time.time()
        if updated > now + TOLERANCE:  # the clock was wrong: when the file was written to tells more
            updated = min(entry.mtime / 1e9, now)
        return Summary(
            id=entry.id or entry.name.removesuffix(SUFFIX),
            folder=folder or self.folder,
            name=entry.name,
            title=entry.title,
            updated=datetime.fromtimestamp(max(updated, EARLIEST.timestamp()), timezone.utc).astimezone(),
            messages=entry.messages,
            model=entry.model,
            pinned=entry.pinned,
        )

    def _move(self, source: Path, target: Path) -> None:
        try:
            try:  # a link first: there is no moment at which a power loss leaves neither
                os.link(source, target, follow_symlinks=False)
            except (OSError, NotImplementedError):
                os.rename(source, target)
                sync_directory(target.parent)
            else:
                sync_directory(target.parent)
                _unlink_or_undo(source, target)
            sync_directory(source.parent)
        except OSError as error:
            raise StorageError(
                _("{source} cannot be moved to {folder}: {error}.").format(
                    source=source, folder=target.parent, error=reason_of(error)
                )
            ) from error


def _unlink_or_undo(source: Path, target: Path) -> None:
    try:
        os.unlink(source)
    except OSError:
        os.unlink(target)
        raise


def _conversation_files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the names and states of the conversation files in `folder`; none where there is no folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                with contextlib.suppress(OSError):  # gone since
                    if entry.is_file():
                        yield entry.name, entry.stat()

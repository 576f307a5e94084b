"""What is remembered between two runs: the prompts that were sent, the queued messages, and drafts.

Append-only JSON Lines files in the state directory, which several running glmtui may share; the last record
of a prompt or a conversation counts. They are rewritten when they have grown to a multiple of what
they hold. Each record is on disk, synced, when the call that adds it returns. Reading never fails for the
caller, and neither does writing unless it is to be durable.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmtui import paths
from glmtui.atomic import sync_directory, write_atomically
from glmtui.chat.files import Record, encode, parse
from glmtui.chat.parts import clean_part, decode_parts, encode_parts
from glmtui.errors import StorageError
from glmtui.locking import open_locked
from glmtui.protocol.messages import Part, Text, text_of
from glmtui.protocol.phrases import _
from glmtui.regular_files import read_regular
from glmtui.text.clean import without_surrogates
from glmtui.text.quoting import reason_of

LONGEST = 100_000
"""Characters; a longer prompt (a pasted book) is not kept."""
LARGEST = 8 << 20
"""Bytes; a larger file of drafts is rewritten: a long one is written anew after every pause in typing."""
MOST_BYTES = 256 << 20
"""A larger file is none of ours: it is taken to be empty, and written anew."""
DRAFTS, QUEUED = "drafts.jsonl", "waiting.jsonl"
"""Files in the state directory; both may name attachments."""
_SLACK = 4
"""How many times more records than needed a file may have before it is rewritten."""


class PromptHistory:
    """Prompts that were sent, in all conversations, each once."""

    def __init__(self, path: Path | None = None, *, most: int = 1000) -> None:
        self._log = _Log(path or paths.state_dir() / "prompts.jsonl")
        self._most = most

    def entries(self) -> list[str]:
        """Return the prompts, oldest first, as all processes left them."""
        return self._newest(self._log.read())

    def add(self, text: str) -> None:
        """Remember a prompt as the newest; blank and endless ones are not remembered."""
        if text.strip() and len(text) <= LONGEST:
            count = self._log.append({"text": without_surrogates(text)})
            if count > self._most * _SLACK:
                self._log.rewrite(lambda records: [{"text": entry} for entry in self._newest(records)])

    def _newest(self, records: Sequence[Record]) -> list[str]:
        newest: dict[str, None] = {}
        for record in records:
            if isinstance(text := record.get("text"), str):
                newest.pop(text, None)
                newest[text] = None
        return list(newest)[-self._most :]


@dataclass(frozen=True, slots=True)
class Draft:
    """What is being written in a conversation."""

    text: str = ""
    parts: tuple[Part, ...] = ()
    """What goes with it: the files of a message that is written anew."""
    edits: str | None = None
    """Id of the message whose new version it is."""
    place: int | None = None
    """Where in the queue the message was taken from."""
    id: str | None = None
    """That the message is going to have: found in the conversation, it is a draft no more."""
    web: str = ""
    """What the web was going to be asked for the message that was taken from the queue."""


class Drafts:
    """The draft of each conversation, by its id; "" is that of a conversation not begun yet."""

    def __init__(self, path: Path | None = None, *, most: int = 200) -> None:
        self._file = _ByConversation(path or paths.state_dir() / DRAFTS, "text", most)

    def get(self, conversation_id: str) -> Draft:
        """Return the draft, empty when there is none."""
        record = self._file.get(conversation_id)
        text, place = record.get("text"), record.get("place")
        if not isinstance(text, str):
            return Draft()
        parts, _unread = decode_parts("user", text, record.get("parts"))
        return Draft(
            text,
            tuple(part for part in parts if not isinstance(part, Text)),
            _text(record, "edits"),
            place if isinstance(place, int) else None,
            _text(record, "message"),
            _text(record, "web") or "",
        )

    def set(self, conversation_id: str, draft: Draft) -> None:
        """Remember the draft of a conversation; a blank one is forgotten.

        Raises:
            StorageError: it was taken from the queue, and could not be written.
        """
        record: Record = {"text": ""}
        if draft.text.strip():
            others = [part for part in draft.parts if not isinstance(part, Text)]
            record = encode_parts("user", [clean_part(part) for part in (Text(draft.text), *others)])
            more = {"edits": draft.edits, "place": draft.place, "message": draft.id, "web": draft.web or None}
            record |= {name: value for name, value in more.items() if value is not None}
        self._file.set(conversation_id, record, durable=draft.place is not None)


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message that was not sent yet because others were before it."""

    parts: tuple[Part, ...]
    edits: str | None = None
    """Id of the message whose new version it is."""
    id: str | None = None
    """That the message is going to have: found in the conversation, it is queued no more."""
    web: str = ""
    """What the web is asked before the answer."""

    @classmethod
    def of(cls, text: str, edits: str | None = None) -> QueuedMessage:
        """Return a message of text alone."""
        return cls((Text(text),), edits)

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return text_of(self.parts)


class QueuedMessages:
    """The queued messages of each conversation, by its id, so that a program that ends loses none.

    Those of a glmtui that still runs are its own: another one does not see them.
    """

    def __init__(self, path: Path | None = None, *, most: int = 200) -> None:
        self._file = _ByConversation(path or paths.state_dir() / QUEUED, "waiting", most)
        self._owner = _process()

    def get(self, conversation_id: str) -> list[QueuedMessage]:
        """Return what an earlier glmtui left in the queue of a conversation, in its order.

        What was on its way from a conversation without a file to that with one is in the queue of both.
        """
        found = self._file.get(conversation_id).get("waiting")
        if not isinstance(found, dict) or _runs(found.get("process")):
            return []
        moved = set() if conversation_id else self._ids()
        return [
            QueuedMessage(
                decode_parts("user", item["text"], item.get("parts"))[0],
                _text(item, "edits"),
                _text(item, "id"),
                _text(item, "web") or "",
            )
            for item in _items(found)
            if isinstance(item.get("text"), str) and _text(item, "id") not in moved
        ]

    def _ids(self) -> set[object]:
        """Of what is queued in conversations that have a file."""
        queues = (record.get("waiting") for id_, record in self._file.all().items() if id_)
        return {id_ for found in queues for item in _items(found) if (id_ := _text(item, "id"))}

    def set(self, conversation_id: str, queued: Sequence[QueuedMessage]) -> None:
        """Remember the queue of a conversation; it is on disk, synced, when this returns.

        Raises:
            StorageError: it could not be written.
        """
        items = [
            {
                **encode_parts("user", [clean_part(part) for part in item.parts]),
                **({"edits": item.edits} if item.edits else {}),
                **({"id": item.id} if item.id else {}),
                **({"web": item.web} if item.web else {}),
            }
            for item in queued
        ]
        stored = {"process": self._owner, "items": items} if items else ""
        self._file.set(conversation_id, {"waiting": stored}, durable=True)


def _items(stored: object) -> list[Record]:
    items = stored.get("items") if isinstance(stored, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _text(record: Record, name: str) -> str | None:
    return value if isinstance(value := record.get(name), str) else None


class _ByConversation:
    """A log whose latest record of each conversation counts; one in which `field` is false is none."""

    def __init__(self, path: Path, field: str, most: int) -> None:
        self._log = _Log(path)
        self._field = field
        self._most = most
        self._latest = self._read()

    def get(self, conversation_id: str) -> Record:
        return self.all().get(conversation_id, {})

    def all(self) -> dict[str, Record]:
        if self._log.changed:  # another glmtui wrote to it
            self._latest |= self._read()
        return self._latest

    def set(self, conversation_id: str, values: Record, *, durable: bool = False) -> None:
        values = values if values[self._field] else {}
        if values == self._latest.get(conversation_id, {}):
            return
        record: Record = {"id": conversation_id, **(values or {self._field: ""})}
        count, large = self._log.append(record, durable=durable), LARGEST + 2 * len(encode([record]))
        self._latest.pop(conversation_id, None)
        if values:
            self._latest[conversation_id] = values
        if count > self._most * _SLACK or self._log.nbytes > large:
            self._log.rewrite(
                lambda records: [{"id": id_, **kept} for id_, kept in self._of(records).items()]
            )

    def _read(self) -> dict[str, Record]:
        return self._of(self._log.read())

    def _of(self, records: Sequence[Record]) -> dict[str, Record]:
        latest: dict[str, Record] = {}
        for record in records:
            if isinstance(id_ := record.get("id"), str):
                latest.pop(id_, None)
                if record.get(self._field):
                    latest[id_] = {name: value for name, value in record.items() if name != "id"}
        return dict(list(latest.items())[-self._most :])


def _process() -> list[float]:
    """Return what tells this process from all others, also from later ones of its number."""
    return [os.getpid(), _began(os.getpid())]


def _began(number: int) -> float:
    """Return when a process began, by a clock that nobody sets: Linux knows it since the machine's start.

    Raises:
        psutil.Error: there is no such process.
    """
    import psutil

    started = psutil.boot_time() if sys.platform == "linux" else 0.0
    return float(round(psutil.Process(number).create_time() - started, 2))


def _runs(process: object) -> bool:
    """Whether another process, described as by `_process`, still runs."""
    import psutil

    if not (isinstance(process, list) and len(process) == 2) or process == _process():
        return False
    try:
        return bool(_began(int(process[0])) == process[1])
    except (TypeError, ValueError, OverflowError, psutil.Error):
        return False


class _Log:
    """An append-only file of records, which several processes may share."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count: int | None = None
        self._seen = 0
        """Bytes of the file as it was last read, and written without anything of others' in it."""
        self._lasts = False
        """Whether a power loss leaves the file in its folder."""

    def read(self) -> tuple[Record, ...]:
        try:
            data = read_regular(self._path, MOST_BYTES)
        except OSError:
            data = b""
        records = parse(data).records
        self._count, self._seen = len(records), len(data)
        return records

    @property
    def changed(self) -> bool:
        """Whether others wrote to it since it was read."""
        return self.nbytes != self._seen

    @property
    def nbytes(self) -> int:
        """How large the file is."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def append(self, record: Record, *, durable: bool = False) -> int:
        """Add a record; return about how many there are now.

        Raises:
            StorageError: it could not be written, though it is to be `durable`.
        """
        if self._count is None:
            self.read()
        self._count = (self._count or 0) + 1
        line = b"\n" + encode([record])  # the empty line ends one that was torn
        try:
            paths.make_private(self._path.parent)
            with open_locked(self._path) as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._seen += len(line)
            if not self._lasts:
                sync_directory(self._path.parent)
                self._lasts = True
        except OSError as error:
            if durable:
                raise StorageError(
                    _("{path} cannot be written: {error}").format(path=self._path, error=reason_of(error))
                ) from error
        return self._count

    def rewrite(self, keep: Callable[[Sequence[Record]], Sequence[Record]]) -> None:
        """Let the file hold those of its records alone that `keep` chooses; nobody writes to it meanwhile."""
        with contextlib.suppress(OSError):  # it stays as large as it is
            # Windows replaces no open file: there another process may write at this very moment, and lose it
            with contextlib.nullcontext() if os.name == "nt" else open_locked(self._path):
                records = keep(parse(read_regular(self._path, MOST_BYTES)).records)
                write_atomically(self._path, encode(records))
            self._count, self._seen = len(records), self.nbytes

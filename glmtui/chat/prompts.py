"""What the composer remembers: the prompts that were sent, and drafts that were not yet.

Two append-only JSON Lines files in the state directory, which several running glmtui may share; the last
record of a prompt or a conversation counts. They are rewritten when they have grown to a multiple of what
they hold. Neither reading nor writing ever fails for the caller: losing them loses nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from glmtui import paths
from glmtui.atomic import write_atomically
from glmtui.chat.files import Record, encode, parse
from glmtui.chat.locking import locked
from glmtui.chat.tree import clean

LONGEST = 100_000
"""Characters; a longer prompt (a pasted book) is not kept."""
LARGEST = 8 << 20
"""Bytes; a larger file of drafts is rewritten: a long one is written anew after every pause in typing."""
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
            count = self._log.append({"text": clean(text)})
            if count > self._most * _SLACK:
                self._log.rewrite([{"text": entry} for entry in self.entries()])

    def _newest(self, records: Sequence[Record]) -> list[str]:
        newest: dict[str, None] = {}
        for record in records:
            if isinstance(text := record.get("text"), str):
                newest.pop(text, None)
                newest[text] = None
        return list(newest)[-self._most :]


class Drafts:
    """The unsent text of each conversation, by its id; "" is that of a conversation not begun yet."""

    def __init__(self, path: Path | None = None, *, most: int = 200) -> None:
        self._log = _Log(path or paths.state_dir() / "drafts.jsonl")
        self._most = most
        self._drafts = self._latest(self._log.read())

    def get(self, conversation_id: str) -> str:
        """Return the draft, empty when there is none."""
        return self._drafts.get(conversation_id, "")

    def set(self, conversation_id: str, text: str) -> None:
        """Remember the draft of a conversation; a blank one is forgotten."""
        text = clean(text) if text.strip() else ""
        if text == self.get(conversation_id):
            return
        self._drafts.pop(conversation_id, None)
        if text:
            self._drafts[conversation_id] = text
        count = self._log.append({"id": conversation_id, "text": text})
        if count > self._most * _SLACK or self._log.nbytes > LARGEST + 2 * len(text.encode()):
            latest = self._latest(self._log.read())
            self._log.rewrite([{"id": id_, "text": draft} for id_, draft in latest.items()])

    def _latest(self, records: Sequence[Record]) -> dict[str, str]:
        latest: dict[str, str] = {}
        for record in records:
            id_, text = record.get("id"), record.get("text")
            if isinstance(id_, str) and isinstance(text, str):
                latest.pop(id_, None)
                if text:
                    latest[id_] = text
        return dict(list(latest.items())[-self._most :])


class _Log:
    """An append-only file of records that only makes life nicer, so what goes wrong with it is let go."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count: int | None = None

    def read(self) -> tuple[Record, ...]:
        try:
            records = parse(self._path.read_bytes()).records
        except OSError:
            records = ()
        self._count = len(records)
        return records

    @property
    def nbytes(self) -> int:
        """How large the file is."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def append(self, record: Record) -> int:
        """Add a record; return about how many there are now."""
        if self._count is None:
            self.read()
        self._count = (self._count or 0) + 1
        with contextlib.suppress(OSError):
            paths.make_private(self._path.parent)
            with self._path.open("ab") as file, locked(file.fileno()):
                file.write(b"\n" + encode([record]))  # the empty line ends one that was torn
                file.flush()
        return self._count

    def rewrite(self, records: Sequence[Record]) -> None:
        with contextlib.suppress(OSError):
            write_atomically(self._path, encode(records))
        self._count = len(records)

"""What a conversation is: messages in a tree, of which one branch is read and continued.

A tree is made by applying *records* in order, and changes only so: the same function serves a change made
just now and a file read back, so both give the same tree. The records, one JSON object each:

``{"type": "conversation", "version", "id", "created"}``
    The header, the first line of a file. Another one later on may raise the version.
``{"type": "message", "id", "parent", "role", "text", "parts", "time", "state", "meta"}``
    A new message; it becomes the end of the branch. Without ``state`` it is ``done``. ``parts`` are there
    where there is more than text (`glmtui.chat.parts`).
``{"type": "extend", "id", "at", "text", "part"}``
    An answer grew: ``text`` follows the first ``at`` characters of its text, or of its thought where ``part``
    is ``thought``.
``{"type": "finish", "id", "text", "parts", "state", "meta"}``
    An answer is as complete as it will be; ``meta`` is added to what it has.
``{"type": "select", "id"}``
    Read the branch that leads to this message and on from there.
``{"type": "delete", "id"}``, ``{"type": "undelete", "id"}``
    Hide a message and all that follows it; show it again.
``{"type": "title", "title"}``
    A title given by the person; null goes back to the one made from the first exchange.
``{"type": "pin", "pinned"}``
    Keep the conversation at the top of the list, or no longer.
``{"type": "settings", "values"}``
    Settings of this conversation alone, by full key; null removes one.

The version is the lowest that shows all that is in the file: 1 for text, 2 for parts and messages of tools.

Applying never fails. People edit these files: an unknown type or key is passed over, a message without id,
parent or time gets a fitting one, a parent that does not exist is taken to be the message before, a second
message with the same id is kept under a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from glmtui.chat.parts import (
    PartRecord,
    decode_parts,
    may_think,
    parts_of_text,
    with_text,
    with_thought,
)
from glmtui.protocol.messages import (
    Attachment,
    Image,
    Part,
    Role,
    Text,
    Thought,
    ToolResult,
    text_of,
    thought_of,
)
from glmtui.text.clean import without_surrogates

State = Literal["done", "partial", "stopped", "failed", "length"]
MOST_VISITED = 1_000_000
"""Messages that are looked at to delete them, all together: nobody does more by hand, and a file in which
ten thousand messages vanish and return ten thousand times is not worth a minute."""
VERSION = 2
"""Of the file format. Readers take what they know of a higher one, and write nothing to it."""

EARLIEST = datetime(1, 1, 2, tzinfo=timezone.utc)
LATEST = datetime(9999, 12, 30, tzinfo=timezone.utc)
"""A day from the ends of the calendar, which come at another time in each zone."""
_ROLES: tuple[str, ...] = get_args(Role)
_STATES: tuple[str, ...] = get_args(State)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NO_META: Mapping[str, Any] = MappingProxyType({})
_FIGURES = ("tokens", "prompt_tokens", "tokens_per_second")
_LARGEST = 1e12
"""Of the figures: no answer has more, and a larger number may not even be one that can be written."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message; a change makes a new object."""

    id: str
    parent: str | None
    role: Role
    parts: tuple[Part, ...]
    time: datetime
    """When it was begun, with its time zone."""
    state: State = "done"
    """``partial``: an answer being written, or one whose program was killed; ``stopped`` by the person;
    ``length``: cut at the limit; ``failed``: `meta` has the ``error``."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """model, quant, device, tokens, tokens_per_second, …"""
    unread: tuple[PartRecord, ...] = ()
    """Records of parts that are of no known type, or wrong; they are kept."""

    @classmethod
    def of(cls, id_: str, parent: str | None, role: Role, text: str, time: datetime, **more: Any) -> Message:
        """Return the message that a record with this `text` and no parts is."""
        return cls(id_, parent, role, parts_of_text(role, text), time, **more)

    @property
    def text(self) -> str:
        """What is meant for the reader: the text parts, joined."""
        match self.parts:
            case (Text(text),):  # nearly always, and asked for often
                return text
        return text_of(self.parts)

    @property
    def thought(self) -> str:
        """What the model thought before it answered."""
        return thought_of(self.parts)

    @property
    def searchable(self) -> str:
        """The text, and behind it what else a search finds: thoughts, names of files, results of tools."""
        match self.parts:
            case (Text(text),):
                return text
        more = [
            part.text if isinstance(part, Thought | ToolResult) else part.name
            for part in self.parts
            if isinstance(part, Thought | ToolResult | Attachment | Image)
        ]
        return "\n".join([self.text, *more])


class Tree:
    """The messages and what else the records say. Everything here is derived; change it only by `apply`."""

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        self.id: str | None = None
        self.created: datetime | None = None
        self.version = 1
        self.given_title: str | None = None
        self.pinned = False
        self.settings: dict[str, Any] = {}
        self.messages: dict[str, Message] = {}
        """All, hidden ones too, in the order they were written."""
        self._leaf: str | None = None
        self._children: dict[str | None, list[str]] = {}
        self._deleted: dict[str, _Deletion] = {}
        self._hidden: set[str] = set()
        self._touched: dict[str, int] = {}
        """When each message was last made or selected: `leaf` goes on along the latest."""
        self._selected: list[tuple[int, str]] = []
        """When which messages were selected since that was last looked at."""
        self._clock = 0
        self._copies: dict[str, int] = {}
        """How many messages came with an id that was taken."""
        self._growing: dict[str, _Growth] = {}
        """Answers that are not finished."""
        self._grown: set[str] = set()
        """Those of them whose messages have not got all of it yet."""
        self._visited = 0
        """How many messages were looked at to delete them."""
        self._last: str | None = None
        for record in records:
            self._apply(record)
        self._settle()

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take in one record. Whatever is wrong with it is passed over or mended, as told above."""
        self._apply(record)
        self._settle()

    def _apply(self, record: Mapping[str, Any]) -> None:
        match record:
            case {"type": "message"}:
                self._message(record)
            case {"type": "conversation"}:
                self._header(record)
            case {"role": _, "text": _}:
                self._message(record)
            case {"type": "extend", "id": str(id_), "text": str(text)} if id_ in self.messages:
                self._extend(self.messages[id_], without_surrogates(text), record)
            case {"type": "finish", "id": str(id_)} if id_ in self.messages:
                self._finish(self.messages[id_], record)
            case {"type": "select", "id": str(id_)} if self.visible(id_):
                self._select(id_)
            case {"type": "delete", "id": str(id_)} if self.visible(id_) and self._visited < MOST_VISITED:
                self._delete(id_)
            case {"type": "undelete", "id": str(id_)} if id_ in self._deleted:
                self._undelete(id_)
            case {"type": "title"}:
                title = record.get("title")
                self.given_title = (
                    without_surrogates(title) if isinstance(title, str) and title.strip() else None
                )
            case {"type": "pin"}:
                self.pinned = record.get("pinned", True) is True
            case {"type": "settings", "values": dict(values)}:
                merged = self.settings | values
                self.settings = {key: value for key, value in merged.items() if value is not None}

    # --- reading ---

    @property
    def leaf(self) -> str | None:
        """The last message of the branch that is read: from the one selected last on along the latest."""
        if self._selected:
            self._touch_selected()
            if self._leaf is not None:
                self._leaf = self._descend(self._leaf)
        return self._leaf

    def visible(self, message_id: str) -> bool:
        """Whether the message exists and neither it nor one before it is deleted."""
        return message_id in self.messages and message_id not in self._hidden

    def deleted(self, message_id: str) -> bool:
        """Whether `undelete` of this very message would do something."""
        return message_id in self._deleted

    def path(self, message_id: str | None) -> list[Message]:
        """The messages from the root to `message_id`."""
        found = []
        while message_id is not None:
            message = self.messages[message_id]
            found.append(message)
            message_id = message.parent
        return found[::-1]

    def children(self, message_id: str | None) -> list[str]:
        """Ids of the visible messages that follow `message_id` directly (None: those that begin)."""
        return [child for child in self._children.get(message_id, ()) if child not in self._hidden]

    def length(self, message_id: str, *, thought: bool) -> int:
        """Where the next ``extend`` of a message begins."""
        growth = self._growing.get(message_id) or _Growth(self.messages[message_id])
        return growth.length(thought=thought)

    # --- applying ---

    def _header(self, record: Mapping[str, Any]) -> None:
        if self.id is None and isinstance(record.get("id"), str) and record["id"]:
            self.id = record["id"]
        if isinstance(record.get("version"), int):
            self.version = max(self.version, record["version"])
        self.created = self.created or parse_time(record.get("created"))

    def _message(self, record: Mapping[str, Any]) -> None:
        role, text, state, meta = (record.get(key) for key in ("role", "text", "state", "meta"))
        if role not in _ROLES or not isinstance(text, str):
            return
        grows = state == "partial"
        parts, unread = decode_parts(role, text, record.get("parts"), grows=grows)
        given = record.get("id")
        parent = record.get("parent", self._last)
        if parent is not None and (not isinstance(parent, str) or parent not in self.messages):
            parent = self._last
        message = Message(
            id=given if isinstance(given, str) and given else f"message-{len(self.messages) + 1}",
            parent=parent,
            role=role,
            parts=parts,
            time=parse_time(record.get("time")) or self._latest(),
            state=state if state in _STATES else "done",
            meta=_read_meta(_NO_META, meta),
            unread=unread,
        )
        known = self.messages.get(message.id)
        if known is not None and (known.parent, known.role, known.time) == (parent, role, message.time):
            return  # written twice, after a failure in the middle of saving
        if known is not None:
            message = replace(message, id=self._free_id(message.id))
        self.messages[message.id] = message
        if grows and may_think(text, grows=True) and not isinstance(record.get("parts"), list):
            self._growing[message.id] = _Growth(message, without_surrogates(text))
        self._children.setdefault(parent, []).append(message.id)
        self._last = message.id
        for ancestor in [m.id for m in self.path(parent)] if parent in self._hidden else ():
            if ancestor in self._deleted:
                self._undelete(ancestor)  # another process answered below: what is new must be seen
        self._leaf = message.id
        self._clock += 1
        self._touched[message.id] = self._clock

    def _latest(self) -> datetime:
        return self.messages[self._last].time if self._last is not None else self.created or _LONG_AGO

    def _free_id(self, taken: str) -> str:
        number = self._copies.get(taken, 1) + 1
        while f"{taken}-{number}" in self.messages:
            number += 1
        self._copies[taken] = number
        return f"{taken}-{number}"

    def _extend(self, message: Message, text: str, record: Mapping[str, Any]) -> None:
        growth = self._growing.get(message.id)
        if growth is None:
            growth = self._growing[message.id] = _Growth(message)
        growth.add(text, record.get("at"), thought=record.get("part") == "thought")
        self._grown.add(message.id)

    def _settle(self) -> None:
        """Let messages have what they grew by."""
        for message_id in self._grown:
            parts = self._growing[message_id].parts()
            self.messages[message_id] = replace(self.messages[message_id], parts=parts)
        self._grown.clear()

    def _finish(self, message: Message, record: Mapping[str, Any]) -> None:
        text, state, meta = (record.get(key) for key in ("text", "state", "meta"))
        parts, unread = message.parts, message.unread
        if isinstance(text, str):
            parts, unread = decode_parts(message.role, text, record.get("parts"))
        elif message.id in self._grown:
            parts = self._growing[message.id].parts()
        self._growing.pop(message.id, None)
        self._grown.discard(message.id)
        self.messages[message.id] = replace(
            message,
            parts=parts,
            unread=unread,
            state=cast(State, state) if state in _STATES else "done",
            meta=_read_meta(message.meta, meta),
        )

    def _select(self, message_id: str) -> None:
        self._clock += 1
        self._selected.append((self._clock, message_id))
        self._leaf = message_id

    def _touch_selected(self) -> None:
        """Note for each message when one on the way to which it lies was last selected.

        The last comes first, so that each message is looked at once however many were selected.
        """
        touched: set[str] = set()
        while self._selected:
            clock, at = self._selected.pop()
            message_id: str | None = at
            while message_id is not None and message_id not in touched:
                touched.add(message_id)
                self._touched[message_id] = clock
                message_id = self.messages[message_id].parent

    def _descend(self, message_id: str) -> str:
        while children := self.children(message_id):
            message_id = max(children, key=self._touched.__getitem__)
        return message_id

    def _depth(self, message_id: str | None, ancestor: str) -> int:
        """How many steps a message lies below another."""
        depth = 0
        while message_id is not None and message_id != ancestor:
            message_id, depth = self.messages[message_id].parent, depth + 1
        return depth

    def _delete(self, message_id: str) -> None:
        subtree = self._subtree(message_id)
        on_branch = self.leaf in subtree
        self._deleted[message_id] = _Deletion(self.leaf if on_branch else None, subtree)
        if on_branch:
            siblings = self.children(self.messages[message_id].parent)
            place = siblings.index(message_id)
            neighbour = siblings[place - 1] if place else next(iter(siblings[1:]), None)
            self._leaf = self.messages[message_id].parent if neighbour is None else self._descend(neighbour)
            self._visited += len(siblings) + (self._depth(self._leaf, neighbour) if neighbour else 0)
        self._hidden |= subtree

    def _undelete(self, message_id: str) -> None:
        self._leaf = self.leaf  # where what was selected led to before
        deletion = self._deleted.pop(message_id)
        outer = self.messages[message_id].parent
        if outer is not None and outer in self._hidden:
            while outer is not None and outer not in self._deleted:
                outer = self.messages[outer].parent
            if outer is not None:
                self._deleted[outer].hidden |= deletion.hidden  # it comes back with that
            return
        self._hidden -= deletion.hidden
        if deletion.leaf is not None and self.visible(deletion.leaf):
            self._leaf = deletion.leaf

    def _subtree(self, message_id: str) -> set[str]:
        """`message_id` and all below it, except what was deleted on its own."""
        found: set[str] = set()
        pending = [message_id]
        while pending:
            current = pending.pop()
            found.add(current)
            pending += [child for child in self._children.get(current, ()) if child not in self._deleted]
        self._visited += len(found)
        return found


@dataclass(slots=True)
class _Deletion:
    """What is hidden since a message was deleted."""

    leaf: str | None
    """The end of the branch at that time if it was hidden too, so that undelete returns to it."""
    hidden: set[str]


class _Pieces:
    """A text that grows: joined only when it is asked for, else n pieces would cost n² characters."""

    def __init__(self, text: str) -> None:
        self._pieces = [text]
        self.length = len(text)

    def add(self, text: str, at: object) -> None:
        """Let `text` follow the first `at` characters; where `at` is no length, all there is."""
        while isinstance(at, int) and 0 <= at < self.length:
            last = self._pieces.pop()
            self.length -= len(last)
            if kept := last[: max(at - self.length, 0)]:
                self._pieces.append(kept)
                self.length += len(kept)
        self._pieces.append(text)
        self.length += len(text)

    def __str__(self) -> str:
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0]


class _Growth:
    """What an answer grows to.

    A thought may come as such, or in the text as version 1 wrote it: then `raw` is the text of the message
    as it was written.
    """

    def __init__(self, message: Message, raw: str | None = None) -> None:
        self._message = message
        self._thought = _Pieces(message.thought) if message.thought and raw is None else None
        self._text = _Pieces(message.text if raw is None else raw)

    def length(self, *, thought: bool) -> int:
        if not thought:
            return self._text.length
        return self._thought.length if self._thought else len(thought_of(self.parts()))

    def add(self, text: str, at: object, *, thought: bool) -> None:
        if thought and self._thought is None:
            so_far = self.parts()
            self._thought, self._text = _Pieces(thought_of(so_far)), _Pieces(text_of(so_far))
        pieces = self._thought if thought and self._thought else self._text
        pieces.add(text, at)

    def parts(self) -> tuple[Part, ...]:
        """Return the parts of the message by now."""
        text = str(self._text)
        if self._thought is None and self._message.role == "assistant" and may_think(text, grows=True):
            return parts_of_text("assistant", text, grows=True)
        return with_text(with_thought(self._message.parts, str(self._thought or "")), text)


def parse_time(value: object) -> datetime | None:
    """Read an ISO 8601 time that the calendars of all zones can show; one without a zone is local."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
        time = time if time.tzinfo else time.astimezone()
    except (ValueError, OverflowError, OSError):
        return None
    return time if EARLIEST <= time <= LATEST else None


def _read_meta(before: Mapping[str, Any], added: object) -> Mapping[str, Any]:
    """Return `before` with what a record adds; a figure that is none, or that no answer has, is left out."""
    if not isinstance(added, dict):
        return before
    meta = {**before, **added}
    for name in _FIGURES:
        if name in added and not _is_figure(added[name]):
            del meta[name]
    sources = added.get("sources")
    if sources is not None and not (isinstance(sources, list) and all(map(_is_figure, sources))):
        del meta["sources"]
    return MappingProxyType(meta)


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST

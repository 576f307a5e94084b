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
    clean,
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

State = Literal["done", "partial", "stopped", "failed", "length"]
VERSION = 2
"""Of the file format. Readers take what they know of a higher one, and write nothing to it."""

_ROLES: tuple[str, ...] = get_args(Role)
_STATES: tuple[str, ...] = get_args(State)
_LONG_AGO = datetime(1970, 1, 1, tzinfo=timezone.utc)
_NO_META: Mapping[str, Any] = MappingProxyType({})


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
        self.leaf: str | None = None
        self._children: dict[str | None, list[str]] = {}
        self._deleted: dict[str, str | None] = {}
        """Deleted message: the leaf at that time if it was hidden with it, so that undelete returns to it."""
        self._hidden: set[str] = set()
        self._touched: dict[str, int] = {}
        """When each message was last made or selected: `select` goes on along the latest."""
        self._clock = 0
        self._raw: dict[str, str] = {}
        """Texts of version 1 that begin with a thought, as they were written, while they grow."""
        self._last: str | None = None
        for record in records:
            self.apply(record)

    def apply(self, record: Mapping[str, Any]) -> None:
        """Take in one record. Whatever is wrong with it is passed over or mended, as told above."""
        match record:
            case {"type": "message"}:
                self._message(record)
            case {"type": "conversation"}:
                self._header(record)
            case {"role": _, "text": _}:
                self._message(record)
            case {"type": "extend", "id": str(id_), "text": str(text)} if id_ in self.messages:
                self._extend(self.messages[id_], clean(text), record)
            case {"type": "finish", "id": str(id_)} if id_ in self.messages:
                self._finish(self.messages[id_], record)
            case {"type": "select", "id": str(id_)} if self.visible(id_):
                self._select(id_)
            case {"type": "delete", "id": str(id_)} if self.visible(id_):
                self._delete(id_)
            case {"type": "undelete", "id": str(id_)} if id_ in self._deleted:
                self._undelete(id_)
            case {"type": "title"}:
                title = record.get("title")
                self.given_title = clean(title) if isinstance(title, str) and title.strip() else None
            case {"type": "pin"}:
                self.pinned = record.get("pinned", True) is True
            case {"type": "settings", "values": dict(values)}:
                merged = self.settings | values
                self.settings = {key: value for key, value in merged.items() if value is not None}

    # --- reading ---

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
        message = self.messages[message_id]
        return len(message.thought if thought else self._raw.get(message_id, message.text))

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
            meta=MappingProxyType(meta.copy()) if isinstance(meta, dict) else _NO_META,
            unread=unread,
        )
        known = self.messages.get(message.id)
        if known is not None and (known.parent, known.role, known.time) == (parent, role, message.time):
            return  # written twice, after a failure in the middle of saving
        if known is not None:
            message = replace(message, id=self._free_id(message.id))
        self.messages[message.id] = message
        if grows and may_think(text, grows=True) and not isinstance(record.get("parts"), list):
            self._raw[message.id] = clean(text)
        self._children.setdefault(parent, []).append(message.id)
        self._last = message.id
        for ancestor in [m.id for m in self.path(parent)] if parent in self._hidden else ():
            if ancestor in self._deleted:
                self._undelete(ancestor)  # another process answered below: what is new must be seen
        self.leaf = message.id
        self._touch(message.id)

    def _latest(self) -> datetime:
        return self.messages[self._last].time if self._last is not None else self.created or _LONG_AGO

    def _free_id(self, taken: str) -> str:
        number = 2
        while f"{taken}-{number}" in self.messages:
            number += 1
        return f"{taken}-{number}"

    def _extend(self, message: Message, text: str, record: Mapping[str, Any]) -> None:
        thinks = record.get("part") == "thought"
        before = message.thought if thinks else self._raw.get(message.id, message.text)
        at = record.get("at")
        grown = (before[:at] if isinstance(at, int) and at >= 0 else before) + text
        if thinks:
            parts = with_thought(message.parts, grown)
        elif (message.id in self._raw or not message.thought) and may_think(grown, grows=True):
            self._raw[message.id] = grown
            parts = parts_of_text(message.role, grown, grows=True)
        else:
            self._raw.pop(message.id, None)
            parts = with_text(message.parts, grown)
        self.messages[message.id] = replace(message, parts=parts)

    def _finish(self, message: Message, record: Mapping[str, Any]) -> None:
        text, state, meta = (record.get(key) for key in ("text", "state", "meta"))
        parts, unread = message.parts, message.unread
        if isinstance(text, str):
            parts, unread = decode_parts(message.role, text, record.get("parts"))
        self._raw.pop(message.id, None)
        self.messages[message.id] = replace(
            message,
            parts=parts,
            unread=unread,
            state=cast(State, state) if state in _STATES else "done",
            meta=MappingProxyType({**message.meta, **meta}) if isinstance(meta, dict) else message.meta,
        )

    def _touch(self, message_id: str) -> None:
        self._clock += 1
        self._touched[message_id] = self._clock

    def _select(self, message_id: str) -> None:
        for message in self.path(message_id):
            self._touch(message.id)
        self.leaf = self._descend(message_id)

    def _descend(self, message_id: str) -> str:
        while children := self.children(message_id):
            message_id = max(children, key=self._touched.__getitem__)
        return message_id

    def _delete(self, message_id: str) -> None:
        siblings = self.children(self.messages[message_id].parent)
        subtree = self._subtree(message_id)
        on_branch = self.leaf in subtree
        self._deleted[message_id] = self.leaf if on_branch else None
        self._hidden |= subtree
        if on_branch:
            place = siblings.index(message_id)
            neighbour = siblings[place - 1] if place else next(iter(siblings[1:]), None)
            self.leaf = self._descend(neighbour) if neighbour else self.messages[message_id].parent

    def _undelete(self, message_id: str) -> None:
        leaf = self._deleted.pop(message_id)
        parent = self.messages[message_id].parent
        if parent is not None and parent in self._hidden:
            return  # something before it is deleted as well
        self._hidden -= self._subtree(message_id)
        if leaf is not None and self.visible(leaf):
            self.leaf = leaf

    def _subtree(self, message_id: str) -> set[str]:
        """`message_id` and all below it, except what was deleted on its own."""
        found: set[str] = set()
        pending = [message_id]
        while pending:
            current = pending.pop()
            found.add(current)
            pending += (child for child in self._children.get(current, ()) if child not in self._deleted)
        return found


def parse_time(value: object) -> datetime | None:
    """Read an ISO 8601 time; one without a zone is taken to be local."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith("Z") else value)
        local = time.astimezone()  # so that it can be
        return time if time.tzinfo else local
    except (ValueError, OverflowError, OSError):
        return None

"""A conversation as the app works with it: a tree of messages that writes each change to its file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import EllipsisType, MappingProxyType
from typing import Any

from glmtui.chat.attachments import Attachments
from glmtui.chat.files import ConversationFile, Record
from glmtui.chat.parts import encode_parts, join_parts, parts_of_text, with_text
from glmtui.chat.titles import make_title
from glmtui.chat.tree import VERSION, Message, State, Tree, parse_time
from glmtui.errors import NewerFormatError, TooLongError, UserError
from glmtui.protocol.messages import Attachment, ChatMessage, Image, Part, Role, Source, Text, Thought
from glmtui.protocol.phrases import _
from glmtui.text.json_values import plain

__all__ = ["Conversation", "Message", "Role", "State"]


class Conversation:
    """Messages in a tree; `branch` is the one that is read and continued.

    Every method that changes something is on disk, synced, when it returns. If that fails it raises a
    `UserError` *after* the change was made in memory; what is missing is written with the next change or
    by `flush`. A file appears with the first message, so that an empty chat leaves none.

    Another process may work on the same file: both append, nobody's records are lost, and this object takes
    the other's in when it next writes or when `refresh` is called.

    A file of a newer format is only read: what would change it raises `NewerFormatError`.
    """

    def __init__(
        self,
        *,
        path: Path | None = None,
        folder: Path | None = None,
        created: datetime | None = None,
        id_: str | None = None,
    ) -> None:
        """Begin an empty conversation, kept at `path`, somewhere in `folder`, or (neither) only in memory."""
        self._file = ConversationFile(path, folder=folder) if path or folder else None
        self._tree = Tree()
        self._records: list[Record] = []
        self._unsaved: list[Record] = []
        self.damaged: tuple[int, ...] = ()
        """Lines of the file that could not be read."""
        self._memory = Attachments(None)
        self._commit(
            {
                "type": "conversation",
                "version": 1,
                "id": id_ or secrets.token_hex(8),
                "created": (created or _now()).isoformat(timespec="seconds"),
            }
        )

    @classmethod
    def open(cls, path: Path) -> Conversation:
        """Read the conversation in the file at `path`.

        Raises:
            UserError: there is no such file or it cannot be read at all.
        """
        conversation = cls(path=path)
        conversation._unsaved = []
        conversation._read()
        return conversation

    @classmethod
    def at(cls, path: Path) -> Conversation:
        """Read the conversation in the file at `path`, or begin one there.

        Raises:
            UserError: what is there cannot be read.
        """
        return cls.open(path) if os.path.exists(path) else cls(path=path.absolute())

    @classmethod
    def from_records(
        cls, records: Sequence[Record], attachments: Attachments | None = None, id_: str | None = None
    ) -> Conversation:
        """Make a conversation in memory from records that came from elsewhere; its id is `id_` or a new one.

        What they refer to is read from `attachments`.
        """
        times = (parse_time(record.get("created") or record.get("time")) for record in records)
        conversation = cls(created=next(filter(None, times), None), id_=id_)
        conversation._memory = Attachments(None, behind=attachments)
        headers = (record.get("version") for record in records if record.get("type") == "conversation")
        needed = VERSION if any(map(_needs_parts, records)) else 1
        version = max([needed, *(version for version in headers if isinstance(version, int))])
        if version > 1:
            conversation._apply({"type": "conversation", "version": version})
        for record in records:
            if record.get("type") != "conversation":
                conversation._apply(record)
        return conversation

    # --- reading ---

    @property
    def id(self) -> str:
        """Made at the beginning and kept in the file's header."""
        return self._tree.id or (self.path.stem if self.path else "")

    @property
    def path(self) -> Path | None:
        """The file, or None until there is one."""
        return self._file.path if self._file and not self._is_new else None

    @property
    def created(self) -> datetime:
        """When it was begun."""
        first = next(iter(self.messages.values()), None)
        return (self._tree.created or (first.time if first else _now())).astimezone()

    @property
    def updated(self) -> datetime:
        """When its last message was begun."""
        return max((message.time for message in self.messages.values()), default=self.created)

    @property
    def title(self) -> str:
        """The title the person gave, else one made from the first exchange; empty while there is none."""
        return self._tree.given_title or make_title(self._tree)

    @property
    def pinned(self) -> bool:
        """Whether it stays at the top of the list."""
        return self._tree.pinned

    @property
    def settings(self) -> Mapping[str, Any]:
        """This conversation's own values of settings, by full key; check them before use."""
        return MappingProxyType(self._tree.settings)

    @property
    def messages(self) -> Mapping[str, Message]:
        """All messages by id, on all branches, deleted ones too, in the order they were written."""
        return MappingProxyType(self._tree.messages)

    @property
    def leaf(self) -> str | None:
        """Id of the last message of the branch."""
        return self._tree.leaf

    @property
    def newer_format(self) -> bool:
        """Whether a newer glmtui wrote to the file: some of it may not show here, and nothing is changed."""
        return self._tree.version > VERSION

    @property
    def attachments(self) -> Attachments:
        """The blobs of this conversation: next to its file, in memory where it has none.

        What a message refers to is put there first.
        """
        return Attachments.next_to(self._file.folder / "_") if self._file else self._memory

    @property
    def unsaved(self) -> bool:
        """Whether something that should be on disk is not."""
        return bool(self._unsaved) and self._file is not None and bool(self.messages)

    def branch(self) -> list[Message]:
        """The messages that are read and continued, first to last."""
        return self._tree.path(self._tree.leaf)

    def siblings(self, message_id: str) -> list[Message]:
        """The versions of a message: those that follow the same one, oldest first, itself among them."""
        return [self.messages[child] for child in self._tree.children(self.messages[message_id].parent)]

    def versions(self, messages: Iterable[Message]) -> dict[str, tuple[int, int]]:
        """Return, by its id, which version (from 1) of how many each message is that has several."""
        siblings = {message.id: [version.id for version in self.siblings(message.id)] for message in messages}
        return {key: (ids.index(key) + 1, len(ids)) for key, ids in siblings.items() if len(ids) > 1}

    def is_deleted(self, message_id: str) -> bool:
        """Whether the message is hidden because it or one before it was deleted, or is not there at all."""
        return not self._tree.visible(message_id)

    def messages_for_model(self) -> tuple[ChatMessage, ...]:
        """The branch as the model is to see it; whoever builds the prompt leaves out the thoughts.

        Messages that say nothing are left out, and questions that were too long to be answered; of what then
        has the same role twice in a row (a question whose answer failed or was stopped at once, asked again)
        the parts are joined, so that roles alternate. Each message of a tool stays on its own. A thought
        without an answer is kept at the end only, where it may be continued.
        """
        branch = self.branch()
        refused = {message.parent for message in branch if _was_too_long(message)}
        messages: list[ChatMessage] = []
        for message in branch:
            if message.id in refused:
                continue
            parts = message.parts
            if not _says_something(parts) and not (message is branch[-1] and message.thought):
                continue
            if messages and messages[-1].role == message.role != "tool":
                parts = join_parts(messages.pop().parts, parts)
            messages.append(ChatMessage(message.role, parts))
        return tuple(messages)

    def records(self) -> list[Record]:
        """All records that give this conversation, also those unknown here: what a fresh file of it holds.

        The checkpoints of answers that were finished since are left out.
        """
        kept: list[Record] = []
        finished: list[object] = []
        for record in reversed(self._records):
            if record.get("type") == "finish":
                finished.append(record.get("id"))
            elif record.get("type") == "extend" and record.get("id") in finished:
                continue
            kept.append(record)
        return kept[::-1]

    # --- changing ---

    def append(
        self,
        role: Role,
        content: str | Sequence[Part],
        *,
        parent: str | EllipsisType | None = ...,
        state: State = "done",
        meta: Mapping[str, Any] | None = None,
        time: datetime | None = None,
        message_id: str | None = None,
    ) -> Message:
        """Add a message after `parent` (by default the end of the branch; None begins anew) and go there.

        To edit a message is to append another after the same parent; so is to answer again. A string is the
        text; of an assistant it may begin with a thought in ``<think>…</think>``, which becomes a part. The
        message gets the id `message_id`, unless another has it.
        """
        after = self.leaf if isinstance(parent, EllipsisType) else parent
        if after is not None and after not in self.messages:
            raise KeyError(after)
        self._require_known_format()  # now that it is known what others wrote
        while message_id is None or message_id in self.messages:
            message_id = new_message_id()
        record: Record = {
            "type": "message",
            "id": message_id,
            "parent": after,
            "role": role,
            **encode_parts(role, _parts(role, content)),
            "time": (time or _now()).isoformat(timespec="milliseconds"),
        }
        if state != "done":
            record["state"] = state
        if meta:
            record["meta"] = dict(meta)
        self._commit(record)
        return self.messages[message_id]

    def edit(self, message_id: str, content: str | Sequence[Part]) -> Message:
        """Add another version of a message next to it and go there; a string changes its text alone."""
        message = self.messages[message_id]
        if isinstance(content, str):
            content = with_text(message.parts, content)
        return self.append(message.role, content, parent=message.parent)

    def extend(self, message_id: str, text: str, *, thought: bool = False) -> None:
        """Note that the partial answer, or its thought, grew by `text`: a crash loses only what is newer."""
        at = self._tree.length(message_id, thought=thought)
        part = {"part": "thought"} if thought else {}
        self._commit({"type": "extend", "id": message_id, "at": at, **part, "text": text})

    def finish(
        self,
        message_id: str,
        content: str | Sequence[Part],
        state: State = "done",
        meta: Mapping[str, Any] | None = None,
    ) -> Message:
        """Give an answer its complete content (as in `append`) and final state; `meta` is added to it."""
        role = self.messages[message_id].role
        record: Record = {"type": "finish", "id": message_id, **encode_parts(role, _parts(role, content))}
        record["state"] = state
        if meta:
            record["meta"] = dict(meta)
        self._commit(record)
        return self.messages[message_id]

    def select(self, message_id: str) -> None:
        """Go to the branch with this message, as far down as it was last read."""
        self._require_visible(message_id)
        self._commit({"type": "select", "id": message_id})

    def delete(self, message_id: str) -> None:
        """Hide a message and all that follows it; the branch then ends at another version, or before it."""
        self._require_visible(message_id)
        self._commit({"type": "delete", "id": message_id})

    def undelete(self, message_id: str) -> None:
        """Take back the `delete` of this message."""
        if self._tree.deleted(message_id):
            self._commit({"type": "undelete", "id": message_id})

    def rename(self, title: str) -> None:
        """Give it a title; an empty one goes back to the title made from the first exchange."""
        self._commit({"type": "title", "title": " ".join(title.split()) or None})

    def pin(self, pinned: bool = True) -> None:
        """Keep it at the top of the list, or no longer."""
        self._commit({"type": "pin", "pinned": pinned})

    def configure(self, values: Mapping[str, Any]) -> None:
        """Use these values of settings (by full key) here only; None goes back to the general one."""
        self._commit({"type": "settings", "values": dict(values)})

    def keep_in(self, folder: Path) -> None:
        """Give a conversation that is only in memory a file in `folder`, and its attachments a place."""
        self._file = ConversationFile(folder=folder)
        self.attachments.copy(self.digests(), self._memory)
        self._unsaved = self.records()
        self.flush()

    def digests(self) -> set[str]:
        """The attachments and images that its messages name, deleted ones too."""
        parts = (part for message in self.messages.values() for part in message.parts)
        return {part.sha256 for part in parts if isinstance(part, Attachment | Image) and part.sha256}

    def flush(self) -> None:
        """Write what could not be written before. A new one is written with its first message."""
        if self._file is None or not self._unsaved or (self._is_new and not self.messages):
            return
        if self._is_new:
            changed = self._file.create(self._unsaved, created=self.created, title=self.title)
        else:
            self._require_known_format()
            try:
                changed = self._file.append(self._unsaved)
            except FileNotFoundError:  # deleted meanwhile: memory has all there is
                changed = self._file.create(self.records(), created=self.created, title=self.title)
        self._unsaved = []
        if changed:
            self._read()

    def refresh(self) -> bool:
        """Take in what others wrote to the file since; return whether there was something.

        Raises:
            UserError: the file cannot be read any more; memory keeps what it has.
        """
        if self._file is None or not self._file.changed() or not self._file.exists():
            return False
        self._read()
        return True

    @property
    def _is_new(self) -> bool:
        return bool(self._unsaved) and "created" in self._unsaved[0]

    def _commit(self, record: Record) -> None:
        record = plain(record)
        self._require_known_format()
        if self._tree.version < VERSION and _needs_parts(record):
            self._apply({"type": "conversation", "version": VERSION})
        self._apply(record)
        self.flush()

    def _require_known_format(self) -> None:
        with suppress(UserError):  # whoever writes next is told
            self.refresh()
        if self.newer_format:
            raise NewerFormatError(
                _(
                    "{path} was written by a newer glmtui and can only be read here. Update glmtui to change "
                    "it, or export it as JSON and import that: a copy with what this glmtui can read."
                ).format(path=self.path or self.title)
            )

    def _apply(self, record: Record) -> None:
        self._tree.apply(record)
        self._records.append(record)
        if self._file is not None:
            self._unsaved.append(record)

    def _read(self) -> None:
        assert self._file is not None
        contents = self._file.read()
        self._records = [*contents.records, *self._unsaved]
        self._tree = Tree(self._records)
        self.damaged = contents.damaged

    def _require_visible(self, message_id: str) -> None:
        if not self._tree.visible(message_id):
            raise KeyError(message_id)


def new_message_id() -> str:
    """Return an id for a message that is going to be appended."""
    return secrets.token_hex(4)


def _parts(role: Role, content: str | Sequence[Part]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return parts_of_text(role, content)
    return tuple(part for part in content if not isinstance(part, Text | Thought) or part.text)


def _needs_parts(record: Record) -> bool:
    """Whether version 1 would not show all of a record."""
    return "parts" in record or "part" in record or record.get("role") == "tool"


def _was_too_long(answer: Message) -> bool:
    """Whether an answer failed because what it should answer does not fit into the context."""
    refused = answer.meta.get("error_code") == TooLongError.code
    return refused and answer.state == "failed" and not answer.parts


def _says_something(parts: Sequence[Part]) -> bool:
    return any(
        part.text.strip() if isinstance(part, Text) else not isinstance(part, Thought | Source)
        for part in parts
    )


def _now() -> datetime:
    return datetime.now().astimezone()

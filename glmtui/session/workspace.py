"""What is kept of a session between starts: which conversation was open, drafts, the queue, sent prompts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import paths
from glmtui.atomic import write_atomically
from glmtui.chat.state_log import Draft, Drafts, PromptHistory, QueuedMessage, QueuedMessages
from glmtui.regular_files import read_regular
from glmtui.session.message_queue import stored_id

if TYPE_CHECKING:
    from glmtui.chat.conversation import Conversation

LONGEST_NAME = 1 << 16
"""Bytes."""


class Workspace:
    """Files in the state directory. What goes wrong with them costs nothing else."""

    def __init__(self) -> None:
        self.prompts = PromptHistory()
        self._drafts = Drafts()
        self._last = paths.state_dir() / "last-conversation"
        self._remembered: str | None = None

    @cached_property
    def _queued(self) -> QueuedMessages:
        return QueuedMessages()

    def draft(self, conversation: Conversation | None) -> Draft:
        """Return what was being written in a conversation; None is one not begun yet."""
        return self._drafts.get(stored_id(conversation) if conversation else "")

    def keep_draft(self, conversation_id: str, draft: Draft) -> None:
        """Remember what is being written in a conversation, by its stored id."""
        self._drafts.set(conversation_id, draft)

    def queued(self, conversation: Conversation) -> list[QueuedMessage]:
        """Return what an earlier glmtui left queued in a conversation."""
        return self._queued.get(stored_id(conversation))

    def keep_queued(self, conversation_id: str, items: Sequence[QueuedMessage]) -> None:
        """Remember what is queued in a conversation, by its stored id."""
        self._queued.set(conversation_id, items)

    def keep_open(self, conversation: Conversation) -> None:
        """Remember which conversation is open."""
        opened = str(conversation.path or "")
        if opened != self._remembered:
            self._remembered = opened
            with suppress(OSError):  # only a convenience
                write_atomically(self._last, os.fsencode(opened))

    def last_open(self) -> Path | None:
        """Return the file of the conversation that was open last."""
        try:
            name = os.fsdecode(read_regular(self._last, LONGEST_NAME).strip())
        except (OSError, ValueError):
            return None
        return Path(name) if os.path.isfile(name) else None

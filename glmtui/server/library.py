"""What keeps the page's conversations where they are to lie next to the app's: a port, and its plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

State = Literal["done", "partial", "stopped", "failed", "length"]
"""Of an answer, as conversation files have it."""


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message as the page shows it."""

    id: str
    role: Literal["user", "assistant"]
    text: str
    thought: str = ""
    state: State = "done"
    error: str = ""
    """Why it failed."""


@dataclass(frozen=True, slots=True)
class KeptTitle:
    """One line of the page's list."""

    id: str
    title: str
    updated: datetime


class Library(Protocol):
    """Conversations on disk. Its functions wait for the disk, and may be called in any thread.

    They raise `UserError` for what cannot be read or written, `NotFoundError` where there is no such
    conversation.
    """

    def titles(self) -> Sequence[KeptTitle]:
        """Return the list, in its order."""

    def read(self, conversation_id: str) -> Sequence[KeptMessage]:
        """Return what is said in a conversation, on the branch that is read."""

    def write(self, conversation_id: str, messages: Sequence[KeptMessage], model: str) -> None:
        """Make `messages` the branch that is read; what was said otherwise stays on others.

        A conversation that does not exist is begun. New answers are of `model`.
        """

    def remove(self, conversation_id: str) -> None:
        """Move a conversation to the trash."""

"""What the controller asks of the screen, so that the flow of a conversation needs no widgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

from glmtui.errors import UserError
from glmtui.i18n import tell

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message

Kind = Literal["info", "warning", "error"]


class AnswerHandle(Protocol):
    """The growing answer on the screen."""

    def append(self, text: str) -> None:
        """Add text to the end."""

    async def finish(self, message: Message) -> None:
        """Show the final message."""


class ChatView(Protocol):
    """What the controller asks of the screen. Everything is called on the UI thread."""

    async def show(self, messages: Sequence[Message]) -> None:
        """Show these instead of what is there."""

    async def show_changes(self, messages: Sequence[Message]) -> None:
        """Show these, of which most are there; what the person reads stays where it is."""

    async def add(self, message: Message) -> None:
        """Show one more at the end."""

    async def begin_answer(self, message: Message) -> AnswerHandle:
        """Show an answer that will grow, with the text it has already."""
        ...

    def notice(self, text: str, kind: Kind = "info") -> None:
        """Say something of the app's own in the transcript."""

    def restore(self, text: str) -> None:
        """Put text back into the composer."""

    def status_changed(self) -> None:
        """The status, the queue or what may be done now changed."""

    def model_changed(self) -> None:
        """Another model is in memory, whose own values hold where the settings have none."""

    def conversation_changed(self) -> None:
        """Another conversation is open, or its title or place in the list changed."""

    def answer_ended(self, seconds: float) -> None:
        """An answer that took so long is complete."""


class Saving:
    """What cannot be written now is kept in memory and written with the next change: says so and goes on.

    It is said once as long as the same fault lasts: one answer is written many times.
    """

    def __init__(self, view: ChatView) -> None:
        self._view = view
        self._said = ""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Do what writes."""
        fault = ""
        try:
            yield
        except UserError as error:
            fault = tell(error)
        if fault and fault != self._said:
            self._view.notice(fault, "error")
        self._said = fault

"""One message of the conversation, as it stands in the transcript."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from glmtui.i18n import _
from glmtui.tui.text import clean
from glmtui.tui.widgets.markdown import ChatMarkdown

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message


class MessageView(Vertical):
    """A message: role, text, what is known about it."""

    DEFAULT_CSS = """
    MessageView { height: auto; margin: 1 0 0 0; padding: 0 1; border-left: thick $primary; }
    MessageView.-assistant { border-left: thick $secondary; }
    MessageView .role { text-style: bold; color: $text-primary; }
    MessageView.-assistant .role { color: $text-secondary; }
    """

    def __init__(self, message: Message) -> None:
        super().__init__(classes=f"-{message.role}")
        self.message = message
        self.body = ChatMarkdown(clean(message.text) or None)

    def compose(self) -> ComposeResult:
        """Role, body."""
        yield Static(_("You") if self.message.role == "user" else "ChatGLM", classes="role", markup=False)
        yield self.body


class AnswerView(MessageView):
    """An answer that is being written."""

    def append(self, text: str) -> None:
        """Add streamed text."""
        self.body.append(clean(text))

    async def finish(self, message: Message) -> None:
        """Show the finished message."""
        self.message = message

"""The conversation on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from textual.containers import VerticalScroll
from textual.message import Message as TextualMessage
from textual.reactive import var
from textual.widgets import Static

from glmtui.tui.text import clean
from glmtui.tui.widgets.markdown import ChatMarkdown
from glmtui.tui.widgets.message import AnswerView, MessageView

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message

NoticeKind = Literal["info", "warning", "error"]


class Transcript(VerticalScroll):
    """Messages and notices, oldest first."""

    DEFAULT_CSS = """
    Transcript { height: 1fr; padding: 0 1; }
    """

    @dataclass
    class BelowChanged(TextualMessage):
        """Whether there is text below the view changed."""

        transcript: Transcript
        below: bool

    @dataclass
    class MessageAction(TextualMessage):
        """The person wants something done with a message.

        `action`: copy, copy_code, edit, regenerate, continue, delete, quote, previous_branch, next_branch.
        `text` is what to copy or quote, where that is known here.
        """

        transcript: Transcript
        message_id: str
        action: str
        text: str = ""

    selected: var[str | None] = var(None)

    async def show(self, messages: Sequence[Message]) -> None:
        """Replace everything by these messages."""
        with self.app.batch_update():
            await self.remove_children()
            await self.mount_all([MessageView(message) for message in messages])
        self.anchor()

    async def add(self, message: Message) -> MessageView:
        """Add a message at the end and go there."""
        view = MessageView(message)
        await self.mount(view)
        self.anchor()
        return view

    async def begin_answer(self, message: Message) -> AnswerView:
        """Add an answer that is about to be written."""
        view = AnswerView(message)
        await self.mount(view)
        return view

    async def notice(self, text: str, kind: NoticeKind = "info") -> None:
        """Add a line of the app's own."""
        await self.mount(Static(clean(text), classes=f"notice -{kind}", markup=False))

    async def notice_markdown(self, text: str) -> None:
        """Add a longer text of the app's own, such as the help."""
        await self.mount(ChatMarkdown(clean(text), classes="notice"))

"""Opens, closes and deletes conversations, and remembers what was being written in each."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import paths
from glmtui.atomic import write_atomically
from glmtui.chat.conversation import Conversation
from glmtui.chat.state_log import Drafts, PromptHistory, QueuedMessage, QueuedMessages
from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.session.message_queue import Waiting

if TYPE_CHECKING:
    from glmtui.session.ui import Front


class Desk:
    """What lies in front of the person: one conversation, with a draft, and the prompts sent before."""

    def __init__(self, app: Front) -> None:
        self._app = app
        self._last = paths.state_dir() / "last-conversation"
        self.prompts = PromptHistory()
        self.drafts = Drafts()
        self._waiting: QueuedMessages | None = None
        self._waiting_ids: set[str] = set()
        self._unreadable: Conversation | None = None
        self._remembered: str | None = None
        """What the file of the open conversation says."""

    # --- at the start and the end ---

    async def open_first(self) -> None:
        """Open the conversation of the command line (made where there is none), else the last one."""
        wanted = self._app.options.conversation
        try:
            if wanted is not None:
                await self._app.controller.open(Conversation.at(wanted))
            elif last := self._last_path():
                await self._app.controller.open(self._app.library.open(last))
        except UserError as error:
            self._app.controller.view.notice(tell(error), "error")
        self._app.controller.view.conversation_changed()
        self._restore_draft()

    def leave(self) -> None:
        """Remember what is open and what was being written."""
        self.keep_draft()

    def _keep_open(self) -> None:
        """Remember which conversation is open."""
        opened = str(self._app.controller.conversation.path or "")
        if opened == self._remembered:
            return
        self._remembered = opened
        with suppress(OSError):  # only a convenience
            paths.make_private(self._last.parent)
            write_atomically(self._last, opened.encode())

    def _last_path(self) -> Path | None:
        try:
            text = self._last.read_text("utf-8").strip()
        except (OSError, ValueError):
            return None
        return Path(text) if os.path.isfile(text) else None

    # --- the open conversation ---

    async def open(self, conversation_id: str, message_id: str | None = None) -> None:
        """Read a conversation, at `message_id` and on its branch if given."""
        self.keep_draft()
        try:
            conversation = self._app.library.open(conversation_id)
            if message_id and conversation.is_deleted(message_id):
                message_id = None  # since it was found
            if message_id and message_id not in [message.id for message in conversation.branch()]:
                conversation.select(message_id)
        except UserError:
            self._app.controller.view.conversation_changed()
            raise
        await self._show(conversation, message_id)

    async def open_file(self, path: Path) -> None:
        """Read a conversation that may lie anywhere."""
        self.keep_draft()
        await self._show(self._app.library.open(path))

    async def new(self) -> None:
        """Begin an empty conversation."""
        self.keep_draft()
        await self._show(self._app.library.create())

    async def trash(self, conversation_id: str) -> None:
        """Move a conversation to the trash; undo brings it back."""
        app = self._app
        answer = app.controller.answer
        if answer and answer.conversation.id == conversation_id:
            raise UserError(_("This conversation is being answered. Esc stops it."))
        if any(item.conversation.id == conversation_id for item in app.controller.queue):
            raise UserError(_("Messages wait to be sent in this conversation: send or cancel them first."))
        app.library.trash(conversation_id)
        app.controller.can_undo(_("The conversation is back."), lambda: app.library.restore(conversation_id))
        if key := app.shown_key("history.undo"):
            app.say(_("Moved to the trash. /undo (or {key} in the list) brings it back.").format(key=key))
        else:
            app.say(_("Moved to the trash. /undo brings it back."))
        if conversation_id == app.controller.conversation.id:
            await app.controller.new()
        app.controller.view.conversation_changed()

    async def restore(self, conversation_id: str) -> None:
        """Bring a conversation back from the trash and read it."""
        self._app.library.restore(conversation_id)
        await self.open(conversation_id)
        self._app.say(_("The conversation is back."))

    async def pin(self, conversation_id: str) -> None:
        """Keep a conversation at the top of the list, or no longer."""
        app = self._app
        conversation = app.controller.conversation
        if conversation_id == conversation.id:
            pinned = not conversation.pinned
            conversation.pin(pinned)
        else:
            pinned = not app.library.find(conversation_id).pinned
            app.library.pin(conversation_id, pinned)
        app.say(_("Pinned to the top.") if pinned else _("No longer pinned."))
        app.controller.view.conversation_changed()

    async def take_in(self) -> None:
        """Show what others wrote to the open conversation; a file that cannot be read is named once."""
        controller = self._app.controller
        conversation = controller.conversation
        if controller.answer is not None or conversation is self._unreadable:
            return
        try:
            if conversation.refresh():
                await controller.open(conversation)
        except UserError as error:
            self._unreadable = conversation
            controller.view.notice(tell(error), "warning")

    async def rename(self, conversation_id: str) -> None:
        """Ask for a title."""
        app = self._app
        conversation = app.controller.conversation
        is_open = conversation_id == conversation.id
        present = conversation.title if is_open else app.library.find(conversation_id).title
        title = await app.ask(_("Title"), present)
        if title is None:
            return
        if is_open:
            conversation.rename(title)
        else:
            app.library.rename(conversation_id, title)
        app.controller.view.conversation_changed()

    async def _show(self, conversation: Conversation, message_id: str | None = None) -> None:
        await self._app.controller.open(conversation)
        self._restore_draft()
        self._keep_open()
        self._app.opened(message_id)

    # --- drafts ---

    def keep_draft(self) -> None:
        """Remember what is in the composer, and of which conversation."""
        self.drafts.set(self._draft_id, self._app.draft)
        self._keep_open()

    def keep_waiting(self) -> None:
        """Remember what waits for an answer to end, so that it is not lost if the program ends before."""
        waiting: dict[str, list[QueuedMessage]] = {}
        for item in self._app.controller.queue:
            waiting.setdefault(_draft_id(item.conversation), []).append(QueuedMessage.of(item.text, item.edits))
        for key in self._waiting_ids | waiting.keys():
            self._waiting_texts.set(key, waiting.get(key, ()))
        self._waiting_ids = set(waiting)

    def _restore_draft(self) -> None:
        self._app.draft = self.drafts.get(self._draft_id)
        self._restore_waiting()

    def _restore_waiting(self) -> None:
        """Put back, held, what waited in this conversation when an earlier glmtui ended."""
        controller = self._app.controller
        if self._draft_id in self._waiting_ids:
            return
        for item in self._waiting_texts.get(self._draft_id):
            controller.queue.add(Waiting(controller.conversation, item.text, item.edits, held=True))
        controller.view.status_changed()

    @property
    def _waiting_texts(self) -> QueuedMessages:
        if self._waiting is None:
            self._waiting = QueuedMessages()
        return self._waiting

    @property
    def _draft_id(self) -> str:
        return _draft_id(self._app.controller.conversation)


def _draft_id(conversation: Conversation) -> str:
    return conversation.id if conversation.path else ""

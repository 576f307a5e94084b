"""What a person can do with a conversation, from Return in the composer on. No widgets here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from glmtui.chat.conversation import Conversation
from glmtui.i18n import _
from glmtui.session.flow import AnswerFlow, no_model
from glmtui.session.message_queue import Waiting, Wanted

if TYPE_CHECKING:
    from glmtui.chat.library import Library
    from glmtui.session.model_link import ModelLink
    from glmtui.session.view import ChatView
    from glmtui.settings.settings import Settings


class ChatController(AnswerFlow):
    """Leads the open conversation: sends, stops, goes back and on, as the person wants."""

    def __init__(self, link: ModelLink, library: Library, settings: Settings, view: ChatView) -> None:
        super().__init__(link, library, settings, view)
        self.editing: str | None = None
        """Id of the message whose new version is in the composer."""
        self._place: int | None = None
        """Where in the queue the message in the composer was taken from."""
        self._undo: list[tuple[str, Callable[[], object]]] = []

    # --- sending ---

    async def submit(self, text: str) -> None:
        """Send what a person wrote, now or when the answer before it is complete."""
        item = Waiting(self.conversation, text, self.editing)
        place, self.editing, self._place = self._place, None, None
        with self._wishes.one() as wish:
            async with self._lock:
                if self.status.activity == "none":
                    self.editing = item.edits
                    self.view.restore(text)
                    self.view.notice(no_model(), "warning")
                elif self.answer or self._wanted:
                    item.held = wish.stopped()
                    self.queue.add(item, place)
                    self.view.status_changed()
                else:
                    await self._send(item, wish)

    async def regenerate(self, message_id: str | None = None) -> None:
        """Answer again: the answer `message_id`, or the last one. The old answer stays as another version."""
        with self._wishes.one() as wish:
            async with self._lock:
                if self._refuse_while_busy() or self._refuse_without_model():
                    return
                branch = self.conversation.branch()
                ids = [message.id for message in branch]
                at = ids.index(message_id) if message_id in ids else len(branch) - 1
                while at >= 0 and branch[at].role != "user":
                    at -= 1
                if at < 0:
                    self.view.notice(_("There is nothing to answer yet."))
                    return
                self._say_if_it_waits()
                await self._generate(Wanted(self.conversation, ids[at]), wish)

    async def continue_answer(self) -> None:
        """Let the model go on with an answer that was stopped or cut."""
        with self._wishes.one() as wish:
            async with self._lock:
                if self._refuse_while_busy() or self._refuse_without_model():
                    return
                branch = self.conversation.branch()
                if not branch or branch[-1].role != "assistant" or not branch[-1].text:
                    self.view.notice(_("There is no answer to go on with."))
                    return
                self._say_if_it_waits()
                await self._generate(Wanted(self.conversation, branch[-1].id, continued=True), wish)

    def stop(self) -> bool:
        """Stop the answer, or what is about to be one, or the load; return whether there was something.

        What waits in the queue is held then: it is not sent before the person says so.
        """
        if self.answering:
            self._wishes.stop()
            if self.answer:
                self.link.cancel(self.answer.request_id)
        elif self.link.loading:
            self.link.cancel()
        else:
            return False
        self._wanted = None
        self.queue.hold()
        self.view.status_changed()
        return True

    def edit(self, message_id: str | None) -> None:
        """Let what is sent next be another version of a message; None: no longer."""
        self.editing, self._place = message_id, None
        self.view.status_changed()

    # --- what waits in the open conversation ---

    def unqueue(self, number: int = -1) -> str | None:
        """Take a waiting message out to change it: by its number, else the last. It keeps its place."""
        item = self.queue.take(self.conversation, number)
        if item is None:
            return None
        self.editing, self._place = item.edits, number % (len(self.waiting) + 1)
        self.view.status_changed()
        return item.text

    def drop(self, number: int) -> bool:
        """Give a waiting message up; `undo` brings it back."""
        item = self.queue.take(self.conversation, number)
        if item is not None:
            self.can_undo(_("The message waits again."), lambda: self.queue.add(item, number))
            self.view.status_changed()
        return item is not None

    def move(self, number: int, by: int) -> int:
        """Let a waiting message change places with the one `by` places further; return its number then."""
        moved = self.queue.move(self.conversation, number, by)
        self.view.status_changed()
        return moved

    async def send_waiting(self, number: int | None = None) -> bool:
        """Send a waiting message next, or all of them, also if held; return whether there was one."""
        async with self._lock:
            mine = self.waiting
            chosen = mine if number is None else mine[number : number + 1]
            self.queue.release(chosen)
            await self._send_next()
            self.view.status_changed()
            return bool(chosen)

    # --- the conversation ---

    async def attach(self, *, shown: bool = False) -> None:
        """Show the open conversation, with the answer being made; `shown`: it is there, but changed."""
        running = self.answer if self.answer and self.answer.conversation is self.conversation else None
        branch = self.conversation.branch()
        if running and branch and branch[-1].id == running.message_id:
            await self.view.show(branch[:-1])
            running.handle = await self.view.begin_answer(branch[-1])
            running.handle.append(running.text[len(branch[-1].text) :])  # what the file has not got yet
        else:
            await (self.view.show_changes(branch) if shown else self.view.show(branch))
        self.view.conversation_changed()
        self.view.status_changed()
        self.measure()

    async def view_anew(self, build: Callable[[], Awaitable[None]]) -> None:
        """Let the view be built again and show the open conversation in it, and nothing else meanwhile."""
        async with self._lock:
            await build()
            await self.attach()

    async def open(self, conversation: Conversation) -> None:
        """Read another conversation, or what changed in the open one.

        One that is being answered is the same object as before.
        """
        async with self._lock:
            if self.answer:
                self.answer.handle = None
            in_use = [self.answer, self._wanted, *self.queue]
            same = [each.conversation for each in in_use if each and each.conversation.id == conversation.id]
            wanted = same[0] if same else conversation
            shown = wanted is self.conversation
            if not shown:
                self.editing = self._place = None
            self.conversation = wanted
            self.status.used = 0
            await self.attach(shown=shown)

    async def new(self) -> None:
        """Begin an empty conversation."""
        await self.open(self.library.create())

    async def select(self, message_id: str) -> None:
        """Go to the branch with this message."""
        async with self._lock:
            if self._refuse_while_busy() or self.conversation.is_deleted(message_id):
                return
            with self._saving():
                self.conversation.select(message_id)
            await self.attach()

    async def delete(self, message_id: str) -> None:
        """Hide a message and what follows it; `undo` brings it back."""
        async with self._lock:
            conversation = self.conversation
            if self._refuse_while_busy() or conversation.is_deleted(message_id):
                return
            with self._saving():
                conversation.delete(message_id)
            self.can_undo(_("The message is back."), lambda: conversation.undelete(message_id))
            await self.attach()

    def can_undo(self, said: str, action: Callable[[], object]) -> None:
        """Remember how to take something back, and what to say then."""
        self._undo.append((said, action))

    async def undo(self) -> str | None:
        """Take back the last deletion; return what to say, or None when there is none."""
        if not self._undo:
            return None
        said, action = self._undo.pop()
        async with self._lock:
            action()
            await self.attach()
        return said

    def _refuse_while_busy(self) -> bool:
        if self.answer is not None:
            self.view.notice(_("An answer is being written. Esc stops it."), "warning")
        return self.answer is not None

    def _refuse_without_model(self) -> bool:
        absent = self.status.activity == "none"
        if absent:
            self.view.notice(no_model(), "warning")
        return absent

    def _say_if_it_waits(self) -> None:
        if self.status.info is None:
            self.view.notice(_("The answer comes as soon as the model is loaded."))

"""The flow of a conversation: from Return in the composer to the answer in the file. No widgets here.

What a person writes is on disk before anything is generated. An answer belongs to the conversation it was
asked in: it goes on, and is saved, while another one is open. One answer runs at a time; what is sent
meanwhile waits in a queue, and what is asked for while a model is loaded waits for it. A stop holds whenever
it comes, also before the worker has heard of what it stops.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glmtui.chat.conversation import Conversation, Message, State
from glmtui.engine.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Generate,
    Load,
    Loaded,
    LoadProgress,
    PromptProgress,
    Started,
    Stats,
    TokenCount,
    Tokens,
    Unloaded,
)
from glmtui.i18n import _, ngettext
from glmtui.session.answer import Answer
from glmtui.session.context import Context
from glmtui.session.model_link import ChatStatus, ModelLink
from glmtui.session.view import ChatView, Saving
from glmtui.session.waiting import Queue, Waiting, Wanted, Wish, Wishes

if TYPE_CHECKING:
    from glmtui.chat.library import Library
    from glmtui.settings import Settings

_LOAD_SETTINGS = ("device", "gpus", "quant", "threads", "ptuning")


class ChatController:
    """Holds the open conversation, the running answer and the queue."""

    def __init__(self, link: ModelLink, library: Library, settings: Settings, view: ChatView) -> None:
        self.link = link
        self.library = library
        self.settings = settings
        self.view = view
        self.conversation: Conversation = library.create()
        self.answer: Answer | None = None
        self.queue = Queue()
        self.editing: str | None = None
        """Id of the message whose new version is in the composer."""
        self._place: int | None = None
        """Where in the queue the message in the composer was taken from."""
        self.beside: Callable[[Event], bool] = lambda _event: False
        """Takes what the worker says of other things than the model; returns whether it knew of it."""
        self.load_refused: Callable[[Failed], None] = lambda _event: None
        """Called when a model could not be loaded and the settings are as before."""
        self.stats: Stats | None = None
        """The measure of the last answer."""
        self.sender: Mapping[str, str] = {}
        """Kept with every message that is sent: where it was written, if not in the app."""
        self._wanted: Wanted | None = None
        self._wishes = Wishes()
        self._undo: list[tuple[str, Callable[[], object]]] = []
        self._context = Context(link, settings)
        self._lock = asyncio.Lock()
        self._saving = Saving(view)

    @property
    def status(self) -> ChatStatus:
        """What the status line shows."""
        return self.link.status

    @property
    def busy(self) -> bool:
        """Whether an answer is being made or a model loaded."""
        return bool(self.answering or self._wanted or self.link.loading)

    @property
    def answering(self) -> bool:
        """Whether an answer is being made, or about to be."""
        return bool(self.answer or self._wishes)

    @property
    def waiting(self) -> list[Waiting]:
        """The queue of the open conversation."""
        return self.queue.of(self.conversation)

    # --- the model ---

    def load(self, *, source: str | None, name: str) -> None:
        """Load `source` with the settings for devices, quantisation, threads and P-tuning."""
        settings: Mapping[str, Any] = {key: self.settings[f"model.{key}"] for key in _LOAD_SETTINGS}
        self.link.load(Load(source=source, **settings), name)
        self.view.status_changed()

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
                    self.view.notice(_no_model(), "warning")
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

    def measure(self, draft: str = "") -> None:
        """Ask how many tokens the conversation has and `draft` would add; the status shows the answers."""
        self._context.measure(self.conversation, draft)
        self.view.status_changed()

    # --- events ---

    async def poll(self) -> None:
        """Take in what the worker has said; call it about twelve times a second."""
        if events := self.link.take_events():
            async with self._lock:
                for event in events:
                    await self._handle(event)
            self.view.status_changed()

    def close(self) -> None:
        """Keep what came of the running answer and let the worker go. Returns at once."""
        if self.answer:
            self._finish(self.answer, "stopped", None)
        self.link.close()

    async def _handle(self, event: Event) -> None:
        answer = self.answer if self.answer and self.answer.request_id == event.request_id else None
        match event:
            case LoadProgress() if self.link.is_load(event.request_id):
                self.link.progress(event)
            case Loaded() if self.link.is_load(event.request_id):
                await self._on_loaded(event)
            case Failed() | Cancelled() | Unloaded() if self.link.is_load(event.request_id):
                self._on_load_ended(event)
            case TokenCount():
                self._context.take(event)
            case Started() if answer:
                self._on_started(event)
            case PromptProgress() if answer:
                self.status.fraction = event.fraction
            case Tokens() if answer:
                self._on_tokens(answer, event)
            case Done() if answer:
                await self._on_end(answer, "length" if event.reason == "length" else "done", event.stats)
            case Cancelled() if answer:
                await self._on_end(answer, "stopped", event.stats)
            case Failed() if answer:
                self.view.notice(event.message, "error")
                await self._on_end(answer, "failed", None, error=event.message)
            case _:
                self.beside(event)  # or of a request that was replaced since

    async def _on_loaded(self, event: Loaded) -> None:
        self.link.loaded(event)
        self.settings.follow(event.info)
        self.view.model_changed()
        if event.info.note:
            self.view.notice(event.info.note, "info")
        wanted, self._wanted = self._wanted, None
        with self._wishes.one() as wish:
            if wanted and wanted.message_id in [message.id for message in wanted.conversation.branch()]:
                await self._generate(wanted, wish)
        await self._send_next()
        self.measure()

    def _on_load_ended(self, event: Failed | Cancelled | Unloaded) -> None:
        name, self._wanted = self.status.loading, None
        former = self.link.load_ended(kept=isinstance(event, Failed) and event.model_kept)
        if isinstance(event, Failed):
            self.view.notice(event.message, "error" if event.absent is None else "info")
            if former is not None:
                self._go_back(*former, loaded=event.model_kept)
            self.load_refused(event)
        elif isinstance(event, Cancelled):
            self.view.notice(_("Loading {name} was stopped.").format(name=name))
        if self.status.activity == "none" and not isinstance(event, Unloaded):
            self.view.notice(_no_model())
        self.queue.hold()

    def _go_back(self, former: Load, name: str, *, loaded: bool) -> None:
        """Let everything be as before a load that failed: the settings, and the model in memory."""
        for key in ("source", *_LOAD_SETTINGS):
            if self.settings[f"model.{key}"] != getattr(former, key):
                self.settings.set(f"model.{key}", getattr(former, key))
        if not loaded:
            self.link.load(replace(former, request_id=Load().request_id), name)

    def _on_started(self, event: Started) -> None:
        self.status.used, self.status.limit = event.prompt_tokens, event.limit
        if event.dropped_rounds:
            self.view.notice(
                ngettext(
                    "The conversation has outgrown the context: the oldest round is no longer sent.",
                    "The conversation has outgrown the context: the {n} oldest rounds are no longer sent.",
                    event.dropped_rounds,
                ).format(n=event.dropped_rounds)
            )

    def _on_tokens(self, answer: Answer, event: Tokens) -> None:
        answer.add(event, self._saving)
        self.status.activity = "answering"
        self.status.used += event.count
        self.status.tokens_per_second = answer.speed.rate

    async def _on_end(self, answer: Answer, state: State, stats: Stats | None, *, error: str = "") -> None:
        handle, seconds = answer.handle, time.monotonic() - answer.since
        message = self._finish(answer, state, stats, error)
        if handle:
            await handle.finish(message)
        self.view.conversation_changed()
        if state in ("done", "length"):
            self.view.answer_ended(seconds)
        if state == "failed":
            self.queue.hold()
        await self._send_next()

    def _finish(self, answer: Answer, state: State, stats: Stats | None, error: str = "") -> Message:
        self.answer, self.stats = None, stats
        if not self.link.loading:
            self.status.activity = "ready"
        if stats:
            self.status.tokens_per_second = stats.tokens_per_second
            self.status.used = stats.prompt_tokens + stats.answer_tokens
        return answer.finish(self._saving, state, stats, error)

    # --- the way of one message ---

    async def _send_next(self) -> None:
        """Send what waits, if it may be sent now."""
        if self.answer or self.status.activity != "ready":
            return
        if (item := self.queue.next()) is not None:
            with self._wishes.one() as wish:
                await self._send(item, wish)

    async def _send(self, item: Waiting, wish: Wish) -> None:
        conversation = item.conversation
        parent: dict[str, Any] = {}
        if item.edits and item.edits in conversation.messages:
            parent = {"parent": conversation.messages[item.edits].parent}
        with self._saving():
            conversation.append("user", item.text, meta=self.sender, **parent)
        branch = conversation.branch()
        if conversation is self.conversation:
            await (self.view.show(branch) if parent else self.view.add(branch[-1]))
            self.view.conversation_changed()
        await self._generate(Wanted(conversation, branch[-1].id), wish)

    async def _generate(self, wanted: Wanted, wish: Wish) -> None:
        conversation, info = wanted.conversation, self.status.info
        if wish.stopped():
            return
        if info is None:  # still loading: `_on_loaded` comes back here
            self._wanted = wanted
            return
        again = wanted.continued or conversation.leaf != wanted.message_id
        if not wanted.continued:
            meta = {"model": info.name, "quant": info.quant, "device": info.device}
            with self._saving():
                conversation.append("assistant", "", parent=wanted.message_id, state="partial", meta=meta)
        message = conversation.branch()[-1]
        request = Generate(
            self._context.turns(conversation),  # the new answer, still empty, is left out
            self.settings.sampling(conversation.settings),
            continue_answer=wanted.continued,
        )
        now = time.monotonic()
        self.answer = answer = Answer(
            conversation, message.id, request.request_id, message.text, len(message.text), now, now
        )
        self.status.activity, self.status.fraction, self.status.since = "reading", 0.0, now
        self.status.tokens_per_second = None
        if conversation is self.conversation:
            if again:
                await self.view.show(conversation.branch()[:-1])
            answer.handle = await self.view.begin_answer(message)
        if self.answer is not answer:  # the program was left meanwhile
            return
        if wish.stopped():
            await self._on_end(answer, "stopped", None)
            return
        self.link.worker.submit(request)
        self.view.status_changed()

    def _refuse_while_busy(self) -> bool:
        if self.answer is not None:
            self.view.notice(_("An answer is being written. Esc stops it."), "warning")
        return self.answer is not None

    def _refuse_without_model(self) -> bool:
        absent = self.status.activity == "none"
        if absent:
            self.view.notice(_no_model(), "warning")
        return absent

    def _say_if_it_waits(self) -> None:
        if self.status.info is None:
            self.view.notice(_("The answer comes as soon as the model is loaded."))


def _no_model() -> str:
    return _("No model is loaded. /model nano loads the small built-in one, /model FOLDER another.")

"""From a message that is sent to the answer in its file, and what the worker says on the way.

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
from glmtui.i18n import _, ngettext, tell
from glmtui.protocol.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Loaded,
    LoadProgress,
    PromptProgress,
    Started,
    Stats,
    TokenCount,
    Tokens,
    Unloaded,
)
from glmtui.protocol.requests import Generate, Load
from glmtui.session.answer import Answer
from glmtui.session.context import Context
from glmtui.session.message_queue import Queue, Waiting, Wanted, Wish, Wishes
from glmtui.session.model_link import ChatStatus, ModelLink
from glmtui.session.view import ChatView, Saving

if TYPE_CHECKING:
    from glmtui.chat.library import Library
    from glmtui.settings.settings import Settings

_LOAD_SETTINGS = ("device", "gpus", "quant", "threads", "ptuning")


class AnswerFlow:
    """Holds the open conversation, the running answer and the queue, and lets them go on by themselves."""

    def __init__(self, link: ModelLink, library: Library, settings: Settings, view: ChatView) -> None:
        self.link = link
        self.library = library
        self.settings = settings
        self.view = view
        self.conversation: Conversation = library.create()
        self.answer: Answer | None = None
        self.queue = Queue()
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

    def measure(self, draft: str | None = None) -> None:
        """Ask how many tokens the conversation has and `draft` would add; the status shows the answers.

        None: the draft is as it was last told.
        """
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
                self.view.notice(tell(event.phrase), "error")
                await self._on_end(answer, "failed", None, error=tell(event.phrase))
            case _:
                self.beside(event)  # or of a request that was replaced since

    async def _on_loaded(self, event: Loaded) -> None:
        self.link.loaded(event)
        self.settings.follow(event.info)
        self.view.model_changed()
        if event.info.note:
            self.view.notice(tell(event.info.note), "info")
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
            self.view.notice(tell(event.phrase), "error" if event.absent is None else "info")
            if former is not None:
                self._go_back(*former, loaded=event.model_kept)
            self.load_refused(event)
        elif isinstance(event, Cancelled):
            self.view.notice(_("Loading {name} was stopped.").format(name=name))
        if self.status.activity == "none" and not isinstance(event, Unloaded):
            self.view.notice(no_model())
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


def no_model() -> str:
    """Say that there is none, and how to get one."""
    return _("No model is loaded. /model nano loads the small built-in one, /model FOLDER another.")

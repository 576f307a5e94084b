"""One chat without a screen: what a person can do with it, and what comes of it.

What a person writes is on disk before anything is generated. An answer belongs to the conversation it was
asked in: it continues, and is saved, while another one is open. One answer runs at a time; what is sent
meanwhile is queued, and what is asked for while a model is loaded comes after the load. A cancel holds
whenever it comes, also before the engine has heard of what it cancels.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glmtui import i18n
from glmtui.chat.conversation import Conversation, new_message_id
from glmtui.chat.state_log import Draft
from glmtui.chat.state_log import QueuedMessage as StoredMessage
from glmtui.errors import NotFoundError, TooLongError, UserError
from glmtui.failures import Faults, describe
from glmtui.protocol import events as engine
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.messages import Attachment, ChatMessage, Part, Source, Text
from glmtui.protocol.phrases import NOTHING, Phrase, Sayable, _, listing, ngettext, sentences
from glmtui.protocol.requests import Generate, Prefill
from glmtui.session import events as told
from glmtui.session import keys
from glmtui.session.answer_task import AnswerTask
from glmtui.session.attached_file import in_full, parts_of
from glmtui.session.context import COLLECTION, WEB, Context, ContextProvider, fewer, fit, gather, names
from glmtui.session.documents import DocumentJobs
from glmtui.session.events import Kind, Listener, SessionEvent, SessionState
from glmtui.session.import_job import ImportJob
from glmtui.session.message_queue import CancelScopes, MessageQueue, QueuedMessage, stored_id
from glmtui.session.model_jobs import ModelJobs
from glmtui.session.model_loader import ModelLoader
from glmtui.session.preferences import Preferences
from glmtui.session.prompt_builder import PromptBuilder
from glmtui.session.read_ahead import ReadAhead
from glmtui.session.serving import Serving
from glmtui.session.slash.command import CommandTable
from glmtui.session.token_counter import TokenCounter
from glmtui.session.workspace import Workspace

if TYPE_CHECKING:
    from glmtui.chat.library import Library
    from glmtui.chat.tree import Message, State
    from glmtui.protocol.engine import Engine
    from glmtui.protocol.models import ModelInfo, ModelSpec
    from glmtui.session.attached_file import AttachedFile
    from glmtui.session.ui import Ui
    from glmtui.settings.settings import Settings


_Saved = Literal["conversation", "queue", "draft"]
_RETRY_SECONDS = 2.0
"""Between two attempts to write what could not be written."""


@dataclass(frozen=True)
class _PendingAnswer:
    """An answer that is made as soon as there is a model."""

    conversation: Conversation
    message_id: str
    """The message to answer, or the answer to continue."""
    continued: bool = False


class ChatSession:
    """Leads the open conversation, the running answer, the queue and the model.

    Args:
        make_engine: makes what runs models, when it is first needed.
        library: the conversations.
        settings: read already; from now on only the session changes them.
        ui: the program around it.
        commands: the slash commands.
        sender: kept with every message that is sent: where it was written, if not in the app.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        library: Library,
        settings: Settings,
        ui: Ui,
        commands: CommandTable,
        sender: Mapping[str, str] | None = None,
    ) -> None:
        self.library = library
        self.settings = settings
        self.ui = ui
        self.commands = commands
        self.state = SessionState()
        self.conversation: Conversation = library.create()
        self.answer: AnswerTask | None = None
        self.stats: engine.Stats | None = None
        """The measure of the last answer."""
        self.numbered: Sequence[Path] = ()
        """The conversations that a list showed with numbers last: ``/load 2``."""
        self.workspace = Workspace()
        self.preferences = Preferences(settings, lambda: self.conversation, self._settings_changed)
        self._sender = dict(sender or {})
        self.faults = Faults()
        """The unexpected errors that were met."""
        self._listeners: list[Listener] = []
        self._loader = ModelLoader(make_engine)
        self._counter = TokenCounter(lambda: self._loader.engine)
        self._ahead = ReadAhead(lambda: self._loader.engine)
        self.models = ModelJobs(lambda: self._loader.engine, self.notice, settings)
        self.imports = ImportJob(library, lambda how_far: self._update(importing=how_far))
        self.serving = Serving(
            lambda: self._loader.engine, lambda: self.state.info, settings.sampling, lambda: self.busy
        )
        self._prompt = PromptBuilder(settings)
        self.context = Context(settings)
        self.documents = DocumentJobs(self.notice, lambda said: self.notice(said, "warning"))
        self._queue = MessageQueue(self._keep_queued)
        self._scopes = CancelScopes()
        self._pending: _PendingAnswer | None = None
        self._lock = asyncio.Lock()
        self._undo: list[tuple[Phrase, Callable[[], object]]] = []
        """What to say when something was taken back, and how to."""
        self._draft = ""
        self._place: int | None = None
        """Where in the queue the message that is being written was taken from."""
        self._kept_parts: tuple[Part, ...] = ()
        """What belongs to the message that is written anew, besides its text."""
        self._message_id = new_message_id()
        """Of the message that is being written."""
        self._faults: dict[_Saved, Phrase] = {}
        """What cannot be written, which is said once as long as it lasts."""
        self._left: list[Conversation] = []
        """Others than the open one, of which not all is on disk."""
        self._retry_at = 0.0
        self._unreadable: Conversation | None = None

    # --- what a program around it needs ---

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of everything that happens from now on."""
        self._listeners.append(listener)

    def notice(self, text: Sayable, kind: Kind = "info") -> None:
        """Say something of the program's own among the messages."""
        self._publish(told.Noticed(text, kind))

    @property
    def answering(self) -> bool:
        """Whether an answer is being made, or about to be."""
        return bool(self.answer or self._scopes)

    @property
    def loading(self) -> bool:
        """Whether a model is on its way."""
        return self._loader.loading

    @property
    def busy(self) -> bool:
        """Whether an answer is being made or a model loaded."""
        return bool(self.answering or self._pending or self.loading)

    @property
    def queued(self) -> list[QueuedMessage]:
        """What is queued in the open conversation."""
        return self._queue.of(self.conversation)

    async def enter(self, line: str, attached: Sequence[AttachedFile] = ()) -> None:
        """Do what a person typed: a command, or a message for the model. What goes wrong is said."""
        conversation, stored = self.conversation, stored_id(self.conversation)
        command = self.commands.parse(line)
        if command is not None and command.command is None and self.ui.has_keys:
            self.ui.put_draft(line.strip())  # without a screen it stands in sight, and in what ↑ brings back
        else:
            with self.saying_errors():
                self.workspace.prompts.add(in_full(line, attached))  # what ↑ brings back names no file
        leaf, done = conversation.leaf, False
        with self.saying_errors():
            if command is None:
                await self.send(self.commands.message(line), attached)
            else:
                await self.commands.run(self, command)
            done = True
        if not done and command is None and conversation.leaf == leaf:  # it is not lost
            self.ui.put_draft(in_full(line, attached))
        if stored != stored_id(conversation):  # it has a file now, and its draft another name
            self.workspace.keep_draft(stored, Draft(self.ui.draft()))
        if conversation is self.conversation:  # what was entered is a draft no longer
            self._keep_draft(self.ui.draft())

    async def run(self, name: str, argument: str = "") -> None:
        """Do what the command `name` does. What goes wrong is said."""
        with self.saying_errors():
            await self.commands.run(self, self.commands.line(name, argument))

    @contextmanager
    def saying_errors(self) -> Iterator[None]:
        """Around what a person asked for: say what went wrong instead of raising it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (whatever it is, the program and what it holds live on)
            self.notice(self.faults.describe(error)[0], "error")

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Around what happens by itself: say what went wrong, once, instead of raising it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (as above)
            phrase, is_new = self.faults.describe(error)
            if is_new:
                self.notice(phrase, "error")

    async def poll(self) -> None:
        """Take in what came from the engine; call it about twelve times a second."""
        async with self._lock:
            if (answer := self.answer) is not None:
                await self._poll_answer(answer)
            if time.monotonic() >= self._retry_at:
                self._save_again()
            for load in self._loader.drain():
                with self.guarding():
                    await self._on_load(load)
            with self.guarding():
                self._poll_figures()

    async def _poll_answer(self, answer: AnswerTask) -> None:
        """Take in what came of an answer; one whose end could not be taken in has failed."""
        if answer.gathering is not None and answer.gathering.done():
            with self.guarding():
                await self._on_gathered(answer, answer.gathering)
        for event in answer.stream.drain() if answer.stream is not None else ():
            if self.answer is answer:  # else its end came
                with self.guarding():
                    await self._on_answer(answer, event)
        for event in answer.ahead.drain() if answer.ahead is not None else ():
            if isinstance(event, engine.PromptProgress) and self.answer is answer:
                with self.guarding():
                    await self._on_answer(answer, event)
        if answer.ended and self.answer is answer:
            with self.guarding():
                await self._on_end(answer, "failed", None)
        if self.answer is answer:
            answer.save(self._saving)

    def _poll_figures(self) -> None:
        """Take in counts of tokens, and what is known of models and documents."""
        if self._counter.poll():
            self._update(used=self._counter.used, draft=self._counter.draft)
        if self.models.poll():
            running = self.models.download
            self._update(download=(running.source, running.fraction) if running else None)
            self._publish(told.ModelsChanged())
        self._update(indexing=self.documents.progress)

    def close(self) -> None:
        """Keep what came of the running answer and what is being written; let the engine go. At once."""
        self._keep_draft(self.ui.draft())
        self._scopes.cancel()  # what is about to be an answer becomes none
        self.documents.stop()
        self.imports.stop()
        if self.answer:
            self.answer.cancel()
            self._finish(self.answer, "stopped", None)
        self._save_again()
        self.serving.stop()
        self._loader.close()

    # --- the model ---

    def load(self, spec: ModelSpec | None = None) -> None:
        """Load a model, by default the one that the settings name, in place of the one in memory."""
        chosen = spec or self.settings.model_spec()
        if self.answer is not None:
            self.answer.cancel()
        self._counter.cancel()
        self._ahead.cancel()
        self._loader.load(chosen)
        self._begin_state(activity="loading", loading=chosen.name, since=time.monotonic())

    def measure(self) -> None:
        """Count the tokens of the conversation and of the draft; the state has the figures later."""
        self._update(documents=self.context.collection(self.conversation))
        if (info := self.state.info) is None:
            return
        longest = self.settings.sampling(self.conversation.settings).max_length
        self._update(limit=min(longest, info.max_length))
        if self.state.activity != "ready":
            return
        messages = self._prompt.build(self.conversation, (), info)
        self._counter.ask(messages, self._draft)
        self._update(used=self._counter.used, draft=self._counter.draft)
        if self._draft.strip() and self._may_read_ahead(info):
            sampling = self.settings.sampling(self.conversation.settings)
            self._ahead.ask(Prefill((*messages, ChatMessage.of("user", self._draft)), sampling))

    def _may_read_ahead(self, info: ModelInfo) -> bool:
        """Whether what is being written will be the end of a prompt that the model here reads."""
        plain = self.state.editing is None and not self._kept_parts and "@http" not in self._draft
        sourceless = not self.context.collection(self.conversation)
        return bool(self.settings["ui.read_ahead"]) and not info.server and plain and sourceless

    # --- sending ---

    async def send(self, text: str, attached: Sequence[AttachedFile] = (), *, web: str = "") -> None:
        """Send what a person wrote, now or when the answer before it is complete.

        Args:
            text: what they wrote.
            attached: the files it names.
            web: what the web is asked before the answer; empty: nothing.
        """
        edits, place, kept = self.state.editing, self._place, self._kept_parts
        conversation = self.conversation
        self._edit(None)
        with self._scopes() as scope:
            async with self._lock:
                why = _only_read() if conversation.newer_format else NOTHING
                parts = kept
                try:
                    parts = parts_of(text, attached, kept, conversation.attachments)
                except UserError as error:  # its files could not be stored: they stay in the draft, in full
                    why, text = error.phrase, in_full(text, attached)
                if not why and self.state.activity == "none":
                    why = self._no_model()
                if why:
                    self._edit(edits, place, parts)
                    self.ui.put_draft(text)
                    self.notice(why, "error" if self.state.activity != "none" else "warning")
                    return
                item = QueuedMessage(
                    conversation, parts, edits, self._message_id, on_hold=scope.cancelled, web=web
                )
                self._message_id = new_message_id()
                if self.answer or self._pending:
                    self._queue.add(item, place)
                    self._show_queue()
                else:
                    await self._send(item, scope)

    async def regenerate(self, message_id: str | None = None) -> None:
        """Answer again: the answer `message_id`, or the last one. The old answer stays as another version."""

        def question(branch: Sequence[Message]) -> Message | None:
            ids = [message.id for message in branch]
            upto = branch[: ids.index(message_id) + 1] if message_id in ids else branch
            return next((message for message in reversed(upto) if message.role == "user"), None)

        await self._answer(question, _("There is nothing to answer yet."))

    async def continue_answer(self) -> None:
        """Let the model continue an answer that was cancelled or cut."""

        def last(branch: Sequence[Message]) -> Message | None:
            answered = branch and branch[-1].role == "assistant" and branch[-1].parts
            return branch[-1] if answered else None

        await self._answer(last, _("There is no answer to continue."), continued=True)

    async def _answer(
        self,
        find: Callable[[Sequence[Message]], Message | None],
        nothing: Phrase,
        *,
        continued: bool = False,
    ) -> None:
        """Answer, or continue, the message that `find` chooses of the branch; say `nothing` if it is None."""
        with self._scopes() as scope:
            async with self._lock:
                if self._refuse_changes():
                    return
                if self.state.activity == "none":
                    self.notice(self._no_model(), "warning")
                elif (message := find(self.conversation.branch())) is None:
                    self.ui.say(nothing)
                else:
                    if self.state.info is None:
                        self.notice(_("The answer comes as soon as the model is loaded."))
                    await self._generate(_PendingAnswer(self.conversation, message.id, continued), scope)

    def stop(self) -> bool:
        """Cancel the answer, or what is about to be one, the load or an import; return whether there was one.

        What is queued is on hold then: it is not sent before the person says so.
        """
        if self.answering:
            self._scopes.cancel()
            if self.answer:
                self.answer.cancel()
        elif self.loading:
            self._loader.cancel()
        elif self.imports.running:
            self.imports.stop()
            return True
        else:
            return self.documents.stop()
        self._pending = None
        self._queue.hold()
        self._show_queue()
        return True

    def edit(self, message_id: str) -> None:
        """Let the person write another version of a message of theirs, from the present one on."""
        message = self.conversation.messages[message_id]
        self._edit(message_id, None, message.parts)
        self.ui.put_draft(message.text)

    def edit_no_more(self) -> None:
        """Let what is sent next be a message of its own; files that it names go with it all the same."""
        self._edit(None, None, tuple(part for part in self._kept_parts if isinstance(part, Attachment)))

    def draft_changes(self, text: str) -> None:
        """Leave the machine to the person who types: what was read ahead was another draft. Call it at once.

        Nothing is what a draft is when it is sent, for which it is read.
        """
        if text.strip() and text != self._draft:
            self._ahead.cancel()

    def draft_changed(self, text: str) -> None:
        """Remember what is being written, count it and read it ahead. Call it when the person pauses."""
        if text != self._draft:
            self._ahead.cancel()
        self._keep_draft(text)
        self.measure()

    # --- what is queued in the open conversation ---

    def unqueue(self, number: int = -1) -> bool:
        """Let the person change a queued message: by its number, else the last. It keeps its place."""
        if (item := self._queued_at(number)) is None:
            return False
        self._edit(item.edits, number % len(self.queued), item.parts)
        self._message_id = item.id
        text = "\n".join(filter(str.strip, (item.text, self.ui.draft())))
        if not self._keep_draft(text):  # before it is in the queue no longer
            self._edit(None)
            return True
        self._queue.remove(item)
        self.ui.put_draft(text)
        self._show_queue()
        return True

    def _queued_at(self, number: int) -> QueuedMessage | None:
        mine = self.queued
        return mine[number] if -len(mine) <= number < len(mine) else None

    def cancel_queued(self, number: int) -> bool:
        """Give a queued message up; `undo` brings it back."""
        item = self._queued_at(number)
        if item is not None:
            self._queue.remove(item)
            self._undo.append((_("The message waits again."), lambda: self._queue.add(item, number)))
            self._show_queue()
            self.ui.say(_("Cancelled. /undo brings it back."))
        return item is not None

    def move_queued(self, number: int, by: int) -> int:
        """Let a queued message change places with the one `by` places further; return its number then."""
        moved = self._queue.move(self.conversation, number, by)
        self._show_queue()
        return moved

    async def send_queued(self, number: int | None = None) -> None:
        """Send a queued message next, or all of them, also if on hold."""
        async with self._lock:
            mine = self.queued
            self._queue.release(mine if number is None else mine[number : number + 1])
            await self._send_next()
            self._show_queue()

    # --- conversations ---

    async def open_first(self, path: Path | None = None) -> None:
        """Open the conversation in the file `path` (made where there is none), else the one open last."""
        with self.saying_errors():
            if path is not None:
                await self._open(Conversation.at(path), chosen=True)
            elif last := self.workspace.last_open():
                await self._open(self.library.open(last))
        self._tell_conversation()
        self._restore()

    async def open(self, conversation: str | Path, message_id: str | None = None) -> None:
        """Read a conversation (by its id, or any by its file), at `message_id` and on its branch if given."""
        try:
            opened = self.library.open(conversation)
            if message_id and opened.is_deleted(message_id):
                message_id = None  # since it was found
            if message_id and message_id not in [message.id for message in opened.branch()]:
                opened.select(message_id)
        except UserError:
            self._tell_conversation()
            raise
        await self._go_to(opened, message_id)

    async def new(self) -> None:
        """Begin an empty conversation."""
        await self._go_to(self.library.create())

    async def trash(self, conversation_id: str) -> None:
        """Move a conversation to the trash; undo brings it back."""
        if self.answer and self.answer.conversation.id == conversation_id:
            raise UserError(_("This conversation is being answered. Esc stops it."))
        if conversation_id == self.conversation.id and (path := self._elsewhere()):
            said = _(
                "This conversation is not one of the list but the file {path}: delete that if you want to."
            )
            raise UserError(said.format(path=path))
        if any(each and each.conversation.id == conversation_id for each in (self._pending, *self._queue)):
            raise UserError(_("Messages wait to be sent in this conversation: send or cancel them first."))
        self.library.trash(conversation_id)
        self._undo.append((_("The conversation is back."), lambda: self.library.restore(conversation_id)))
        if key := keys.shown("history.undo", self.settings.keys) if self.ui.has_keys else "":
            self.ui.say(_("Moved to the trash. /undo (or {key} in the list) brings it back.").format(key=key))
        else:
            self.ui.say(_("Moved to the trash. /undo brings it back."))
        if conversation_id == self.conversation.id:
            await self._open(self.library.create())
        self._tell_conversation()

    def _elsewhere(self) -> Path | None:
        """Return the file of the open conversation where that is none of the library's."""
        path = self.conversation.path
        return path if path and path.absolute().parent != self.library.folder.absolute() else None

    async def restore(self, conversation_id: str) -> None:
        """Bring a conversation back from the trash and read it."""
        self.library.restore(conversation_id)
        await self.open(conversation_id)
        self.ui.say(_("The conversation is back."))

    def pin(self, conversation_id: str) -> None:
        """Keep a conversation at the top of the list, or no longer."""
        conversation = self._conversation(conversation_id)
        conversation.pin(not conversation.pinned)
        self.ui.say(_("Pinned to the top.") if conversation.pinned else _("No longer pinned."))
        self._tell_conversation()

    async def rename(self, conversation_id: str, title: str | None = None) -> None:
        """Give a conversation a title, which is asked for where none is given."""
        if title is None:
            title = await self.ui.ask(_("Title"), self._conversation(conversation_id).title)
        if title is not None:
            self._conversation(conversation_id).rename(title)
            self._tell_conversation()

    def _conversation(self, conversation_id: str) -> Conversation:
        is_open = conversation_id == self.conversation.id
        return self.conversation if is_open else self.library.open(conversation_id)

    async def import_file(self, path: Path) -> None:
        """Bring in conversations of other programs, and read the first of them.

        That takes a while; a person may go on meanwhile, and stays where they have gone then.
        """
        before = self.conversation
        imported = await self.imports.run(path)
        for problem in imported.problems():
            self.notice(problem, "error")
        self.ui.say(imported.summary())
        self._tell_conversation()
        if imported.first is not None and self.conversation is before:
            await self._open(imported.first)

    async def reread(self) -> None:
        """Show what others wrote to the open conversation; a file that cannot be read is named once."""
        if self.answer is not None or self.conversation is self._unreadable:
            return
        was_newer = self.conversation.newer_format
        try:
            if self.conversation.refresh():
                await self._open(self.conversation)
                if self.conversation.newer_format and not was_newer:
                    self.notice(_only_read(), "warning")
        except UserError as error:
            self._unreadable = self.conversation
            self.notice(error.phrase, "warning")

    async def select(self, message_id: str) -> None:
        """Go to the branch with this message."""
        async with self._lock:
            if self._refuse_changes() or self.conversation.is_deleted(message_id):
                return
            with self._saving():
                self.conversation.select(message_id)
            self._show()

    async def select_version(self, message_id: str, step: int) -> None:
        """Go to the branch with the version `step` after this one of a message."""
        if self.conversation.is_deleted(message_id):  # meanwhile
            return
        versions = [message.id for message in self.conversation.siblings(message_id)]
        at = versions.index(message_id) + step
        if 0 <= at < len(versions):
            await self.select(versions[at])
        else:
            self.ui.say(_("There is no other version in this direction."))

    async def delete(self, message_id: str) -> None:
        """Hide a message and what follows it; `undo` brings it back."""
        async with self._lock:
            conversation = self.conversation
            if self._refuse_changes() or conversation.is_deleted(message_id):
                return
            with self._saving():
                conversation.delete(message_id)
            self._undo.append((_("The message is back."), lambda: conversation.undelete(message_id)))
            self._show()
        self.ui.say(_("Deleted, with what followed. /undo brings it back."))

    async def undo(self) -> None:
        """Take back the last deletion."""
        said = _("Nothing was deleted.")
        if self._undo:
            said, action = self._undo.pop()
            async with self._lock:
                action()
                self._show()
                await self._send_next()
        self.ui.say(said)
        self._tell_conversation()

    async def rebuild(self, build: Callable[[], Awaitable[None]]) -> None:
        """Let a view be built again and show the open conversation in it, and nothing else meanwhile."""
        async with self._lock:
            await build()
            self._show()

    # --- what comes from the engine ---

    async def _on_load(self, event: engine.Event) -> None:
        match event:
            case engine.LoadProgress():
                # The time that is left is reckoned for each stage from its first bytes on: what comes before
                # them, such as importing torch, says nothing about it.
                if (event.stage, event.total) != (self.state.stage, self.state.total):
                    self._update(since=time.monotonic(), begun=event.done)
                self._update(stage=event.stage, done=event.done, total=event.total)
            case engine.Loaded():
                await self._on_loaded(event)
            case engine.Failed() | engine.Cancelled():
                self._on_load_ended(event)

    async def _on_loaded(self, event: engine.Loaded) -> None:
        info = event.info
        self._loader.loaded(info)
        self._begin_state(activity="ready", info=info)
        self.settings.follow(info)
        self._publish(told.ModelChanged(info))
        if info.note:
            self.notice(info.note)
        pending, self._pending = self._pending, None
        with self._scopes() as scope:
            if pending and pending.message_id in [message.id for message in pending.conversation.branch()]:
                await self._generate(pending, scope)
        await self._send_next()
        self.measure()

    def _on_load_ended(self, event: engine.Failed | engine.Cancelled) -> None:
        name, self._pending = self.state.loading, None
        back = self._loader.ended(event)
        self._begin_state(activity="ready" if back.info else "none", info=back.info)
        failed = event if isinstance(event, engine.Failed) else None
        if failed is not None:
            self.notice(failed.phrase, "error" if failed.absent is None else "info")
        else:
            self.notice(_("Loading {name} was stopped.").format(name=name))
        if back.spec is not None:
            with self.saying_errors():
                if undone := self.preferences.put_back(back.spec):
                    self.notice(_("As before again: {settings}").format(settings=listing(undone)))
            if back.info is None:
                self.load(back.spec)
            else:
                self.measure()
        self._publish(told.SettingsChanged(frozenset()))
        if failed is not None:
            self._publish(told.LoadRefused(failed.absent))
        if self.state.activity == "none":
            self.notice(self._no_model())
        self._queue.hold()
        self._show_queue()

    async def _on_answer(self, answer: AnswerTask, event: engine.Event) -> None:
        match event:
            case engine.Started():
                self._show_answer(used=event.prompt_tokens, limit=event.limit)
                if event.dropped_rounds:
                    self.notice(_outgrown(event.dropped_rounds))
            case engine.PromptProgress():
                self._show_answer(fraction=event.fraction)
            case engine.Tokens():
                text = answer.add(event)
                if text and answer.conversation is self.conversation:
                    self._publish(told.AnswerGrew(text, event.thought))
                self._show_answer(
                    activity="answering",
                    used=self.state.used + event.count,
                    tokens_per_second=answer.speed.rate,
                )
            case engine.Done():
                if event.note:
                    self.notice(event.note, "warning")
                await self._on_end(answer, "length" if event.reason == "length" else "done", event.stats)
            case engine.Cancelled():
                await self._on_end(answer, "stopped", event.stats)
            case engine.Failed(TooLongError.code) if answer.new_sources and not answer.cancelled:
                self._ask_with_fewer(answer)
            case engine.Failed():
                self.notice(event.phrase, "error")
                if event.code == TooLongError.code:
                    self.notice(_("What you write next is sent without this message."))
                await self._on_end(answer, "failed", None, failed=event)

    async def _on_end(
        self,
        answer: AnswerTask,
        state: State,
        stats: engine.Stats | None,
        *,
        failed: engine.Failed | None = None,
    ) -> None:
        shown = answer.conversation is self.conversation
        if (rest := answer.take_rest()) and shown:
            self._publish(told.AnswerGrew(rest))
        message = self._finish(answer, state, stats, failed)
        self._publish(told.AnswerEnded(message, time.monotonic() - answer.since, shown))
        self._tell_conversation()
        if state == "failed":
            self._queue.hold()
            self._show_queue()
        await self._send_next()

    def _finish(
        self,
        answer: AnswerTask,
        state: State,
        stats: engine.Stats | None,
        failed: engine.Failed | None = None,
    ) -> Message:
        self.answer, self.stats = None, stats
        self._show_answer(activity="ready")
        if stats:
            self._show_answer(
                tokens_per_second=stats.tokens_per_second, used=stats.prompt_tokens + stats.answer_tokens
            )
        return answer.finish(self._saving, state, stats, failed)

    # --- one message, from the queue to the model ---

    async def _send_next(self) -> None:
        """Send what is queued, if it may be sent now."""
        if self.answer or self.state.activity != "ready":
            return
        if (item := self._queue.next()) is not None:
            with self._scopes() as scope:
                await self._send(item, scope)

    async def _send(self, item: QueuedMessage, scope: CancelToken) -> None:
        conversation = item.conversation
        if conversation.newer_format:  # since it was queued
            self._queue.hold()
            self._show_queue()
            self.notice(_only_read(), "error")
            return
        parent: dict[str, Any] = {}
        if item.edits and item.edits in conversation.messages:
            parent = {"parent": conversation.messages[item.edits].parent}
        with self._saving():
            meta = self._sender | ({WEB: item.web} if item.web else {})
            conversation.append("user", item.parts, meta=meta, message_id=item.id, **parent)
        self._queue.remove(item, on_disk=not conversation.unsaved)
        self._show_queue()
        message = conversation.branch()[-1]
        if conversation is self.conversation:
            if parent:
                self._show()
            else:
                self._publish(told.MessageAdded(message, conversation.versions([message])))
                self._tell_conversation()
        await self._generate(_PendingAnswer(conversation, message.id), scope)

    async def _generate(self, pending: _PendingAnswer, scope: CancelToken) -> None:
        conversation, info = pending.conversation, self.state.info
        if scope.cancelled:
            return
        if info is None:  # still loading: `_on_loaded` comes back here
            self._pending = pending
            return
        again = pending.continued or conversation.leaf != pending.message_id
        if not pending.continued:
            meta = {"model": info.name, "quant": info.quant, "device": info.device}
            if info.server:
                meta["server"] = info.server
            with self._saving():
                conversation.append("assistant", "", parent=pending.message_id, state="partial", meta=meta)
        message = conversation.branch()[-1]
        self.answer = answer = AnswerTask(conversation, message)
        self._show_answer(
            activity="reading", fraction=0.0, since=answer.since, tokens_per_second=None, sources=None
        )
        if conversation is self.conversation:
            if again:
                self._publish_shown(conversation.branch()[:-1])
            self._publish(told.AnswerBegun(message, conversation.versions([message])))
        if self.answer is not answer:  # the program was left meanwhile
            return
        try:
            scope.check()
        except OperationCancelled:
            await self._on_end(answer, "stopped", None)
            return
        self._counter.cancel()
        providers: list[ContextProvider] = []
        if not pending.continued:  # else the answer has its sources
            try:
                providers = self.context.providers(conversation, conversation.messages[pending.message_id])
            except UserError as error:
                await self._fail(answer, error)
                return
        if providers:
            self._show_answer(activity="searching")
            question = conversation.messages[pending.message_id].text
            answer.gathering = asyncio.create_task(self._gather(answer, providers, question))
        else:
            self._ask_engine(answer, (), continued=pending.continued)

    def _ask_engine(self, answer: AnswerTask, sources: Sequence[Source], *, continued: bool = False) -> None:
        conversation = answer.conversation
        messages = self._prompt.build(conversation, sources, self.state.info)  # the empty answer is left out
        sampling = self.settings.sampling(conversation.settings)
        request = Generate(messages, sampling, continued)
        answer.ahead = self._ahead.take(request)
        answer.stream = self._loader.engine.submit(request)

    # --- what the answer may rest on ---

    async def _gather(
        self, answer: AnswerTask, providers: Sequence[ContextProvider], question: str
    ) -> Sequence[Source]:
        """Return the sources that are given to the model; it is cancelled like any task.

        Raises:
            UserError: they cannot be had, or there are none and nobody wants an answer without.
        """
        conversation, info = answer.conversation, self.state.info
        assert info is not None
        found = await gather(providers, conversation, question)
        if not found:
            nothing = _("Nothing in {names} has to do with this question.").format(names=names(providers))
            choices = (_("Answer without sources"), _("Do not answer"))
            chosen = await self.ui.choose(nothing, choices)
            if chosen is None:
                raise NotFoundError(nothing)
            if chosen:
                raise asyncio.CancelledError
            return ()

        def build(sources: Sequence[Source]) -> Sequence[ChatMessage]:
            messages = self._prompt.build(conversation, sources, info)
            return [*(message for message in messages[:-1] if message.role == "system"), messages[-1]]

        limit = min(self.settings.sampling(conversation.settings).max_length, info.max_length)
        fitting = await fit(found, build, self._counter.count, limit)
        answer.rest_on(fitting, len(found))
        return fitting

    async def _on_gathered(self, answer: AnswerTask, task: asyncio.Task[Sequence[Source]]) -> None:
        answer.gathering = None
        if task.cancelled() or answer.cancelled:  # it may have been over when the cancel came
            await self._on_end(answer, "stopped", None)
        elif (error := task.exception()) is not None:
            await self._fail(answer, error)
        else:
            self._ask_with(answer, task.result())

    async def _fail(self, answer: AnswerTask, error: BaseException) -> None:
        """Let an answer that cannot be made end."""
        await self._on_answer(answer, engine.Failed(*describe(error)))

    def _ask_with(self, answer: AnswerTask, sources: Sequence[Source]) -> None:
        """Give the model the question with `sources`, for which there is room."""
        if answer.found:
            self._show_answer(sources=(len(sources), answer.found))
            if not sources:
                self.notice(_("The question leaves no room for sources: it is answered without."), "warning")
        self._show_answer(activity="reading")
        self._ask_engine(answer, sources)

    def _ask_with_fewer(self, answer: AnswerTask) -> None:
        """Ask again, as there were too many sources: the tokens of a server can only be estimated."""
        answer.rest_on(fewer(answer.new_sources), answer.found)
        self._ask_with(answer, answer.new_sources)

    # --- inside ---

    async def _go_to(self, conversation: Conversation, message_id: str | None = None) -> None:
        self._keep_draft(self.ui.draft())
        await self._open(conversation, chosen=True, focus=message_id)
        self._restore()
        self.workspace.keep_open(self.conversation)

    async def _open(
        self, conversation: Conversation, *, chosen: bool = False, focus: str | None = None
    ) -> None:
        """Read another conversation, or what changed in the open one.

        One that is being answered, or in which messages are queued, is the same object as before.
        """
        async with self._lock:
            users = [self.answer, self._pending, *self._queue]
            in_use = [*(each.conversation for each in users if each), *self._left]
            same = [each for each in in_use if each.id == conversation.id]
            conversation = same[0] if same else conversation
            changed = conversation is self.conversation
            if not changed:
                self._left += [self.conversation] if self.conversation.unsaved else []
                self._edit(None)
                self._counter.used = 0
                self._update(used=0)
            self.conversation = conversation
            self._restore_queue()
            self._show(changed=changed and not chosen, opened=chosen, focus=focus)
            if conversation.newer_format and not changed:
                self.notice(_only_read(), "warning")

    def _show(self, **how: Any) -> None:
        """Let the open conversation be shown, with the answer being made; `how` as in `ConversationShown`."""
        running = self.answer if self.answer and self.answer.conversation is self.conversation else None
        branch = self.conversation.branch()
        if running and branch and branch[-1].id == running.message.id:
            message = branch[-1]
            self._publish_shown(branch[:-1], **{**how, "changed": False})
            self._publish(told.AnswerBegun(message, self.conversation.versions([message])))
            for text, thought in running.beyond(message):  # what the file has not got yet
                self._publish(told.AnswerGrew(text, thought))
        else:
            self._publish_shown(branch, **how)
        self._tell_conversation()
        self._show_queue()
        self.measure()

    def _publish_shown(self, messages: Sequence[Message], **how: Any) -> None:
        versions, on_hold = self.conversation.versions(messages), sum(item.on_hold for item in self.queued)
        title = self.conversation.title
        self._publish(told.ConversationShown(tuple(messages), versions, title, on_hold=on_hold, **how))

    def _restore(self) -> None:
        draft = self.workspace.draft(self.conversation)
        if draft.id in self.conversation.messages:  # sent, and then the program was killed
            draft = Draft()
        self._message_id = draft.id or new_message_id()
        self._draft = draft.text
        if draft.text:
            edits = draft.edits if draft.edits in self.conversation.messages else None
            self._edit(edits, draft.place, (Text(draft.text), *draft.parts))
        self.ui.put_draft(draft.text)
        self._restore_queue()

    def _restore_queue(self) -> None:
        """Put back, on hold, what was queued in this conversation when an earlier glmtui ended."""
        if not self._queue.knows(self.conversation):
            gone = {*self.conversation.messages, self._message_id}  # sent, or taken out to be changed
            for item in self.workspace.queued(self.conversation):
                if item.id not in gone:
                    id_ = item.id or new_message_id()
                    self._queue.add(
                        QueuedMessage(
                            self.conversation, item.parts, item.edits, id_, on_hold=True, web=item.web
                        )
                    )
        self._show_queue()

    def _keep_draft(self, text: str) -> bool:
        """Remember what is being written; return False where what was acknowledged before is not on disk."""
        self._draft = "" if self.commands.parse(text) else text
        draft = Draft(text, self._kept_parts, self.state.editing, self._place, self._message_id)
        with self._saving("draft"):
            self.workspace.keep_draft(stored_id(self.conversation), draft)
        self.workspace.keep_open(self.conversation)
        return "draft" not in self._faults

    def _keep_queued(self, conversation_id: str, items: Sequence[StoredMessage]) -> None:
        with self._saving("queue"):
            self.workspace.keep_queued(conversation_id, items)

    def _edit(self, message_id: str | None, place: int | None = None, kept: tuple[Part, ...] = ()) -> None:
        self._place, self._kept_parts = place, kept
        self._update(editing=message_id)

    def _settings_changed(self, keys: frozenset[str]) -> None:
        if "ui.language" in keys:
            i18n.use(str(self.settings["ui.language"]))
        if any(key.startswith("model.") for key in keys):
            self.load()
        elif any(key.startswith("generation.") or key == COLLECTION for key in keys):
            self.measure()
        self._publish(told.SettingsChanged(keys))

    def _show_queue(self) -> None:
        self._update(queued=tuple(self.queued))

    def _tell_conversation(self) -> None:
        self._publish(told.ConversationChanged(self.conversation.id, self.conversation.title))

    def _begin_state(self, **values: Any) -> None:
        """Let nothing of the former answer or load be shown any more."""
        names = ("queued", "editing", "download", "importing", "indexing", "documents")
        kept = {name: getattr(self.state, name) for name in names}
        self._set_state(SessionState(**kept, **values))

    def _show_answer(self, **changes: Any) -> None:
        """Tell how the answer goes on; a load, for which it is given up, is what is shown instead."""
        if not self.loading:
            self._update(**changes)

    def _update(self, **changes: Any) -> None:
        self._set_state(replace(self.state, **changes))

    def _set_state(self, state: SessionState) -> None:
        if state != self.state:
            self.state = state
            self._publish(told.StateChanged(state))

    def _publish(self, event: SessionEvent) -> None:
        for listener in self._listeners:
            with self.guarding():
                listener(event)

    @contextmanager
    def _saving(self, what: _Saved = "conversation") -> Iterator[None]:
        """Around what writes: what cannot be written now is in memory, and written later."""
        try:
            yield
        except UserError as error:
            if self._faults.get(what) != error.phrase:  # one answer is written many times
                self.notice(error.phrase, "error")
            self._faults[what] = error.phrase
        else:
            self._faults.pop(what, None)

    def _save_again(self) -> None:
        """Write what could not be written of conversations, and say when all of it is on disk."""
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        unsaved = [each for each in (*self._left, self.conversation) if each.unsaved]
        for conversation in unsaved:
            with self._saving():
                conversation.flush()
        self._left = [each for each in self._left if each.unsaved]
        if unsaved and not self._left and not self.conversation.unsaved:
            self.notice(_("What could not be saved before is saved now."))

    def _no_model(self) -> Phrase:
        """Say that there is none, how to get one, and what is set that may be in its way."""
        said = _("No model is loaded. /model nano loads the small built-in one, /model FOLDER another.")
        if not (chosen := self.preferences.of_the_model()):
            return said
        example = next(iter(chosen))
        return sentences(
            said,
            _(
                "Set for every model: {settings}. If that is what fails, take it back: /set {key} default"
            ).format(settings=listing(f"{key} = {value}" for key, value in chosen.items()), key=example),
        )

    def _refuse_changes(self) -> bool:
        if self.conversation.newer_format:
            self.notice(_only_read(), "error")
        elif self.answer is not None:
            self.notice(_("An answer is being written. Esc stops it."), "warning")
        else:
            return False
        return True


def _only_read() -> Phrase:
    """Say that a newer glmtui wrote to the open conversation."""
    return _(
        "A newer glmtui wrote to this conversation: some of it may not be shown here, and it can only be "
        "read. Update glmtui, or write in a new conversation."
    )


def _outgrown(dropped: int) -> Phrase:
    return ngettext(
        "The conversation has outgrown the context: the oldest round is no longer sent.",
        "The conversation has outgrown the context: the {n} oldest rounds are no longer sent.",
        dropped,
    ).format(n=dropped)

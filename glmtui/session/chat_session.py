"""One chat without a screen: what a person can do with it, and what comes of it.

What a person writes is on disk before anything is generated. An answer belongs to the conversation it was
asked in: it continues, and is saved, while another one is open. One answer runs at a time; what is sent
meanwhile is queued, and what is asked for while a model is loaded comes after the load. A cancel holds
whenever it comes, also before the engine has heard of what it cancels.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmtui import i18n
from glmtui.chat.conversation import Conversation, new_message_id
from glmtui.chat.state_log import Draft
from glmtui.chat.state_log import QueuedMessage as StoredMessage
from glmtui.errors import NoModelError, NotFoundError, TooLongError, UnavailableError, UserError
from glmtui.failures import Faults, describe
from glmtui.protocol import events as engine
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.messages import (
    ChatMessage,
    Image,
    Part,
    Text,
)
from glmtui.protocol.models import LocalModel, short_name
from glmtui.protocol.phrases import NOTHING, Phrase, Sayable, _, listing, ngettext, sentences
from glmtui.protocol.requests import Generate, Prefill
from glmtui.session import events as told
from glmtui.session import keys, pictures
from glmtui.session.answer_task import AnswerTask
from glmtui.session.attached_file import in_full, parts_of
from glmtui.session.comparison import Comparison, to_compare
from glmtui.session.context import COLLECTION, WEB, Context, fewer
from glmtui.session.documents import DocumentJobs
from glmtui.session.events import Kind, Listener, SessionEvent, SessionState
from glmtui.session.import_job import ImportJob
from glmtui.session.message_queue import CancelScopes, MessageQueue, QueuedMessage, stored_id
from glmtui.session.model_jobs import ModelJobs
from glmtui.session.model_loader import ModelLoader
from glmtui.session.preferences import Preferences
from glmtui.session.prompt_builder import PromptBuilder
from glmtui.session.read_ahead import ReadAhead
from glmtui.session.research import Research
from glmtui.session.saving import Saving
from glmtui.session.serving import Serving
from glmtui.session.slash.command import CommandTable
from glmtui.session.token_counter import TokenCounter
from glmtui.session.tool_servers import ToolServers
from glmtui.session.tuning import Tuning
from glmtui.session.workspace import Workspace
from glmtui.session.written_message import WrittenMessage
from glmtui.settings.schema import ADAPTERS, SCHEMA

if TYPE_CHECKING:
    from glmtui.chat.library import Library
    from glmtui.chat.tree import Message, State
    from glmtui.protocol.engine import Engine
    from glmtui.protocol.models import ModelInfo, ModelSpec
    from glmtui.session.attached_file import AttachedFile
    from glmtui.session.ui import Ui
    from glmtui.settings.settings import Settings


_SHOWN_SECONDS = 0.1
"""After a conversation was opened it is counted; a long one is on the screen by then."""


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
        self.models = ModelJobs(lambda: self._loader.engine, self.notice, self.ui.say, settings)
        self.imports = ImportJob(library, lambda how_far: self._update(importing=how_far))
        self.serving = Serving(
            lambda: self._loader.engine, lambda: self.state.info, settings.sampling, lambda: self.busy
        )
        self._prompt = PromptBuilder(settings)
        self.context = Context(settings, lambda why: self.notice(why, "warning"))
        self.documents = DocumentJobs(
            self.notice, lambda said: self.notice(said, "warning"), self.context.embedding
        )
        self.tuning = Tuning(settings.model_spec, self.notice)
        self.comparison: Comparison | None = None
        """The last one."""
        self.tool_servers = ToolServers(
            lambda: settings.tool_servers, lambda why: self.notice(why, "warning")
        )
        self._research = Research(
            settings,
            self.context,
            self.tool_servers,
            self._prompt,
            self._counter,
            self.faults,
            lambda: self.state.info,
            ui,
        )
        self._queue = MessageQueue(self._keep_queued)
        self._scopes = CancelScopes()
        self._pending: _PendingAnswer | None = None
        self._refused: Phrase = NOTHING
        """Why the last load failed."""
        self._lock = asyncio.Lock()
        self._undo: list[tuple[Phrase, Callable[[], object]]] = []
        """What to say when something was taken back, and how to."""
        self.written = WrittenMessage()
        self.saving = Saving(self.notice)
        self._measure_at = math.inf
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
    def calls_tools(self) -> bool:
        """Whether the model in memory calls tools."""
        return self._loader.engine.capabilities.tools

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
        elif not self.holds_secret(line):
            with self.saying_errors():
                self.workspace.prompts.add(in_full(line, attached))  # what ↑ brings back names no file
        leaf, done = conversation.leaf, False
        with self.saying_errors():
            if command is None:
                await self._take_pictures(line)
                await self.send(self.commands.message(line), attached)
            else:
                await self.commands.run(self, command)
            done = True
        if not done and command is None and conversation.leaf == leaf:  # it is not lost
            self.ui.put_draft(in_full(line, attached))
        if stored != stored_id(conversation):  # it has a file now, and its draft another name
            self.workspace.keep_draft(stored, Draft(in_full(self.ui.draft(), self.ui.attached())))
        if conversation is self.conversation:  # what was entered is a draft no longer
            self._keep_written()

    def holds_secret(self, line: str) -> bool:
        """Whether a line sets what nobody is to see who looks at it later: it is remembered nowhere else."""
        command = self.commands.parse(line)
        if command is None or command.command is not self.commands.by_name.get("set"):
            return False
        words = command.argument.removeprefix("here ").split(None, 1)
        return len(words) == 2 and any(row.secret and words[0] in (row.key, row.name) for row in SCHEMA)

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
            self.saving.poll(self.conversation)
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
            answer.save(self.saving)

    def _poll_figures(self) -> None:
        """Take in counts of tokens, and what is known of models and documents."""
        if time.monotonic() >= self._measure_at:
            self.measure()
        if self._counter.poll():
            self._update(used=self._counter.used, draft=self._counter.draft)
        if self.models.poll():
            running = self.models.download
            self._update(download=(running.source, running.fraction) if running else None)
            self._publish(told.ModelsChanged())
        self.tuning.poll()
        if self.comparison is not None:
            self.comparison.poll()
        self._update(indexing=self.documents.progress, tuning=self.tuning.progress)

    def close(self) -> None:
        """Keep what came of the running answer and what is being written; let the engine go. At once."""
        self._keep_written()
        self._scopes.cancel()  # what is about to be an answer becomes none
        self.documents.stop()
        self.tuning.close()
        self.imports.stop()
        if self.answer:
            self.answer.cancel()
            self._finish(self.answer, "stopped", None)
        self.saving.again(self.conversation)
        self.serving.stop()
        self.tool_servers.stop()
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
        self._measure_at = math.inf
        self._update(documents=self.context.collection(self.conversation))
        if (info := self.state.info) is None:
            return
        self._update(limit=self._research.limit(self.conversation, info))
        if self.state.activity != "ready":
            return
        messages = self._prompt.build(self.conversation, (), info)
        draft = self._prompt.draft(self.conversation, self.written.text, self.written.kept, info)
        images = self._prompt.images(self.conversation, [*messages, draft] if draft else messages)
        self._counter.ask(messages, draft, images)
        self._update(used=self._counter.used, draft=self._counter.draft)
        if self.written.text.strip() and not images and self._may_read_ahead(info):
            sampling = self.settings.sampling(self.conversation.settings)
            prompt = (*messages, ChatMessage.of("user", self.written.text))
            self._ahead.ask(Prefill(prompt, sampling, self._uses_adapters(self.conversation)))

    def _may_read_ahead(self, info: ModelInfo) -> bool:
        """Whether what is being written will be, as it stands, the end of a prompt that is read here."""
        if not self.settings["ui.read_ahead"] or info.server:
            return False
        if not self.written.is_plain:
            return False  # what it names is looked for when it is sent
        if self.state.editing is not None or self.context.collection(self.conversation):
            return False
        return not (self.calls_tools and (self.tool_servers or self.context.offers_tools(self.conversation)))

    # --- what was trained ---

    @property
    def adapted(self) -> str:
        """What lies on top of the model, short; empty where nothing does."""
        spec = self.settings.model_spec()
        folders = (spec.ptuning, spec.lora) if isinstance(spec, LocalModel) else ()
        return " + ".join(short_name(folder) for folder in folders if folder)

    def _uses_adapters(self, conversation: Conversation) -> bool:
        return bool(self.settings.effective(ADAPTERS, conversation.settings))

    def compare(self, question: str = "") -> None:
        """Answer a question of the open conversation, the last one by default, with and without `adapted`.

        The answer that is there already is not made again; neither is kept in the conversation.

        Raises:
            UserError: there is no question yet, or no model to answer it.
        """
        info, conversation = self.state.info, self.conversation
        if info is None:
            raise NoModelError(self._no_model())
        messages = self._prompt.build(conversation, (), info)
        asked = to_compare(conversation.branch(), messages, question)
        if self.comparison is not None:
            self.comparison.cancel()
        sampling = self.settings.sampling(conversation.settings)
        self.comparison = Comparison(lambda: self._loader.engine, asked, sampling)

    # --- sending ---

    async def send(self, text: str, attached: Sequence[AttachedFile] = (), *, web: str = "") -> None:
        """Send what a person wrote, now or when the answer before it is complete.

        Args:
            text: what they wrote.
            attached: the files it names.
            web: what the web is asked before the answer; empty: nothing.
        """
        edits, place, kept = self.state.editing, self.written.place, self.written.kept
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
                why = why or self._blind_to(parts)
                if why:
                    self._edit(edits, parts, place)
                    self.ui.put_draft(text)
                    self.notice(why, "error" if self.state.activity != "none" else "warning")
                    return
                item = QueuedMessage(
                    conversation, parts, edits, self.written.id, on_hold=scope.cancelled, web=web
                )
                self.written.id = new_message_id()
                if self.answer or self._pending:
                    self._queue.add(item, place)
                    self._show_queue()
                else:
                    await self._send(item, scope)

    # --- pictures of the message that is being written ---

    def picture(self, image: Image) -> bytes:
        """Return the file of a picture of the open conversation. Raises as `Attachments.get`."""
        try:
            return self.conversation.attachments.get(image.sha256)
        except NotFoundError as error:
            name = image.name or image.sha256
            raise NotFoundError(_("The attachment {name} is missing.").format(name=name)) from error

    def name_picture(self, path: Path) -> str:
        """Return the name by which a picture goes with the message; it is read meanwhile.

        The person writes it behind an ``@`` into the text.

        Raises:
            UserError: the model that is loaded does not see pictures.
        """
        self._check_sight()
        if self.written.has(path):
            return pictures.name_of(str(path))
        name = self.written.free_name(str(path))

        def failed(error: BaseException) -> None:
            self.notice(self.faults.describe(error)[0], "error")

        self.written.reading.begin(name, self.attach(str(path), name), failed)
        return name

    async def attach(self, source: str, name: str = "", *, named: bool = True) -> Image:
        """Let a picture go with the message that is being written, and return it.

        Args:
            source: a path or an address.
            name: what it is called in the message; by default as its file.
            named: whether it goes only while its name stands in the text behind an ``@``.

        Raises:
            UserError: it cannot be had, is no picture, or the model that is loaded does not see any.
        """
        self._check_sight()
        conversation = self.conversation
        data, kind = await pictures.read(source)
        image = conversation.attachments.image(data, kind, name or self.written.free_name(source))
        if conversation is self.conversation:
            self.written.add(image, named=named)
            self._keep_draft(self.written.text)
        return image

    async def _take_pictures(self, text: str) -> None:
        """Read the pictures that `text` names and that are not here yet; raises as `attach`.

        A name that is no file's may be that of a picture in the conversation, as in a prompt sent before.
        """
        await self.written.reading.wait(text)
        for name in pictures.typed(text):
            if name not in self.written.picture_names:
                await self.attach(name, name)
        if self.state.info is not None and self.state.info.sees_images:
            for image in pictures.named_in(text, self.conversation.branch()):
                if image.name not in self.written.picture_names:
                    self.written.add(image, named=True)

    def _check_sight(self) -> None:
        """Raise `UnavailableError` if the model does not see; of one that is still loading it is hoped."""
        if (info := self.state.info) is not None and not info.sees_images:
            raise UnavailableError(pictures.cannot_see(info.name))

    def _blind_to(self, parts: Sequence[Part]) -> Phrase:
        """Say that the model does not see the pictures among `parts`, if that is so."""
        info = self.state.info
        if info is None or info.sees_images or not pictures.names_in(parts):
            return NOTHING
        return pictures.cannot_see(info.name)

    def _say_what_is_unseen(self, pending: _PendingAnswer, info: ModelInfo) -> None:
        """Say that the model does not see the pictures of earlier rounds, when it begins to answer."""
        branch = pending.conversation.branch()
        upto = branch[: [each.id for each in branch].index(pending.message_id) + 1]
        before = next((each for each in reversed(upto) if each.role == "assistant"), None)
        if info.sees_images or before is None or before.meta.get("model") == info.name:
            return
        if any(pictures.names_in(each.parts) for each in upto):
            said = _("{name} does not see the pictures of this conversation: it is told their names alone.")
            self.notice(said.format(name=info.name), "warning")

    # --- answers ---

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
                elif blind := self._blind_to(message.parts):
                    self.notice(blind, "warning")
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
        self._edit(message_id, message.parts)
        self.ui.put_draft(message.text)

    def edit_no_more(self) -> None:
        """Let what is sent next be a message of its own; files that it names go with it all the same."""
        self.written.stand_alone()
        self._update(editing=None)  # pictures that are being read belong to what stays written

    def draft_changes(self, text: str) -> None:
        """Leave the machine to the person who types: what was read ahead was another draft. Call it at once.

        Nothing is what a draft is when it is sent, for which it is read.
        """
        if text.strip() and text != self.written.text:
            self._ahead.cancel()

    def draft_changed(self, text: str, attached: Sequence[AttachedFile] = ()) -> None:
        """Remember what is being written, count it and read it ahead. Call it when the person pauses.

        Args:
            text: what is written.
            attached: the files it names.
        """
        if attached or text != self.written.text:
            self._ahead.cancel()
        self._keep_draft(text, attached)
        self.measure()

    # --- what is queued in the open conversation ---

    def unqueue(self, number: int = -1) -> bool:
        """Let the person change a queued message: by its number, else the last. It keeps its place."""
        if (item := self._queued_at(number)) is None:
            return False
        self._edit(item.edits, item.parts, number % len(self.queued), item.web)
        self.written.id = item.id
        entered = f"/web {item.text}" if item.web else item.text
        text = "\n".join(filter(str.strip, (entered, in_full(self.ui.draft(), self.ui.attached()))))
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

    async def open(self, path_or_id: Path | str, message_id: str | None = None) -> None:
        """Read a conversation, as `Library.open` takes it, at `message_id` and on its branch if given."""
        try:
            opened = self.library.open(path_or_id)
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

    async def trash(self, path: Path) -> None:
        """Move a conversation, by its file, to the trash; undo brings it back."""
        path = path.absolute()
        if self.answer and _lies_at(self.answer.conversation, path):
            raise UserError(_("This conversation is being answered. Esc stops it."))
        if path.parent != self.library.folder.absolute():
            said = _(
                "This conversation is not one of the list but the file {path}: delete that if you want to."
            )
            raise UserError(said.format(path=path))
        if any(each and _lies_at(each.conversation, path) for each in (self._pending, *self._queue)):
            raise UserError(_("Messages wait to be sent in this conversation: send or cancel them first."))
        is_open, id_ = _lies_at(self.conversation, path), stored_id(self.conversation)
        deleted = self.library.trash(path)
        self._undo.append((_("The conversation is back."), lambda: self.library.restore(deleted)))
        if key := keys.shown("history.undo", self.settings.keys) if self.ui.has_keys else "":
            self.ui.say(_("Moved to the trash. /undo (or {key} in the list) brings it back.").format(key=key))
        else:
            self.ui.say(_("Moved to the trash. /undo brings it back."))
        if is_open:  # what is being written goes along
            written = self.written
            kept = (written.kept, written.place, written.query)
            await self._open(self.library.create())
            self._edit(None, *kept)
            self._keep_written()
            self.workspace.keep_draft(id_, Draft())
        self._tell_conversation()

    async def restore(self, path: Path) -> None:
        """Bring a conversation back from the trash, by its file there, and read it."""
        await self.open(self.library.restore(path))
        self.ui.say(_("The conversation is back."))

    def pin(self, path: Path | None = None) -> None:
        """Keep a conversation, by its file, at the top of the list, or no longer; None: the open one."""
        conversation = self._conversation(path)
        conversation.pin(not conversation.pinned)
        self.ui.say(_("Pinned to the top.") if conversation.pinned else _("No longer pinned."))
        self._tell_conversation()

    async def rename(self, path: Path | None = None, title: str | None = None) -> None:
        """Give a conversation (as `pin` takes it) a title, which is asked for where none is given."""
        if title is None:
            title = await self.ui.ask(_("Title"), self._conversation(path).title)
        if title is not None:
            self._conversation(path).rename(title)
            self._tell_conversation()

    def _conversation(self, path: Path | None) -> Conversation:
        if path is None or _lies_at(self.conversation, path):
            return self.conversation
        return self.library.open(path)

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
            with self.saving():
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
            with self.saving():
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
        self._refused = failed.phrase if failed else NOTHING
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
            case engine.ToolCalled() if answer.toolbox and answer.toolbox.offered:
                answer.calls.append(event.call)
            case engine.ToolCalled():  # else it could go on like that for ever
                answer.refused_call = True
            case engine.Done() if answer.calls and not answer.cancelled:
                self._begin_calls(answer, event.stats)
            case engine.Done() if answer.refused_call and not answer.says_something:
                await self._on_failed(answer, engine.Failed(UnavailableError.code, _unoffered()))
            case engine.Done():
                if answer.refused_call:
                    self.notice(_unoffered(), "warning")
                if event.note:
                    self.notice(event.note, "warning")
                await self._on_end(answer, "length" if event.reason == "length" else "done", event.stats)
            case engine.Cancelled():
                await self._on_end(answer, "stopped", event.stats)
            case engine.Failed(TooLongError.code) if answer.given and not answer.cancelled:
                self._ask_with_fewer(answer)
            case engine.Failed() if answer.toolbox and not (answer.begun or answer.cancelled):
                self._prepare(answer, with_tools=False)  # a server may not know tools
            case engine.Failed():
                await self._on_failed(answer, event)

    async def _on_failed(self, answer: AnswerTask, event: engine.Failed) -> None:
        """Let an answer that cannot be made end."""
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
        return answer.finish(self.saving, state, stats, failed)

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
        why = _only_read() if conversation.newer_format else self._blind_to(item.parts)
        if why:  # since it was queued
            self._queue.hold()
            self._show_queue()
            self.notice(why, "error")
            return
        parent: dict[str, Any] = {}
        if item.edits and item.edits in conversation.messages:
            parent = {"parent": conversation.messages[item.edits].parent}
        with self.saving():
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
        if not pending.continued and (
            blind := self._blind_to(conversation.messages[pending.message_id].parts)
        ):
            self.notice(blind, "error")  # the model was still on its way when it was written
            return
        self._say_what_is_unseen(pending, info)
        again = pending.continued or conversation.leaf != pending.message_id
        if not pending.continued:
            meta = {"model": info.name, "quant": info.quant, "device": info.device}
            if info.server:
                meta["server"] = info.server
            if (adapted := self.adapted) and self._uses_adapters(conversation):
                meta["adapters"] = adapted
            with self.saving():
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
        if pending.continued:  # it has its sources
            self._ask_engine(answer, continued=True)
            return
        try:
            self._prepare(answer, with_tools=self.calls_tools)
        except UserError as error:
            await self._on_failed(answer, engine.Failed(*describe(error)))

    def _prepare(self, answer: AnswerTask, *, with_tools: bool) -> None:
        """Look for what the answer may rest on, or let the model do that with tools, then ask it.

        Raises:
            UserError: what is in use is not there, or not set up.
        """
        if self._research.begin(answer, with_tools=with_tools):
            self._show_answer(activity="searching")
        else:
            self._ask_engine(answer)

    def _ask_engine(self, answer: AnswerTask, *, continued: bool = False) -> None:
        conversation, tools = answer.conversation, answer.toolbox.offered if answer.toolbox else ()
        messages = self._prompt.build(conversation, answer.given, self.state.info, answer.steps)
        images = self._prompt.images(conversation, messages)
        sampling = self.settings.sampling(conversation.settings)
        generate = Generate(
            messages,
            sampling,
            continued,
            tools=tools,
            images=images,
            adapters=self._uses_adapters(conversation),
        )
        answer.ahead = self._ahead.take(generate)
        answer.stream = self._loader.engine.submit(generate)

    # --- what the answer may rest on ---

    def _begin_calls(self, answer: AnswerTask, stats: engine.Stats) -> None:
        """Do what the model called, then ask it again with what came of it."""
        text = answer.begin_calls(stats)
        self._show_answer(activity="searching")
        if text and answer.conversation is self.conversation:
            self._publish(told.AnswerGrew(text))
        self._show_calls(answer)
        answer.stream = None
        called = self._research.call_tools(answer, lambda: self._show_calls(answer))
        answer.gathering = asyncio.create_task(called)

    def _show_calls(self, answer: AnswerTask) -> None:
        if answer.conversation is self.conversation:
            self._publish(told.AnswerCalled(replace(answer.message, parts=answer.parts)))

    async def _on_gathered(self, answer: AnswerTask, task: asyncio.Task[None]) -> None:
        answer.gathering = None
        if task.cancelled() or answer.cancelled:  # it may have been over when the cancel came
            await self._on_end(answer, "stopped", None)
        elif (error := task.exception()) is not None:
            await self._on_failed(answer, engine.Failed(*describe(error)))
        else:
            self._ask_with_sources(answer)

    def _ask_with_sources(self, answer: AnswerTask) -> None:
        """Give the model the question with the sources for which there is room."""
        if answer.found:
            self._show_answer(sources=(len(answer.new_sources), answer.found))
            if not answer.new_sources:
                self.notice(_("The question leaves no room for sources: it is answered without."), "warning")
        self._show_answer(activity="reading")
        self._ask_engine(answer)

    def _ask_with_fewer(self, answer: AnswerTask) -> None:
        """Ask again, as there were too many sources: the tokens of a server can only be estimated."""
        answer.rest_on(fewer(answer.given), answer.found)
        self._ask_with_sources(answer)

    # --- inside ---

    async def _go_to(self, conversation: Conversation, message_id: str | None = None) -> None:
        self._keep_written()
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
            in_use = [*(each.conversation for each in users if each), *self.saving.left]
            same = [each for each in in_use if _is_same(each, conversation)]
            conversation = same[0] if same else conversation
            changed = conversation is self.conversation
            if not changed:
                self.saving.leave(self.conversation)
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
        self._measure_at = time.monotonic() + _SHOWN_SECONDS

    def _publish_shown(self, messages: Sequence[Message], **how: Any) -> None:
        versions, on_hold = self.conversation.versions(messages), sum(item.on_hold for item in self.queued)
        title = self.conversation.title
        self._publish(told.ConversationShown(tuple(messages), versions, title, on_hold=on_hold, **how))

    def _restore(self) -> None:
        draft = self.workspace.draft(self.conversation)
        if draft.id in self.conversation.messages:  # sent, and then the program was killed
            draft = Draft()
        self.written.id = draft.id or new_message_id()
        self.written.text = draft.text
        if draft.text:
            edits = draft.edits if draft.edits in self.conversation.messages else None
            self._edit(edits, (Text(draft.text), *draft.parts), draft.place, draft.web)
        self.ui.put_draft(draft.text)
        self._restore_queue()

    def _restore_queue(self) -> None:
        """Put back, on hold, what was queued in this conversation when an earlier glmtui ended."""
        if not self._queue.knows(self.conversation):
            gone = {*self.conversation.messages, self.written.id}  # sent, or taken out to be changed
            for item in self.workspace.queued(self.conversation):
                if item.id not in gone:
                    id_ = item.id or new_message_id()
                    self._queue.add(
                        QueuedMessage(
                            self.conversation, item.parts, item.edits, id_, on_hold=True, web=item.web
                        )
                    )
        self._show_queue()

    def _keep_written(self) -> None:
        self._keep_draft(self.ui.draft(), self.ui.attached())

    def _keep_draft(self, text: str, attached: Sequence[AttachedFile] = ()) -> bool:
        """Remember what is being written; return False where what was acknowledged before is not on disk."""
        full = in_full(text, attached)
        self.written.text, self.written.names_files = (
            "" if self.commands.parse(text) else full,
            bool(attached),
        )
        parts = self.written.kept
        if attached:
            try:
                parts = parts_of(text, attached, parts, self.conversation.attachments)
            except UserError:  # where a file cannot be stored, its text may be
                text = full
        text = "" if self.holds_secret(text) else text
        draft = self.written.draft(text, parts, self.state.editing)
        with self.saving("draft"):
            self.workspace.keep_draft(stored_id(self.conversation), draft)
        self.workspace.keep_open(self.conversation)
        return self.saving.works("draft")

    def _keep_queued(self, conversation_id: str, items: Sequence[StoredMessage]) -> None:
        with self.saving("queue"):
            self.workspace.keep_queued(conversation_id, items)

    def _edit(
        self,
        message_id: str | None,
        kept: tuple[Part, ...] = (),
        place: int | None = None,
        query: str = "",
    ) -> None:
        self.written.become(kept, place, query)
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
        path = self.conversation.path
        self._publish(told.ConversationChanged(path and path.absolute(), self.conversation.title))

    def _begin_state(self, **values: Any) -> None:
        """Let nothing of the former answer or load be shown any more."""
        names = ("queued", "editing", "download", "importing", "indexing", "tuning", "documents")
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

    def _no_model(self) -> Phrase:
        """Say that there is none, how to get one, and what is set that may be in its way."""
        said = _("No model is loaded. /model nano loads the small built-in one, /model FOLDER another.")
        if not (chosen := self.preferences.of_the_model()):
            return said
        why = str(self._refused)
        blamed = (key for key, value in chosen.items() if len(value) > 1 and os.path.expanduser(value) in why)
        return sentences(
            said,
            _(
                "Set for every model: {settings}. If that is what fails, take it back: /set {key} default"
            ).format(
                settings=listing(f"{key} = {value}" for key, value in chosen.items()),
                key=next(blamed, "NAME" if len(chosen) > 1 else next(iter(chosen))),
            ),
        )

    def _refuse_changes(self) -> bool:
        if self.conversation.newer_format:
            self.notice(_only_read(), "error")
        elif self.answer is not None:
            self.notice(_("An answer is being written. Esc stops it."), "warning")
        else:
            return False
        return True


def _lies_at(conversation: Conversation, path: Path) -> bool:
    return conversation.path is not None and conversation.path.absolute() == path.absolute()


def _is_same(one: Conversation, other: Conversation) -> bool:
    """Whether both are the same one: a copy of its file has its id, but lies next to it."""
    if one.id != other.id or one.path is None or other.path is None:
        return one is other
    return _lies_at(one, other.path) or not one.path.exists()


def _only_read() -> Phrase:
    """Say that a newer glmtui wrote to the open conversation."""
    return _(
        "A newer glmtui wrote to this conversation: some of it may not be shown here, and it can only be "
        "read. Update glmtui, or write in a new conversation."
    )


def _unoffered() -> Phrase:
    """Say that a model called a tool while none were offered."""
    return _("The model wants to use one more tool, which it is not offered.")


def _outgrown(dropped: int) -> Phrase:
    return ngettext(
        "The conversation has outgrown the context: the oldest round is no longer sent.",
        "The conversation has outgrown the context: the {n} oldest rounds are no longer sent.",
        dropped,
    ).format(n=dropped)

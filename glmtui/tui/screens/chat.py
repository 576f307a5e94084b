"""The main screen: history, chat, settings, and the lines at the bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import events, on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer

from glmtui.i18n import _, tell
from glmtui.protocol.messages import Image, Source
from glmtui.session import attached_file, keys
from glmtui.session import events as told
from glmtui.session.events import SessionState
from glmtui.text.clean import one_line
from glmtui.tui.composer import mentions
from glmtui.tui.composer.completion import Completion
from glmtui.tui.composer.composer import Composer
from glmtui.tui.composer.queue import QueueStrip
from glmtui.tui.history.history import HistoryPane
from glmtui.tui.pictures.gallery import Gallery
from glmtui.tui.pictures.painter import Painter
from glmtui.tui.screens.panes import PaneScreen
from glmtui.tui.settings_pane.pane import SettingsPane
from glmtui.tui.settings_pane.rows import Row
from glmtui.tui.status.bars import KeyHints, TitleBar
from glmtui.tui.status.line import StatusLine
from glmtui.tui.textual_patches import compositor
from glmtui.tui.transcript.message import AnswerEntry
from glmtui.tui.transcript.transcript import NoticeKind, Transcript
from glmtui.tui.transcript.welcome import Suggestion, Welcome

if TYPE_CHECKING:
    from glmtui.chat.library import Library
    from glmtui.protocol.phrases import Phrase
    from glmtui.session.attached_file import AttachedFile
    from glmtui.session.events import SessionEvent
    from glmtui.settings.settings import Settings
    from glmtui.tui.session_app import SessionApp

MEASURE = 96
"""The widest text, in cells: longer lines are hard to read."""
DRAFT_DELAY = 0.4
"""Seconds after the last key before the draft's tokens are counted."""


class ChatColumn(Vertical):
    """Keeps its text to a readable width."""

    def on_resize(self, event: events.Resize) -> None:
        """Share what is too wide between both sides."""
        side = max((event.size.width - MEASURE) // 2, 1)
        for child in self.children:
            if child.styles.padding != (0, side, 0, side):
                child.styles.padding = (0, side)


class ChatScreen(PaneScreen):
    """Lays out the panes, shows what the session publishes, and passes on what the person asks for."""

    AUTO_FOCUS = "Prompt"
    app: SessionApp

    def __init__(self, settings: Settings, library: Library, painter: Painter) -> None:
        super().__init__()
        self.painter = painter
        compositor.install(self)
        self._count_timer: Timer | None = None
        self._finder = mentions.FileFinder()
        self._library = library
        self._state = SessionState()
        self._answer: AnswerEntry | None = None
        self._build(settings)

    def _build(self, settings: Settings) -> None:
        self.history = HistoryPane(self._library)
        self.settings_pane = SettingsPane(settings, own=lambda: self.app.session.preferences.own())
        self.title_bar = TitleBar()
        self.welcome = Welcome()
        self.gallery = Gallery(lambda image: self.app.session.picture(image), self.painter)
        self.transcript = Transcript(
            lambda part: self.app.session.conversation.attachments.text(part), self.gallery, id="transcript"
        )
        self.queue_strip = QueueStrip()
        self.composer = Composer(
            completions=self._completions, files=self._files, take_file=self._take_file,
            name_picture=self._name_picture, holds_secret=lambda text: self.app.session.holds_secret(text),
            enter_sends=settings["ui.send_key"] == "enter", id="composer",
        )  # fmt: skip
        self.hints = KeyHints()
        self.status_line = StatusLine()

    def compose(self) -> ComposeResult:
        with Horizontal(id="panes"):
            yield self.history
            with ChatColumn(id="chat", classes="-empty"):
                yield self.title_bar
                yield self.welcome
                yield self.transcript
                yield self.queue_strip
                yield self.composer
                yield self.hints
            yield self.settings_pane
        yield self.status_line

    def on_mount(self) -> None:
        self.set_interval(1 / 8, self.status_line.animate_tick)
        self.screen_layout_refresh_signal.subscribe(self, lambda _screen: self._lift_toasts())

    def _lift_toasts(self) -> None:
        """Keep what is said in passing off what is being written, the keys, the status and the settings."""
        top = self.queue_strip if self.queue_strip.display else self.composer
        rows = min(self.size.height - top.region.y, self.size.height // 2)
        columns = self.settings_pane.region.width if self.has_class("-settings") else 0
        for rack in self.query("ToastRack"):
            if (rack.styles.margin.bottom, rack.styles.padding.right) != (rows, columns):
                rack.styles.margin = (0, 0, rows, 0)
                rack.styles.padding = (
                    0,
                    columns,
                    0,
                    0,
                )  # a margin at its side has no effect

    def on_screen_suspend(self) -> None:
        """Let the composer's border not show at the sides of a dialog that ends near it."""
        from glmtui.tui.screens.themes import ThemeScreen

        if not isinstance(self.app.screen, ThemeScreen):  # which shows how all looks
            self.composer.prompt.add_class("-behind")

    def on_screen_resume(self) -> None:
        self.composer.prompt.remove_class("-behind")

    @on(events.DescendantFocus)
    @on(events.DescendantBlur)
    def _focus_moved(self) -> None:
        """Mark the title of the pane with the focus: Textual 8.2 draws the pane anew, not what is in it."""
        for title in self.query(".pane-title"):
            title.update_node_styles()

    async def rebuild(self) -> None:
        history, self._answer = self.composer.prompt.sent, None
        self._build(self.app.settings)
        self.composer.prompt.sent = history
        await self.recompose()
        self._show_state()
        self.composer.focus()

    # --- the composer ---

    def write(self, text: str) -> None:
        self.composer.text = text
        self.composer.focus()

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        self.app.submit(event.text, event.attached)

    @on(Composer.AfterSent)
    def _after_sent(self, event: Composer.AfterSent) -> None:
        self.app.do(event.work())

    @on(QueueStrip.Requested)
    def _queue_requested(self, event: QueueStrip.Requested) -> None:
        session = self.app.session
        match event.action:
            case "edit":
                session.unqueue(event.number)
            case "cancel":
                session.cancel_queued(event.number)
            case "earlier" | "later":
                session.move_queued(event.number, -1 if event.action == "earlier" else 1)
            case "send" | "send_all":
                number = event.number if event.action == "send" else None
                self.app.do(session.send_queued(number))
            case "back":
                self.composer.focus()

    def action_queue(self) -> None:
        if not self.queue_strip.display:
            self.app.say(_("No message waits in this conversation."))
        elif self.queue_strip.has_focus:
            self.composer.focus()
        else:
            self.queue_strip.focus()

    @on(Suggestion.Taken)
    def _suggested(self, event: Suggestion.Taken) -> None:
        self.composer.focus()
        self.app.submit(event.text)

    @on(Composer.Changed)
    def _count_later(self) -> None:
        self.app.session.draft_changes(self.composer.text)
        if self._count_timer:
            self._count_timer.stop()
        self._count_timer = self.set_timer(DRAFT_DELAY, self._count)

    def _count(self) -> None:
        self.app.session.draft_changed(*self.composer.written())

    def _completions(self, before: str) -> Sequence[Completion]:
        session = self.app.session
        optional = session.commands.takes_new_name(before)
        return [
            Completion(text, description, label, optional)
            for text, description, label in session.commands.offers(session, before)
        ]

    def _files(self, name: str) -> Sequence[Completion]:
        return [Completion(file.path, file.size) for file in self._finder.find(name)]

    def _take_file(self, path: str) -> tuple[Phrase, AttachedFile]:
        return attached_file.take(path, self._state.limit)

    def _name_picture(self, path: Path) -> str:
        return self.app.session.name_picture(path)

    # --- what the session publishes ---

    def on_session_event(self, event: SessionEvent) -> None:
        match event:
            case told.StateChanged():
                self._state = event.state
                self._show_state()
            case told.SettingsChanged() | told.ModelChanged():
                self.settings_pane.reload()
            case told.ConversationChanged():
                self.title_bar.show(event.title)
                self.settings_pane.reload()
                self.history.current = event.path
                self.history.reload()
                self._count_later()  # there is more or less room now for what is being written
            case told.ConversationShown():
                self._answer = None
                self._set_empty(not event.messages)
                show = self.transcript.show_changes if event.changed else self.transcript.show
                show(event.messages, branches=event.versions)
                if event.opened:
                    self.history.end_search()
                    self.close_overlays()
                    self.composer.focus()
                if event.focus:
                    self.transcript.go_to(event.focus)
            case told.MessageAdded():
                self._set_empty(False)
                self.transcript.add(event.message, branches=event.versions)
            case told.AnswerBegun():
                self._set_empty(False)
                self._answer = self.transcript.begin_answer(event.message, branches=event.versions)
            case told.AnswerGrew() if self._answer is not None:
                self._answer.append(event.text, thought=event.thought)
            case told.AnswerCalled() if self._answer is not None:
                self._answer.show_parts(event.message)
            case told.AnswerEnded():
                if event.shown and self._answer is not None:
                    self._answer.finish(event.message)
                    self._answer = None
                if event.message.state in ("done", "length"):
                    self.app.call_back(event.seconds)
            case told.Noticed():
                self.notice(tell(event.text), event.kind)

    def notice(self, text: str, kind: NoticeKind) -> None:
        self._set_empty(False)
        self.transcript.notice(text, kind)

    def _show_state(self) -> None:
        state = self._state
        self.status_line.show(state)
        self.composer.show_count(state.draft, state.limit - state.used)
        self.composer.show_editing(state.editing is not None)
        self.queue_strip.show(state.queued, keys.shown("app.queue", self.app.settings.keys))
        self.update_hints()
        if self.welcome.display and self.welcome.is_mounted:
            self.welcome.show(state)

    def update_hints(self) -> None:
        own = self.app.settings.keys
        self.composer.show_keys(
            keys.shown("composer.enter", own) or "–", keys.shown("composer.other_enter", own) or "–"
        )
        self.hints.show(self._hints())

    def _hints(self) -> Sequence[tuple[str, str, str]]:
        own, scope = self.app.settings.keys, self.scope()
        stoppable = self._state.busy or self._state.activity == "loading"
        here = [key for key in keys.KEYS if key.scope == scope]
        goes_back = any("escape" in keys.keys_of(key, own) for key in here)
        first = [key for key in keys.KEYS if key.id == "chat.stop" and stoppable and not goes_back]
        everywhere = [key for key in keys.KEYS if key.scope == "app" and key.id != "chat.stop"]
        everywhere.sort(key=lambda key: key.id != f"app.{scope}")  # first what closes the pane one is in
        names = {} if self.composer.enter_sends else {"composer.other_enter": _("send")}
        return [
            (
                keys.shown(key.id, own),
                names.get(key.id, _(key.hint)),
                f"app.{key.action}" if key.scope == "app" else "",
            )
            for key in (*first, *here, *everywhere)
            if key.hint
        ]

    def on_descendant_focus(self) -> None:
        self.update_hints()

    def _set_empty(self, empty: bool) -> None:
        self.query_one("#chat").set_class(empty, "-empty")

    # --- requests of the panes ---

    @on(HistoryPane.Chosen)
    def _chosen(self, event: HistoryPane.Chosen) -> None:
        self.app.do(self.app.session.open(event.path, event.message_id))

    @on(HistoryPane.Requested)
    def _requested(self, event: HistoryPane.Requested) -> None:
        session = self.app.session
        match event.action:
            case "rename":
                self.app.do(session.rename(event.path))
            case "delete":
                self.app.do(session.trash(event.path))
            case "pin":
                with session.saying_errors():
                    session.pin(event.path)
            case "restore":
                self.app.do(session.restore(event.path))
            case "filter":
                self.app.do(self._choose_filter())

    async def _choose_filter(self) -> None:
        from glmtui.tui.screens.choice import ChoiceScreen

        models: list[str | None] = [None, *await asyncio.to_thread(self._library.models)]
        rows = [Content(one_line(model) if model else _("All models")) for model in models]
        present = models.index(self.history.model) if self.history.model in models else 0
        chosen = await self.app.push_screen_wait(ChoiceScreen(_("Conversations with"), rows, present))
        if chosen is not None:
            self.history.show_model(models[chosen])

    @on(Row.Changed)
    def _setting_changed(self, event: Row.Changed) -> None:
        with self.settings_pane.saying_errors():
            event.change(self.app.session.preferences)

    @on(Transcript.MessageAction)
    def _message_action(self, event: Transcript.MessageAction) -> None:
        """Do something with one message of the transcript; its text is what to copy or quote."""
        session, message_id = self.app.session, event.message_id
        conversation = session.conversation
        if conversation.is_deleted(message_id):  # a second press came before the first was done
            return
        match event.action:
            case "copy" | "copy_code":
                self.app.copy(event.text or conversation.messages[message_id].text)
            case "quote":
                self.composer.quote(event.text or conversation.messages[message_id].text)
            case "edit":
                branch = conversation.branch()
                ids = [message.id for message in branch]
                before = branch[: ids.index(message_id) + 1] if message_id in ids else []
                questions = [message.id for message in before if message.role == "user"]
                if questions:  # of an answer: what it answers
                    session.edit(questions[-1])
                else:  # of a conversation that begins with an answer
                    self.app.say(_("There is no message of yours to change yet."))
            case "regenerate":
                self.app.do(session.regenerate(message_id))
            case "continue":
                self.app.do(session.continue_answer())
            case "delete":
                self.app.do(session.delete(message_id))
            case "previous_branch" | "next_branch":
                step = 1 if event.action == "next_branch" else -1
                self.app.do(session.select_version(message_id, step))
            case _:
                raise ValueError(event.action)

    @on(Transcript.LinksRequested)
    def _links_requested(self, event: Transcript.LinksRequested) -> None:
        from glmtui.tui.screens.links import LinkScreen

        self.app.push_screen(LinkScreen(event.links))

    @on(Transcript.SourcesRequested)
    def _sources_requested(self, event: Transcript.SourcesRequested) -> None:
        from glmtui.tui.screens.sources import SourcesScreen

        messages = self.app.session.conversation.messages
        message = messages[event.message_id]
        sources = [part for part in message.parts if isinstance(part, Source)]
        question = messages[message.parent].text if message.parent else ""
        if sources:
            self.app.push_screen(SourcesScreen(sources, question))
        else:
            self.app.say(_("This message rests on no sources."))

    @on(Transcript.PictureRequested)
    def _picture_requested(self, event: Transcript.PictureRequested) -> None:
        from glmtui.tui.screens.picture import PictureScreen

        message = self.app.session.conversation.messages[event.message_id]
        images = [part for part in message.parts if isinstance(part, Image)]
        first = sum(isinstance(part, Image) for part in message.parts[: event.number])
        self.app.push_screen(PictureScreen(images, first))

    def action_copy_text(self) -> None:
        """Copy what is selected with the mouse, by all the ways there are."""
        if not (text := self.get_selected_text()):
            raise SkipAction
        self.app.copy(text)

    def action_page(self, by: float) -> None:
        self.transcript.action_page(by)

    def action_to_end(self) -> None:
        self.transcript.action_last()

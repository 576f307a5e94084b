"""The main screen: history, chat, settings, and the lines at the bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import events, on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer

from glmtui import reasoning
from glmtui.i18n import _
from glmtui.session import keys
from glmtui.session.own_settings import own
from glmtui.session.slash import registry as commands
from glmtui.session.view import AnswerHandle, Kind
from glmtui.text.clean import one_line
from glmtui.tui.composer import mentions
from glmtui.tui.composer.completion import Completion
from glmtui.tui.composer.composer import Composer
from glmtui.tui.composer.queue import QueueStrip
from glmtui.tui.history.history import HistoryPane
from glmtui.tui.screens.panes import PaneScreen
from glmtui.tui.settings_pane.pane import SettingsPane
from glmtui.tui.settings_pane.rows import PresetRow, Row, SettingRow
from glmtui.tui.status.bars import KeyHints, TitleBar
from glmtui.tui.status.line import StatusLine
from glmtui.tui.textual_patches import compositor
from glmtui.tui.transcript.message import AnswerEntry, said
from glmtui.tui.transcript.transcript import Transcript
from glmtui.tui.transcript.welcome import Suggestion, Welcome

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message
    from glmtui.tui.app import GlmTui

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


class _Answer:
    """Tells the thought from the answer in what the engine streams as one text."""

    def __init__(self, entry: AnswerEntry) -> None:
        self._entry = entry
        self._came, self._thought, self._text = entry.message.text, *said(entry.message)

    def append(self, text: str) -> None:
        self._came += text
        thought, text, _thinking = reasoning.split(self._came)
        self._entry.append(thought[len(self._thought) :], thought=True)
        self._entry.append(text[len(self._text) :])
        self._thought, self._text = thought, text

    async def finish(self, message: Message) -> None:
        self._entry.finish(message)


class ChatScreen(PaneScreen):
    """Lays out the panes and shows what the controller says: it is the controller's `ChatView`."""

    AUTO_FOCUS = "Prompt"
    app: GlmTui

    def __init__(self, app: GlmTui) -> None:
        super().__init__()
        compositor.install(self)
        self._count_timer: Timer | None = None
        self._finder = mentions.FileFinder()
        self._build(app)

    def _build(self, app: GlmTui) -> None:
        settings = app.settings
        self.history = HistoryPane(app.library)
        self.settings_pane = SettingsPane(settings, own=lambda: own(app))
        self.title_bar = TitleBar()
        self.welcome = Welcome()
        self.transcript = Transcript(id="transcript")
        self.queue_strip = QueueStrip()
        self.composer = Composer(
            completions=self._completions, files=self._files, take_file=self._take_file,
            history=app.desk.prompts.entries(), enter_sends=settings["ui.send_key"] == "enter", id="composer",
        )  # fmt: skip
        self.hints = KeyHints()
        self.status_line = StatusLine()

    def compose(self) -> ComposeResult:
        """Three panes, and the status below them."""
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
        """Move what moves."""
        self.set_interval(1 / 8, self.status_line.animate_tick)
        self.screen_layout_refresh_signal.subscribe(self, lambda _screen: self._lift_toasts())

    def _lift_toasts(self) -> None:
        """Keep what is said in passing off what is being written, the keys and the status."""
        top = self.queue_strip if self.queue_strip.display else self.composer
        rows = min(self.size.height - top.region.y, self.size.height // 2)
        for rack in self.query("ToastRack"):
            if rack.styles.margin.bottom != rows:
                rack.styles.margin = (0, 0, rows, 0)

    async def rebuild(self) -> None:
        """Make everything anew, in the language that is now in use."""
        self._build(self.app)
        await self.recompose()
        self.composer.focus()

    # --- the composer ---

    def write(self, text: str) -> None:
        """Put text into the composer for the person to go on with."""
        self.composer.text = text
        self.composer.focus()

    def edit(self, message_id: str) -> None:
        """Put a message into the composer; sending it makes another version."""
        self.app.controller.edit(message_id)
        self.write(self.app.controller.conversation.messages[message_id].text)

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        self.app.submit(event.text)

    @on(Composer.AfterSent)
    def _after_sent(self, event: Composer.AfterSent) -> None:
        self.app.do(event.work())

    @on(QueueStrip.Wanted)
    def _queue_wanted(self, event: QueueStrip.Wanted) -> None:
        controller = self.app.controller
        match event.action:
            case "edit":
                if (text := controller.unqueue(event.number)) is not None:
                    self.restore(text)
            case "cancel":
                if controller.drop(event.number):
                    self.app.say(_("Cancelled. /undo brings it back."))
            case "earlier" | "later":
                controller.move(event.number, -1 if event.action == "earlier" else 1)
            case "send" | "send_all":
                number = event.number if event.action == "send" else None
                self.app.run_worker(controller.send_waiting(number))
            case "back":
                self.composer.focus()

    def toggle_queue(self) -> None:
        """Go to the waiting messages, or back to the composer."""
        if self.queue_strip.has_focus or not self.queue_strip.display:
            self.composer.focus()
        else:
            self.queue_strip.focus()

    @on(Suggestion.Taken)
    def _suggested(self, event: Suggestion.Taken) -> None:
        self.composer.focus()
        self.app.submit(event.text)

    @on(Composer.Changed)
    def _count_later(self) -> None:
        if self._count_timer:
            self._count_timer.stop()
        self._count_timer = self.set_timer(DRAFT_DELAY, self._count)

    def _count(self) -> None:
        self.app.desk.keep_draft()
        draft = self.composer.text
        self.app.controller.measure(draft if commands.parse(draft) is None else "")

    def _completions(self, before: str) -> Sequence[Completion]:
        return [
            Completion(text, description, label=label)
            for text, description, label in commands.offers(self.app, before)
        ]

    def _files(self, name: str) -> Sequence[Completion]:
        return [Completion(file.path, file.size) for file in self._finder.find(name)]

    def _take_file(self, path: str) -> tuple[str, str]:
        return mentions.take(path, self.app.controller.status.limit)

    # --- what the controller says ---

    async def show(self, messages: Sequence[Message]) -> None:
        """Show a conversation."""
        self._set_empty(not messages)
        self.transcript.show(messages, branches=self._branches(messages))

    async def show_changes(self, messages: Sequence[Message]) -> None:
        """Show what others changed in the conversation."""
        self._set_empty(not messages)
        self.transcript.show_changes(messages, branches=self._branches(messages))

    async def add(self, message: Message) -> None:
        """Show one more message."""
        self._set_empty(False)
        self.transcript.add(message, branches=self._branches([message]))

    async def begin_answer(self, message: Message) -> AnswerHandle:
        """Show an answer that will grow."""
        self._set_empty(False)
        return _Answer(self.transcript.begin_answer(message, branches=self._branches([message])))

    def _branches(self, messages: Sequence[Message]) -> dict[str, tuple[int, int]]:
        """Which version each message is, of how many, where it has several."""
        conversation, found = self.app.controller.conversation, {}
        for message in messages:
            versions = conversation.siblings(message.id)
            if len(versions) > 1:
                found[message.id] = (
                    [version.id for version in versions].index(message.id) + 1,
                    len(versions),
                )
        return found

    def go_to(self, message_id: str) -> None:
        """Bring a message into view."""
        self.transcript.go_to(message_id)

    def notice(self, text: str, kind: Kind = "info") -> None:
        """Say something of the app's own in the transcript."""
        self._set_empty(False)
        self.call_later(self.transcript.notice, text, kind)

    def say_markdown(self, text: str) -> None:
        """Show a longer text of the app's own."""
        self._set_empty(False)
        self.call_later(self.transcript.notice_markdown, text)

    def restore(self, text: str) -> None:
        """Put text back into the composer, before what is there."""
        present = self.composer.text
        self.write(f"{text}\n{present}" if present.strip() else text)

    def status_changed(self) -> None:
        """Draw the status, the queue and the hints."""
        controller = self.app.controller
        self.app.desk.keep_waiting()
        status = controller.status
        self.status_line.show(status)
        self.composer.show_count(status.draft, status.limit - status.used)
        self.composer.show_editing(controller.editing is not None)
        self.queue_strip.show(controller.waiting, keys.shown("app.queue", self.app.settings.keys))
        self.update_hints()
        if self.welcome.display and self.welcome.is_mounted:
            self.welcome.show(controller.status)

    def model_changed(self) -> None:
        """Draw the settings again."""
        self.settings_pane.reload()

    def conversation_changed(self) -> None:
        """Draw the title and the list again."""
        conversation = self.app.controller.conversation
        self.title_bar.show(conversation.title)
        self.settings_pane.reload()
        self.history.current = conversation.id
        self.history.reload()
        self._count_later()  # there is more or less room now for what is being written

    def answer_ended(self, seconds: float) -> None:
        """Call the person back, if the answer was long and they look elsewhere."""
        self.app.call_back(seconds)

    def update_hints(self) -> None:
        """Show the keys that matter where one is."""
        own = self.app.settings.keys
        self.composer.show_keys(
            keys.shown("composer.enter", own) or "–", keys.shown("composer.other_enter", own) or "–"
        )
        self.hints.show(self._hints())

    def _hints(self) -> Sequence[tuple[str, str, str]]:
        own, scope = self.app.settings.keys, self.scope()
        stoppable = self.app.link.status.busy or self.app.link.loading
        here = [key for key in keys.KEYS if key.scope == scope]
        goes_back = any("escape" in keys.keys_of(key, own) for key in here)
        first = [key for key in keys.KEYS if key.id == "chat.stop" and stoppable and not goes_back]
        everywhere = [key for key in keys.KEYS if key.scope == "app" and key.id != "chat.stop"]
        everywhere.sort(key=lambda key: key.id != f"app.{scope}")  # first what closes the pane one is in
        words = {} if self.composer.enter_sends else {"composer.other_enter": _("send")}
        return [
            (
                keys.shown(key.id, own),
                words.get(key.id, _(key.hint)),
                f"app.{key.action}" if key.scope == "app" else "",
            )
            for key in (*first, *here, *everywhere)
            if key.hint
        ]

    def on_descendant_focus(self) -> None:
        """Other keys matter now."""
        self.update_hints()

    def _set_empty(self, empty: bool) -> None:
        self.query_one("#chat").set_class(empty, "-empty")

    # --- the panes' wishes ---

    @on(HistoryPane.Chosen)
    def _chosen(self, event: HistoryPane.Chosen) -> None:
        self.app.do(self.app.desk.open(event.conversation_id, event.message_id))

    @on(HistoryPane.Wanted)
    def _wanted(self, event: HistoryPane.Wanted) -> None:
        match event.action:
            case "rename":
                self.app.do(self.app.desk.rename(event.conversation_id))
            case "delete":
                self.app.do(self.app.desk.trash(event.conversation_id))
            case "pin":
                self.app.do(self.app.desk.pin(event.conversation_id))
            case "restore":
                self.app.do(self.app.desk.restore(event.conversation_id))
            case "filter":
                self.app.do(self._choose_filter())
            case command:
                self.app.run_command(command)

    async def _choose_filter(self) -> None:
        from glmtui.tui.screens.choice import ChoiceScreen

        models: list[str | None] = [None, *await asyncio.to_thread(self.app.library.models)]
        rows = [Content(one_line(model) if model else _("All models")) for model in models]
        present = models.index(self.history.model) if self.history.model in models else 0
        chosen = await self.app.push_screen_wait(ChoiceScreen(_("Conversations with"), rows, present))
        if chosen is not None:
            self.history.show_model(models[chosen])

    @on(SettingRow.Changed)
    async def _setting_changed(self, event: SettingRow.Changed) -> None:
        with self.settings_pane.saying_errors():
            await self.app.preferences.put(event.setting, event.value)

    @on(SettingRow.Typed)
    async def _setting_typed(self, event: SettingRow.Typed) -> None:
        with self.settings_pane.saying_errors():
            await self.app.preferences.put(event.setting, event.setting.parse(event.text))

    @on(SettingRow.Reset)
    async def _setting_reset(self, event: SettingRow.Reset) -> None:
        with self.settings_pane.saying_errors():
            await self.app.preferences.clear(event.setting)

    @on(SettingRow.Here)
    def _setting_here(self, event: SettingRow.Here) -> None:
        with self.settings_pane.saying_errors():
            self.app.preferences.toggle_here(event.setting)

    @on(PresetRow.Changed)
    async def _preset_changed(self, event: PresetRow.Changed) -> None:
        with self.settings_pane.saying_errors():
            self.app.settings.apply_preset(event.name)
            self.settings_pane.reload()

    @on(Row.Pick)
    def _pick(self, event: Row.Pick) -> None:
        self.app.run_command(event.command)

    @on(Transcript.MessageAction)
    def _message_action(self, event: Transcript.MessageAction) -> None:
        from glmtui.tui.transcript.message_actions import perform

        self.app.do(perform(self.app, event.message_id, event.action, event.text))

    @on(Transcript.LinkWanted)
    def _link_wanted(self, event: Transcript.LinkWanted) -> None:
        from glmtui.tui.screens.links import LinkScreen

        self.app.push_screen(LinkScreen(event.links))

    def action_copy_text(self) -> None:
        """Copy what is selected with the mouse, by all the ways there are."""
        if not (text := self.get_selected_text()):
            raise SkipAction
        self.app.copy(text)

    def action_page(self, by: float) -> None:
        """Scroll the conversation from wherever one is."""
        self.transcript.action_page(by)

    def action_to_end(self) -> None:
        """Go to the end of the conversation and stay there."""
        self.transcript.action_last()

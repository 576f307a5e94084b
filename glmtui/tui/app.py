"""The app: puts the settings, the session and the screen together."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from threading import Thread
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual.binding import BindingType
from textual.message import Message
from textual.widgets import Input, TextArea

from glmtui import failures, i18n, paths
from glmtui.chat.library import Library
from glmtui.i18n import _, tell
from glmtui.session.keys import BY_ID
from glmtui.session.options import AppOptions
from glmtui.settings.settings import Settings
from glmtui.signals import end_soon
from glmtui.tui.bindings import bindings
from glmtui.tui.composer.composer import Composer
from glmtui.tui.pictures import painter
from glmtui.tui.pictures.painter import Painter, Way
from glmtui.tui.screens.chat import ChatScreen
from glmtui.tui.session_app import SessionApp
from glmtui.tui.textual_patches import guard, terminal
from glmtui.tui.theme_files import ThemeFiles

if TYPE_CHECKING:
    from textual.actions import ActionParseResult
    from textual.command import Provider
    from textual.dom import DOMNode
    from textual.driver import Driver
    from textual.screen import Screen

    from glmtui.protocol.engine import Engine
    from glmtui.protocol.phrases import Phrase, Sayable
    from glmtui.session.attached_file import AttachedFile
    from glmtui.session.chat_session import ChatSession
    from glmtui.session.events import Kind, SessionEvent
    from glmtui.session.ui import View

COPY_KEY = "ctrl+c"
"""That copies in Textual's fields and screens."""
POLL_SECONDS = 1 / 12
MEMORY_SECONDS = 2.0
TIDY_SECONDS = 30.0
"""After the start: nobody waits for it."""
WATCH_SECONDS = 1.0
"""Between two looks at whether others wrote to the settings, a theme or the open conversation."""


def _palette() -> type[Provider]:
    from glmtui.tui.palette import CommandProvider

    return CommandProvider


class GlmTui(SessionApp):
    """A full-screen chat with ChatGLM models. It is the session's `Ui`.

    Args:
        options: what the command line said.
        engine: runs the model; by default a `glmtui.engine.local.LocalEngine` made after the first paint.
        settings: read already; by default from the person's file.
    """

    TITLE = "glmtui"
    CSS_PATH = "app.tcss"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_palette}
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("app")]
    INTERRUPT_SECONDS = 2.0
    has_keys = True

    def __init__(
        self,
        options: AppOptions = AppOptions(),  # noqa: B008 (frozen)
        engine: Engine | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.options = options
        self.settings = settings or Settings.load()
        self.settings.override(options.settings)
        i18n.use(str(self.settings["ui.language"]))
        self.library = Library()
        super().__init__()
        self._engine = engine
        self.themes = ThemeFiles(self)
        self.themes.choose(str(self.settings["ui.theme"]))
        self.set_keymap(dict(self.settings.keys))
        self._sixels: bool | None = None
        self._version: Sequence[int] = ()
        """Of the terminal, as it says it."""
        """Whether the terminal draws them; None while it was not asked."""
        self.painter = Painter(self._picture_way, partial(terminal.cell, self), partial(terminal.send, self))
        self.chat = ChatScreen(self.settings, self.library, self.painter)
        self._interrupted = -self.INTERRUPT_SECONDS
        self._ending = self._end_limited = False
        self.ended_by: BaseException | None = None
        """What the app could not go on after."""
        guard.install()

    @cached_property
    def session(self) -> ChatSession:
        from glmtui.session.chat_session import ChatSession
        from glmtui.session.slash.registry import COMMANDS

        i18n.write_options(COMMANDS.option)
        session = ChatSession(self._make_engine, self.library, self.settings, self, COMMANDS)
        session.subscribe(self._on_session_event)
        return session

    def _make_engine(self) -> Engine:
        from glmtui.engine.local import LocalEngine
        from glmtui.session.serving import SLOTS

        return self._engine or LocalEngine(slots=1 + SLOTS)

    # --- starting and ending ---

    def get_default_screen(self) -> Screen[Any]:
        self.chat.fit(self.size, self.settings)
        return self.chat

    def refresh_css(self, animate: bool = True) -> None:
        """Apply the theme; where there is no screen yet, nothing has to be styled anew."""
        if self.screen_stack:
            super().refresh_css(animate)
        else:
            self.stylesheet.set_variables(self.get_css_variables())

    def on_ready(self) -> None:
        """Everything slow comes after the first paint."""
        gc.freeze()  # what is there now stays: collecting need not look at it again and again
        gc.enable()
        # Textual 8.2 does so after an editor alone; whoever stopped the program would see a blank screen.
        self.app_resume_signal.subscribe(self, lambda _app: self.refresh(layout=True))
        self.call_after_refresh(self._begin)

    async def _begin(self) -> None:
        self.set_interval(POLL_SECONDS, self.session.poll)
        self.set_interval(WATCH_SECONDS, self._watch_files)
        self.set_interval(MEMORY_SECONDS, self._measure_memory)
        self.chat.composer.prompt.sent = self.session.workspace.prompts.entries()
        await self.session.open_first(self.options.conversation)
        self._tell_problems()
        for problem in self.themes.problems:
            self.session.notice(problem, "warning")
        self.session.load()
        self.set_timer(TIDY_SECONDS, self._tidy)

    def _tidy(self) -> None:
        """Remove files that no conversation names any more."""
        Thread(target=self.library.tidy, name="glmtui-tidy", daemon=True).start()

    def quit(self, code: int = 0) -> None:
        """Keep what there is and end, within a second; the first reason to end counts."""
        if self._ending:
            return
        self._ending = True
        self._limit_end(code)
        try:
            if "session" in self.__dict__:  # else there was not even time to begin one
                self.session.close()
        except Exception as error:  # noqa: BLE001 (it is left all the same)
            failures.write_log(error)
        self.exit(return_code=code)

    async def action_quit(self) -> None:
        self.quit()

    def end_by_signal(self, number: int) -> None:
        """End as soon as the running step is done; at once where nothing runs yet or any more."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise SystemExit(128 + number) from None
        loop.call_soon_threadsafe(self.quit, 128 + number)
        self._limit_end(128 + number)  # the loop may wait for a terminal that takes nothing

    def _limit_end(self, code: int) -> None:
        if not self._end_limited and (driver := terminal.driver(self)) is not None:
            self._end_limited = True
            end_soon(code, driver.give_up_output, driver.restore)

    def fault(self, error: BaseException) -> str:
        """Say that something nobody foresaw happened; without memory, or before there is a session, end.

        While the app ends, widgets that are half made or gone miss things: that is only written down.
        """
        if self._ending:
            failures.write_log(error)
            return ""
        if failures.is_out_of_memory(error) or "session" not in self.__dict__:
            self.ended_by = self.ended_by or error
            self.quit(1)
            return ""
        phrase, is_new = self.session.faults.describe(error)
        if is_new:
            self.call_later(self._tell_fault, phrase)  # not while something is drawn
        return tell(phrase)

    def _tell_fault(self, phrase: Phrase) -> None:
        self.session.notice(phrase, "error")
        if self.screen is not self.chat:
            self.say(phrase, "error")

    def get_driver_class(self) -> type[Driver]:
        """Textual's choice, or on Unix ours, which knows when the terminal is gone."""
        from glmtui.tui.textual_patches import alt_keys, sink

        alt_keys.install()
        sink.install()
        if sys.platform == "win32":
            return super().get_driver_class()
        from glmtui.tui.textual_patches.driver import TerminalDriver

        return TerminalDriver

    def _picture_way(self) -> Way:
        """Return how pictures are drawn now; ask the terminal what it can when the first one is there."""
        if self._sixels is None:
            self._sixels = False
            terminal.send(self, terminal.WHICH_VERSION + terminal.WHAT_ARE_YOU)
        setting, has_sixels = str(self.settings["ui.pictures"]), self._sixels and all(terminal.cell(self))
        colors = self.console.color_system
        return painter.chosen(setting, os.environ, colors, has_sixels=has_sixels, version=self._version)

    def on_terminal_attributes(self, event: Message) -> None:
        """The terminal says what it is; whether it draws sixels is all that is of interest."""
        if terminal.SIXELS in getattr(event, "codes", ()) and not self._sixels:
            self._sixels = True
            self.chat.transcript.pictures_changed()

    def on_terminal_version(self, event: Message) -> None:
        """The terminal says which it is: some draw pictures from a certain version on."""
        self._version = getattr(event, "numbers", ())
        self.chat.transcript.pictures_changed()

    def on_terminal_gone(self) -> None:
        self.quit(128 + signal.SIGHUP)

    # --- what the session publishes ---

    def _on_session_event(self, event: SessionEvent) -> None:
        """Pass on what happened, as long as there is somebody to see it."""
        from glmtui.session import events as told

        if not self.is_running:
            return
        with self.session.guarding():
            self.chat.on_session_event(event)
        match event:
            case told.SettingsChanged():
                self._settings_changed(event.keys)
            case told.ModelsChanged():
                self._draw_models()
            case told.LoadRefused(absent) if absent is not None:
                self._show_models(absent)

    def _settings_changed(self, keys: frozenset[str]) -> None:
        settings = self.settings
        if "keys" in keys:
            self.set_keymap(dict(settings.keys))
            self.chat.update_hints()
        if "ui.theme" in keys:
            self.themes.choose(str(settings["ui.theme"]))
            if self.theme != settings["ui.theme"]:
                self.session.notice(self.themes.problems[-1], "warning")
        if "ui.language" in keys:
            self.do(self._rebuild())
        if "ui.pictures" in keys:
            self.chat.transcript.pictures_changed()
        if "ui.send_key" in keys:
            self.chat.composer.enter_sends = settings["ui.send_key"] == "enter"
            self.chat.update_hints()
        if keys & {"ui.history_pane", "ui.settings_pane"}:
            self.chat.apply_panes()

    async def _rebuild(self) -> None:
        text = self.chat.composer.text
        await self.session.rebuild(self.chat.rebuild)
        self.chat.composer.text = text

    def _measure_memory(self) -> None:
        from glmtui.engine.usage import usage

        info = self.session.state.info
        self.chat.status_line.show_usage(usage(info.device if info and info.device else "cpu"))

    async def _watch_files(self) -> None:
        if self.session.preferences.reread():
            self._tell_problems()
        await self.session.reread()
        paths.leave_missing_folder()
        if self.themes.changed():
            self.themes.choose(str(self.settings["ui.theme"]))
            self.refresh_css()
            for problem in self.themes.problems:
                self.say(problem, "warning")

    def _tell_problems(self) -> None:
        from glmtui.session.preferences import problems

        for problem in problems(self.settings):
            self.session.notice(problem, "warning")

    # --- what the session needs (`Ui`), besides `SessionApp` ---

    def say(self, text: Sayable, kind: Kind = "info", *, markdown: bool = False) -> None:
        """Say something short, for a moment; a longer text stays among the messages."""
        if markdown:
            self.chat.notice(tell(text), "markdown")
        else:
            super().say(text, kind)

    def draft(self) -> str:
        return self.chat.composer.written()[0]

    def attached(self) -> Sequence[AttachedFile]:
        return self.chat.composer.written()[1]

    def put_draft(self, text: str) -> None:
        self.chat.write(text)

    async def show(self, view: View, argument: str = "") -> None:
        """Show a pane or a dialog; hide the pane if it is there."""
        match view:
            case "help":
                self._show_help("commands")
            case "keys":
                from glmtui.tui.screens.keys import KeysScreen

                await self.push_screen(KeysScreen())
            case "conversations":
                await self.chat.toggle_history()
            case "settings":
                await self.chat.toggle_settings()
            case "search":
                await self.chat.search(argument)
            case "trash":
                await self.chat.show_trash()
            case "presets":
                await self._show_presets()
            case "themes":
                from glmtui.tui.screens.themes import ThemeScreen

                await self.push_screen_wait(ThemeScreen(self.themes.files))
            case "models":
                self._show_models(argument or None)
            case "queue":
                self.chat.action_queue()
            case "documents":
                from glmtui.tui.screens.documents import DocumentsScreen

                await self.push_screen(DocumentsScreen())
            case "tune":
                from glmtui.tui.screens.tune import TuneScreen

                await self.push_screen(TuneScreen())
            case "compare":
                from glmtui.tui.screens.compare import CompareScreen

                await self.push_screen(CompareScreen())

    async def _show_presets(self) -> None:
        from glmtui.tui.screens.presets import PresetScreen

        match await self.push_screen_wait(PresetScreen()):
            case ("use", name):
                self.session.preferences.use_preset(name)
            case ("save", _name):
                if typed := await self.ask(_("Save the present values as")):
                    await self.session.run("preset", f"save {typed}")

    def _show_help(self, first: Literal["keys", "commands"]) -> None:
        from glmtui.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.chat.scope(), self.settings.keys, first=first))

    def _show_models(self, first: str | None = None) -> None:
        from glmtui.tui.screens.models import ModelsScreen

        def take(source: str | None) -> None:
            if source is not None:
                with self.session.saying_errors():
                    self.session.preferences.set("model.source", source or None)

        if not isinstance(self.screen, ModelsScreen):
            self.push_screen(ModelsScreen(first), take)

    def _draw_models(self) -> None:
        from glmtui.tui.screens.models import ModelsScreen

        for screen in self.screen_stack:
            if isinstance(screen, ModelsScreen) and screen.is_attached:
                screen.draw()

    # --- actions ---

    def action_run(self, name: str) -> None:
        """Do what a key is bound to: it leads into the pane that it opens, where a typed command does not."""
        self.do(self._run_by_key(name))

    async def _run_by_key(self, name: str) -> None:
        await self.session.run(name)
        if self.screen is self.chat:
            self.chat.enter_pane(name)

    def action_help(self) -> None:
        self._show_help("keys")

    def action_stop(self) -> None:
        """Cancel the answer; else close what lies over the chat, go back to the composer, cancel the load.

        It goes the way of what is sent, so that what was sent before it is there to be cancelled.
        """
        away = self.chat.scope() != "composer"
        self.chat.composer.post_message(Composer.AfterSent(lambda: self._stop(away)))

    async def _stop(self, away: bool) -> None:
        if self.session.answering or not (self.chat.close_overlays() or away):
            self.session.stop()
        self.session.edit_no_more()
        self.chat.history.end_search()
        self.chat.composer.focus()

    async def action_interrupt(self) -> None:
        """Cancel what runs; twice within two seconds: quit."""
        if not self._quits_the_second_time():
            self.chat.composer.post_message(Composer.AfterSent(self._interrupt))

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Let Ctrl+C count also where it copies what is selected, as a field's text is from the start."""
        copied: str | None = None
        if action == "copy" and isinstance(default_namespace, Input | TextArea):
            copied = default_namespace.selected_text
        elif action == "screen.copy_text":
            copied = self.screen.get_selected_text()
        interrupts = self.settings.keys.get("app.interrupt", BY_ID["app.interrupt"].keys).split(",")
        if copied and COPY_KEY in interrupts and self._quits_the_second_time():
            return True
        return await super().run_action(action, default_namespace, namespaces)

    def _quits_the_second_time(self) -> bool:
        """Note that Ctrl+C was pressed; quit, and return True, if it is the second time."""
        from time import monotonic

        now = monotonic()
        if now - self._interrupted < self.INTERRUPT_SECONDS:
            self.quit()
            return True
        self._interrupted = now
        return False

    async def _interrupt(self) -> None:
        if not self.session.stop():
            self.say(_("Ctrl+C again quits."))

    def action_unqueue(self) -> None:
        self.session.unqueue()

    def action_command_palette(self) -> None:
        from glmtui.tui.palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(placeholder=_("Search the commands"), id="--command-palette"))

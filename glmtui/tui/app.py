"""The app: puts the settings, the library, the worker and the screen together."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from textual.binding import BindingType

from glmtui import i18n
from glmtui.chat.library import Library
from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.session.model_link import ModelLink
from glmtui.session.options import AppOptions
from glmtui.session.slash import registry as commands
from glmtui.session.ui import apply_options, load_model, make_worker
from glmtui.session.workspace import Desk
from glmtui.settings.settings import Settings, named
from glmtui.tui.bindings import bindings
from glmtui.tui.composer.composer import Composer
from glmtui.tui.front import FrontApp
from glmtui.tui.preferences import Preferences
from glmtui.tui.screens.chat import ChatScreen
from glmtui.tui.signals import when_told_to_end
from glmtui.tui.theme_files import ThemeShelf

if TYPE_CHECKING:
    from textual.command import Provider
    from textual.driver import Driver
    from textual.screen import Screen

    from glmtui.protocol.events import Event, Failed
    from glmtui.session.controller import ChatController
    from glmtui.session.model_jobs import ModelShelf
    from glmtui.session.model_link import WorkerLike

POLL_SECONDS = 1 / 12
MEMORY_SECONDS = 2.0
WATCH_SECONDS = 1.0
"""Between two looks at whether others wrote to the settings, a theme or the open conversation."""


def _palette() -> type[Provider]:
    from glmtui.tui.palette import CommandProvider

    return CommandProvider


class GlmTui(FrontApp):
    """A full-screen chat with ChatGLM models.

    Args:
        options: what the command line said.
        worker: runs the model; by default a `glmtui.engine.local.Worker` made after the first paint.
        settings: read already; by default from the person's file.
    """

    TITLE = "glmtui"
    CSS_PATH = "app.tcss"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_palette}
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("app")]
    INTERRUPT_SECONDS = 2.0

    def __init__(
        self,
        options: AppOptions = AppOptions(),  # noqa: B008 (frozen)
        worker: WorkerLike | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.options = options
        self.settings = settings or Settings.load()
        self.preferences = Preferences(self)
        apply_options(self.settings, options)
        i18n.use(str(self.settings["ui.language"]))
        self.library = Library()
        super().__init__()
        self.themes = ThemeShelf(self)
        self.themes.choose(str(self.settings["ui.theme"]))
        self.set_keymap(dict(self.settings.keys))
        self.desk: Desk = Desk(self)
        self.chat = ChatScreen(self)
        self.link = ModelLink(lambda: worker or make_worker())
        self._interrupted = -self.INTERRUPT_SECONDS

    # --- made when they are first needed, which for most is after the first paint ---

    @cached_property
    def controller(self) -> ChatController:
        """Leads the conversation."""
        from glmtui.session.controller import ChatController

        controller = ChatController(self.link, self.library, self.settings, self.chat)
        controller.beside = self._take_beside
        controller.load_refused = self._load_refused
        return controller

    @cached_property
    def shelf(self) -> ModelShelf:
        """Knows the models there are."""
        from glmtui.session.model_jobs import ModelShelf

        return ModelShelf(self.link, self.chat.notice, lambda: str(self.settings["model.device"]))

    # --- starting and ending ---

    def get_default_screen(self) -> Screen[Any]:
        """The chat, laid out for this window."""
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
        self.call_after_refresh(self._begin)

    async def _begin(self) -> None:
        self.set_interval(POLL_SECONDS, self._poll)
        self.set_interval(WATCH_SECONDS, self._watch_files)
        self.set_interval(MEMORY_SECONDS, self._measure_memory)
        if not self.is_headless:
            when_told_to_end(self._told_to_end)
        await self.desk.open_first()
        self.preferences.tell_problems()
        for problem in self.themes.problems:
            self.chat.notice(problem, "warning")
        load_model(self)

    async def _poll(self) -> None:
        await self.controller.poll()

    async def action_quit(self, code: int = 0) -> None:
        """Keep everything and leave."""
        self.desk.leave()
        self.controller.close()
        self.exit(return_code=code)

    def _told_to_end(self, number: int) -> None:
        self.do(self.action_quit(128 + number))

    def get_driver_class(self) -> type[Driver]:
        """Textual's choice, or on Unix ours, which knows when the terminal is gone."""
        from glmtui.tui.textual_patches import alt_keys

        alt_keys.teach()
        if sys.platform == "win32":
            return super().get_driver_class()
        from glmtui.tui.textual_patches.driver import TerminalDriver

        return TerminalDriver

    def on_terminal_gone(self) -> None:
        """Keep everything and leave."""
        self._told_to_end(signal.SIGHUP)

    # --- messages and commands ---

    def submit(self, text: str) -> None:
        """Send what was written, or do it if it is a command."""
        self.desk.keep_draft()  # it is no longer one; sending may give the conversation its file
        line = commands.parse(text)
        if line is None:
            self.desk.prompts.add(text)
            self.run_worker(self.controller.submit(commands.message(text)))
        elif line.command is None:
            self.chat.write(text.strip())
            self.chat.notice(commands.unknown(line.name), "warning")
        else:
            self.desk.prompts.add(text)
            self.run_command(line.name, line.argument)

    def run_command(self, name: str, argument: str = "") -> None:
        """Do what a slash command does."""
        command = commands.BY_NAME[name]
        if command.needs_argument and not argument:
            self.chat.notice(f"`{command.usage}`: {_(command.help)}", "warning")
        else:
            self.do(command.handler(self, argument))

    def do(self, work: Awaitable[None]) -> None:
        """Do something that may take a while or open a dialog; what a person can act on is shown to them."""
        self.run_worker(self._guarded(work), group="commands")

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except UserError as error:
            self.chat.notice(tell(error), "error")

    # --- settings ---

    async def change_setting(self, key: str, value: object) -> None:
        """Save a setting and do what follows from it."""
        await self.preferences.change(key, value)

    async def type_setting(self, key: str, text: str) -> None:
        """Change a setting to what a person typed; ``default`` goes back to the default."""
        if text.strip().lower() == "default":
            await self.preferences.reset(named(key).key)
        else:
            await self.change_setting(named(key).key, named(key).parse(text))

    async def rebuild(self) -> None:
        """Make the screen again, in another language."""
        text = self.chat.composer.text
        await self.controller.view_anew(self.chat.rebuild)
        self.chat.composer.text = text

    def _measure_memory(self) -> None:
        from glmtui.engine.usage import usage

        info = self.controller.status.info
        self.chat.status_line.show_usage(usage(info.device if info else "cpu"))

    async def _watch_files(self) -> None:
        await self.preferences.look()
        await self.desk.take_in()
        if self.themes.changed():
            self.themes.choose(str(self.settings["ui.theme"]))
            self.refresh_css()
            for problem in self.themes.problems:
                self.say(problem, warning=True)

    # --- actions ---

    def action_run(self, name: str) -> None:
        """Run a command by key."""
        self.run_command(name)

    def action_help(self) -> None:
        """Help for where one is."""
        self.show_help("keys")

    def show_help(self, first: Literal["keys", "commands"]) -> None:
        """Show all keys and commands, with those that are asked for at the top."""
        from glmtui.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.chat.scope(), self.settings.keys, first=first))

    def show_models(self, wanted: str | None = None) -> None:
        """Show the models there are, at `wanted`; the one that is chosen is loaded."""
        from glmtui.tui.screens.models import ModelsScreen

        def take(source: str | None) -> None:
            if source is not None:
                self.do(self.change_setting("model.source", source or None))

        if not isinstance(self.screen, ModelsScreen):
            self.push_screen(ModelsScreen(self.shelf, wanted), take)

    def _take_beside(self, event: Event) -> bool:
        """Let the list of models and the download know; the status line shows how far that is."""
        taken = self.shelf.handle(event)
        running = self.shelf.download
        self.chat.status_line.show_download((running.source, running.fraction) if running else None)
        return taken

    def _load_refused(self, event: Failed) -> None:
        """Show the settings that were put back, and offer what can be downloaded."""
        self.settings_changed()
        if event.absent is not None:
            self.show_models(event.absent)

    def action_stop(self) -> None:
        """Stop the answer; else close what lies over the chat, go back to the composer, stop the load.

        It goes the way of what is sent, so that what was sent before it is there to be stopped.
        """
        away = self.chat.scope() != "composer"
        self.chat.composer.post_message(Composer.AfterSent(lambda: self._stop(away)))

    async def _stop(self, away: bool) -> None:
        if self.controller.answering or not (self.chat.close_overlays() or away):
            self.controller.stop()
        self.controller.edit(None)
        self.chat.composer.focus()

    async def action_interrupt(self) -> None:
        """Stop what runs; twice within two seconds: quit."""
        from time import monotonic

        now = monotonic()
        if now - self._interrupted < self.INTERRUPT_SECONDS:
            await self.action_quit()
            return
        self._interrupted = now
        self.chat.composer.post_message(Composer.AfterSent(self._interrupt))

    async def _interrupt(self) -> None:
        if not self.controller.stop():
            self.say(_("Ctrl+C again quits."))

    def action_unqueue(self) -> None:
        """Take the last waiting message back."""
        if (text := self.controller.unqueue()) is not None:
            self.chat.restore(text)

    def action_queue(self) -> None:
        """Go to the waiting messages, or back."""
        self.show_queue()

    def action_next_pane(self) -> None:
        """Go to the next pane."""
        self.chat.next_pane()

    def action_command_palette(self) -> None:
        """All commands, by name."""
        from textual.command import CommandPalette

        if not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder=_("Search the commands"), id="--command-palette"))

    # --- what is made of several of these (`Front`) ---

    @property
    def full_screen(self) -> GlmTui:
        """This."""
        return self

    async def show_presets(self) -> None:
        """Choose a preset, save the present values as one, or delete some."""
        from glmtui.session.slash import handlers
        from glmtui.tui.screens.presets import PresetScreen

        match await self.push_screen_wait(PresetScreen(self.settings)):
            case ("use", name):
                handlers.use_preset(self, name)
            case ("save", _name):
                if typed := await self.ask(_("Save the present values as")):
                    handlers.save_preset(self, typed)
            case None:  # some may have been deleted
                self.settings_changed()

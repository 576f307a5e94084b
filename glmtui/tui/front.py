"""What commands show and ask for on the full screen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from textual.app import App

from glmtui import paths
from glmtui.i18n import _
from glmtui.session import keys
from glmtui.session.ui import write_new_file

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

    from glmtui.settings.settings import Settings
    from glmtui.tui.preferences import Preferences
    from glmtui.tui.screens.chat import ChatScreen
    from glmtui.tui.theme_files import ThemeShelf

LONG_ANSWER_SECONDS = 8.0


class FrontApp(App[None]):
    """The part of the app that the commands see (`glmtui.session.ui.FullScreen`) and that only shows."""

    settings: Settings
    preferences: Preferences
    themes: ThemeShelf
    chat: ChatScreen
    _toasts: Mapping[str, float] = MappingProxyType({})
    """The messages that are shown, and until when (`time.monotonic`)."""

    @property
    def draft(self) -> str:
        """What is in the composer."""
        return self.chat.composer.text

    @draft.setter
    def draft(self, text: str) -> None:
        self.chat.composer.text = text

    def say_markdown(self, text: str) -> None:
        """Show a longer text of the app's own in the transcript."""
        self.chat.say_markdown(text)

    def shown_key(self, key_id: str) -> str:
        """Return the key bound to an action, for people."""
        return keys.shown(key_id, self.settings.keys)

    def settings_changed(self) -> None:
        """Draw the settings again."""
        self.chat.settings_pane.reload()

    async def show_conversations(self) -> None:
        """Show or hide the history pane."""
        await self.chat.toggle_history()

    async def show_settings(self) -> None:
        """Show or hide the settings pane."""
        await self.chat.toggle_settings()

    async def search(self, text: str = "") -> None:
        """Search in the history pane."""
        await self.chat.search(text)

    async def show_trash(self) -> None:
        """List the trash in the history pane."""
        await self.chat.show_trash()

    def show_queue(self) -> None:
        """Go to the waiting messages, or back."""
        self.chat.toggle_queue()

    def locate(self, text: str) -> Path:
        """Return the file at this path."""
        return paths.typed(text)

    def edit(self, message_id: str) -> None:
        """Put a message into the composer."""
        self.chat.edit(message_id)

    def opened(self, message_id: str | None) -> None:
        """Go to the conversation that was opened."""
        self.chat.close_overlays()
        self.chat.composer.focus()
        if message_id:
            self.chat.go_to(message_id)

    # --- what the commands need of a screen (`FullScreen`) ---

    @property
    def theme_titles(self) -> dict[str, str]:
        """The titles of the themes, by their names."""
        return {name: file.title for name, file in self.themes.files.items()}

    async def show_themes(self) -> None:
        """Choose a theme with preview."""
        from glmtui.tui.screens.themes import ThemeScreen

        await self.push_screen_wait(ThemeScreen(self.themes.files))

    async def show_keys(self) -> None:
        """Show all keys, to bind them elsewhere."""
        from glmtui.tui.screens.keys import KeysScreen

        await self.push_screen(KeysScreen(self.preferences))

    # --- for people ---

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """Show a toast; while it is there the same again adds none."""
        now = time.monotonic()
        self._toasts = {text: end for text, end in self._toasts.items() if end > now}
        if message not in self._toasts:
            super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)
            until = now + (self.NOTIFICATION_TIMEOUT if timeout is None else timeout)
            self._toasts = {**self._toasts, message: until}

    def say(self, text: str, *, warning: bool = False) -> None:
        """Say something short, for a moment."""
        self.notify(text, severity="warning" if warning else "information", markup=False)

    async def ask(self, title: str, value: str = "") -> str | None:
        """Ask for a line of text."""
        from glmtui.tui.screens.prompt import PromptScreen

        return await self.push_screen_wait(PromptScreen(title, value))

    def copy(self, text: str) -> None:
        """Copy to the clipboard: through the terminal at once, then by the platform's tool."""
        self.copy_to_clipboard(text)
        self.run_worker(self._copy_with_tool(text), group="clipboard", exclusive=True)

    async def _copy_with_tool(self, text: str) -> None:
        from glmtui.session import clipboard

        self.say(clipboard.said(await clipboard.copied_with_tool(text)))

    async def write_file(self, path: Path, text: str) -> None:
        """Write a file that is not there yet."""
        await write_new_file(path, text)
        self.say(_("Written to {path}").format(path=path))

    def call_back(self, seconds: float) -> None:
        """Make oneself heard after a long answer, if the person looks elsewhere."""
        if self.app_focus or seconds < LONG_ANSWER_SECONDS:
            return
        if self.settings["ui.notify"] == "bell":
            self.bell()
        elif self.settings["ui.notify"] == "system":
            from glmtui.tui.textual_patches.terminal import send

            send(self, "\x1b]9;" + _("glmtui: the answer is complete") + "\x07")

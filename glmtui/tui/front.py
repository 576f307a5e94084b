"""What the commands need of the program around them, so that the app and the line mode share one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from glmtui.errors import UserError
from glmtui.i18n import _

if TYPE_CHECKING:
    from glmtui.chat.library import Library
    from glmtui.options import AppOptions
    from glmtui.settings import Settings
    from glmtui.tui.app import GlmTui
    from glmtui.tui.chat_controller import ChatController
    from glmtui.tui.desk import Desk


class Front(Protocol):
    """The program as the commands see it: the full-screen app, or the line mode.

    What the flow of a conversation shows goes through ``controller.view``.
    """

    options: AppOptions
    settings: Settings
    library: Library
    controller: ChatController
    desk: Desk

    @property
    def full_screen(self) -> GlmTui | None:
        """The app, for what needs its screen; None in the line mode."""
        ...

    @property
    def draft(self) -> str:
        """What is being written and was not sent yet."""
        ...

    @draft.setter
    def draft(self, text: str) -> None: ...

    def say(self, text: str, *, warning: bool = False) -> None:
        """Say something short."""

    def say_markdown(self, text: str) -> None:
        """Say something longer, written in Markdown."""

    async def ask(self, title: str, value: str = "") -> str | None:
        """Ask for a line of text; None when the person does not want to say."""
        ...

    def copy(self, text: str) -> None:
        """Copy to the clipboard."""

    async def write_file(self, path: Path, text: str) -> None:
        """Write a file that is not there yet; a `UserError` says why not."""

    async def change_setting(self, key: str, value: object) -> None:
        """Save a setting and do what follows from it."""

    async def type_setting(self, key: str, text: str) -> None:
        """Change a setting to what a person typed."""

    def settings_changed(self) -> None:
        """Several settings changed at once, and nothing has to follow from it but their display."""

    def show_help(self, first: Literal["keys", "commands"]) -> None:
        """Show all commands and keys."""

    async def show_conversations(self) -> None:
        """Show the list of conversations, or hide it."""

    async def show_settings(self) -> None:
        """Show the settings, or hide them."""

    async def search(self, text: str = "") -> None:
        """Look for conversations."""

    def edit(self, message_id: str) -> None:
        """Let the person write another version of a message."""

    def opened(self, message_id: str | None) -> None:
        """Another conversation was opened, because of this message if given."""

    async def action_quit(self) -> None:
        """Keep everything and leave."""


Handler = Callable[[Front, str], Awaitable[None]]
"""What a command does: gets the program and what was written after the command's name."""


class OnScreen:
    """A handler that needs the full-screen app; elsewhere it says so. A decorator."""

    def __init__(self, handler: Callable[[GlmTui, str], Awaitable[None]]) -> None:
        self._handler = handler
        self.__doc__ = handler.__doc__

    async def __call__(self, front: Front, argument: str) -> None:
        """Do it in the app.

        Raises:
            UserError: there is no screen.
        """
        if front.full_screen is None:
            raise UserError(_("This needs the full screen: start glmtui without --plain."))
        await self._handler(front.full_screen, argument)

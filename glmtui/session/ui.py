"""What the commands need of the program around them, so that the app and the line mode share one table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from glmtui.errors import UserError
from glmtui.i18n import _

if TYPE_CHECKING:
    from glmtui.chat.library import Library
    from glmtui.session.controller import ChatController
    from glmtui.session.model_jobs import ModelShelf
    from glmtui.session.model_link import WorkerLike
    from glmtui.session.options import AppOptions
    from glmtui.session.workspace import Desk
    from glmtui.settings.settings import Settings


class Front(Protocol):
    """The program as the commands see it: the full-screen app, or the line mode.

    What the flow of a conversation shows goes through ``controller.view``.
    """

    options: AppOptions
    settings: Settings
    library: Library
    desk: Desk

    @property
    def controller(self) -> ChatController:
        """Leads the conversation."""
        ...

    @property
    def full_screen(self) -> FullScreen | None:
        """The program itself, for what needs a screen; None in the line mode."""
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

    def shown_key(self, key_id: str) -> str:
        """Return the key that does something, for people; empty where there is none."""
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

    async def show_trash(self) -> None:
        """Show the deleted conversations."""

    @property
    def theme_titles(self) -> Mapping[str, str]:
        """The themes there are: their names, and their titles as English msgids."""
        ...

    async def show_themes(self) -> None:
        """Show the themes, to use one where there is a list to choose from."""

    async def show_keys(self) -> None:
        """Show all keys, to bind them elsewhere where there is a list to do it in."""

    async def show_presets(self) -> None:
        """Show the named sets of values, to use one where there is a list to choose from."""

    def show_models(self) -> None:
        """Show the models there are."""

    def show_queue(self) -> None:
        """Show what waits in the open conversation."""

    def locate(self, text: str) -> Path:
        """Return the conversation file that a person means."""
        ...

    def edit(self, message_id: str) -> None:
        """Let the person write another version of a message."""

    def opened(self, message_id: str | None) -> None:
        """Another conversation was opened, because of this message if given."""

    async def action_quit(self) -> None:
        """Keep everything and leave."""


class FullScreen(Front, Protocol):
    """What only the full-screen app can show."""

    @property
    def shelf(self) -> ModelShelf:
        """Knows the models there are."""
        ...


Handler = Callable[[Front, str], Awaitable[None]]
"""What a command does: gets the program and what was written after the command's name."""


def apply_options(settings: Settings, options: AppOptions) -> None:
    """Let what the command line said come before the settings of the file, for this run."""
    from glmtui.session.slash.handlers import BUILT_IN

    given = {
        "model.device": options.device,
        "model.gpus": options.gpus,
        "model.quant": options.quant,
        "model.threads": options.threads,
        "model.ptuning": options.ptuning,
        "ui.language": options.language,
        "ui.theme": options.theme,
    }
    if options.model is not None:
        settings.override("model.source", None if options.model in BUILT_IN else options.model)
    for key, value in given.items():
        if value is not None:
            settings.override(key, value)


def load_model(front: Front) -> None:
    """Begin to load the model that the settings name."""
    source = front.settings["model.source"]
    path = str(source) if source else None
    front.controller.load(source=path, name=Path(path).name if path else "nano")


def make_worker() -> WorkerLike:
    """Make what runs the model; torch comes with its first request."""
    from glmtui.engine.local import Worker

    return Worker()


async def write_new_file(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        UserError: it is there already, or it cannot be written.
    """
    try:
        await asyncio.to_thread(_write_new, path, text)
    except FileExistsError as error:
        raise UserError(_("{path} is there already. Choose another name.").format(path=path)) from error
    except OSError as error:
        raise UserError(
            _("{path} cannot be written: {error}").format(path=path, error=error.strerror)
        ) from error


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there; nothing of it stays where there is no room for all."""
    file = path.open("x", encoding="utf-8")
    try:
        with file:
            file.write(text)
    except OSError:
        path.unlink()
        raise

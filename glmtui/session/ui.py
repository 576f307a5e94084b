"""The port of a session to the program around it: the full screen, the line mode, a test."""

from __future__ import annotations

from typing import Literal, Protocol

from glmtui.protocol.phrases import Words
from glmtui.session.events import Kind

View = Literal[
    "help", "keys", "conversations", "settings", "search", "trash", "presets", "themes", "models", "queue"
]
"""What can be shown. ``search`` takes the words, ``models`` the name of one, the others nothing."""


class Ui(Protocol):
    """What commands need a person, or their screen, for. Everything else reaches a program as an event."""

    has_keys: bool
    """Whether there are keys to do things with, so that hints may name them."""

    def say(self, words: Words, kind: Kind = "info", *, markdown: bool = False) -> None:
        """Say what a command has to say; Markdown is a longer text."""

    async def ask(self, title: Words, value: str = "") -> str | None:
        """Ask for a line of text; None when the person does not want to say."""
        ...

    async def show(self, view: View, argument: str = "") -> None:
        """Show something, to choose from or to change where that is possible; or hide it again."""

    def copy(self, text: str) -> None:
        """Copy to the clipboard."""

    def draft(self) -> str:
        """Return what is being written and was not sent yet."""
        ...

    def put_draft(self, text: str) -> None:
        """Let the person continue to write from `text`."""

    def quit(self) -> None:
        """Leave when this is done."""

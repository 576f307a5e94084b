"""The port of a session to the program around it: the full screen, the line mode, a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from glmtui.protocol.phrases import Sayable
from glmtui.session.attached_file import AttachedFile
from glmtui.session.events import Kind

View = Literal[
    "help", "keys", "conversations", "settings", "search", "trash", "presets", "themes", "models", "queue",
    "documents", "tune", "compare",
]  # fmt: skip
"""What can be shown. ``search`` takes a text, ``models`` the name of one, the others nothing."""


class Ui(Protocol):
    """What commands need a person, or their screen, for. Everything else reaches a program as an event.

    A program in which no command is given inherits these methods: nobody is asked and nothing is shown.
    """

    has_keys: bool
    """Whether there are keys to do things with, so that hints may name them."""

    def say(self, text: Sayable, kind: Kind = "info", *, markdown: bool = False) -> None:
        """Say what a command has to say; Markdown is a longer text."""
        return

    async def ask(self, title: Sayable, value: str = "") -> str | None:
        """Ask for a line of text; None when the person does not want to say."""
        return None

    async def choose(self, title: Sayable, choices: Sequence[Sayable]) -> int | None:
        """Ask which of `choices` the person wants, from 0; None when they want none, or nobody is there."""
        return None

    async def show(self, view: View, argument: str = "") -> None:
        """Show something, to choose from or to change where that is possible; or hide it again."""
        return

    def copy(self, text: str) -> None:
        """Copy to the clipboard."""
        return

    def draft(self) -> str:
        """Return what is being written and was not sent yet; files stand in it by their names."""
        return ""

    def attached(self) -> Sequence[AttachedFile]:
        """Return the files that the draft names."""
        return ()

    def put_draft(self, text: str) -> None:
        """Let the person continue to write from `text`."""
        return

    def quit(self) -> None:
        """Leave when this is done."""
        return

"""Asks for one line of text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from glmtui.i18n import _
from glmtui.tui.screens.dialog import Dialog


class PromptScreen(Dialog[str | None]):
    """A line to type into; None when the person gives up."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss", "")]

    def __init__(self, title: str, value: str = "") -> None:
        super().__init__(title, _("Enter accepts · Esc cancels"))
        self._value = value

    def body(self) -> Iterable[Widget]:
        yield Input(self._value, id="prompt-line", select_on_focus=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

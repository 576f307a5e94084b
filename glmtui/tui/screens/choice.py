"""Chooses one of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from glmtui.i18n import _
from glmtui.tui.screens.dialog import Dialog


class ChoiceScreen(Dialog[int | None]):
    """Rows to choose from; hands back the number of the chosen one, None when the person gives up."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "give_up", "")]

    def __init__(self, title: str, rows: Sequence[Content], chosen: int = 0) -> None:
        super().__init__()
        self._title = title
        self._rows = rows
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            yield OptionList(*[Option(row) for row in self._rows])
            yield Static(_("Enter accepts · Esc gives up"), classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = self._chosen
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option_index)

    def action_give_up(self) -> None:
        self.dismiss(None)

"""Chooses one of a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from glmtui.i18n import _
from glmtui.tui.screens.dialog import ListDialog


class ChoiceScreen(ListDialog[int | None]):
    """Rows to choose from; hands back the number of the chosen one, None when the person gives up."""

    def __init__(self, title: str, rows: Sequence[Content], chosen: int = 0) -> None:
        super().__init__(title, _("Enter accepts · Esc cancels"))
        self._rows = rows
        self.start = chosen

    def rows(self) -> Iterable[Option]:
        return map(Option, self._rows)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option_index)

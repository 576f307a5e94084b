"""Chooses a theme; the one that is highlighted is shown at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from glmtui.i18n import _
from glmtui.text.columns import cell
from glmtui.tui.screens.dialog import ListDialog

if TYPE_CHECKING:
    from glmtui.tui.session_app import SessionApp
    from glmtui.tui.themes import ThemeFile


class ThemeScreen(ListDialog[None]):
    """A list of themes with live preview: Enter keeps, Esc goes back to the one before."""

    app: SessionApp

    def __init__(self, files: Mapping[str, ThemeFile]) -> None:
        super().__init__(_("Theme"), _("↑ ↓ preview · Enter keeps · Esc goes back"))
        self._files = sorted(
            files.values(), key=lambda file: (not file.theme.dark, file.theme.ansi, file.title)
        )

    def rows(self) -> Iterable[Option]:
        self._before = self.app.theme
        names = [file.name for file in self._files]
        self.start = names.index(self._before) if self._before in names else 0
        return (Option(self._row(file), id=file.name) for file in self._files)

    def _row(self, file: ThemeFile) -> Content:
        kind = _("ansi") if file.theme.ansi else _("dark") if file.theme.dark else _("light")
        title = cell(_(file.title), max(cell_len(_(each.title)) for each in self._files))
        name = cell(file.name, max(cell_len(each.name) for each in self._files))
        return Content.assemble(f"{title}  ", (f"{name}  {kind}", "$text-muted"))

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if event.option_id:
            self.app.theme = event.option_id

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_id:
            with self.app.session.saying_errors():
                self.app.session.preferences.set("ui.theme", event.option_id)
        self.dismiss(None)

    async def action_dismiss(self, _result: object = None) -> None:
        self.app.theme = self._before
        self.dismiss(None)

"""Chooses a theme; the one that is highlighted is shown at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from glmtui.i18n import _
from glmtui.text.columns import cell
from glmtui.tui.screens.dialog import Dialog

if TYPE_CHECKING:
    from glmtui.tui.session_app import SessionApp
    from glmtui.tui.themes import ThemeFile


class ThemeScreen(Dialog[None]):
    """A list of themes with live preview: Enter keeps, Esc goes back to the one before."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "give_up", "")]
    app: SessionApp

    def __init__(self, files: Mapping[str, ThemeFile]) -> None:
        super().__init__()
        self._files = sorted(
            files.values(), key=lambda file: (not file.theme.dark, file.theme.ansi, file.title)
        )

    def compose(self) -> ComposeResult:
        self._before = self.app.theme
        with Vertical(classes="dialog"):
            yield Static(_("Theme"), classes="dialog-title", markup=False)
            yield OptionList(*[Option(self._row(file), id=file.name) for file in self._files], markup=False)
            yield Static(_("↑ ↓ preview · Enter keeps · Esc goes back"), classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        names = [file.name for file in self._files]
        options = self.query_one(OptionList)
        options.highlighted = names.index(self._before) if self._before in names else 0
        options.focus()

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

    def action_give_up(self) -> None:
        self.app.theme = self._before
        self.dismiss(None)

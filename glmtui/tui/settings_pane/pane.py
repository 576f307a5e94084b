"""The settings on the right, drawn from the schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget
from textual.widgets import Static

from glmtui.errors import UserError
from glmtui.i18n import N_, _, tell
from glmtui.settings.settings import SCHEMA, Settings
from glmtui.tui.settings_pane.rows import KeysRow, Own, PresetRow, Row, SettingRow
from glmtui.tui.transcript.prose import Prose

SECTIONS = {
    "ui": N_("Interface"),
    "model": N_("Model"),
    "generation": N_("Answers"),
    "docs": N_("Sources"),
    "web": N_("The web"),
}


class SettingsPane(Vertical):
    """All settings by section, with a few lines of help for the one that is looked at.

    `own` returns the open conversation's own values, which are shown in place of those of all.
    """

    def __init__(self, settings: Settings, own: Own = dict) -> None:
        super().__init__(id="settings")
        self.settings = settings
        self.own = own
        self._explained: Row | None = None

    def compose(self) -> ComposeResult:
        yield Static(_("Settings"), classes="pane-title", markup=False)
        yield VerticalScroll(can_focus=False, id="setting-rows")
        yield Prose(id="setting-help")

    def on_show(self) -> None:
        self._make_rows()

    def _make_rows(self) -> None:
        """Make the rows when they are first seen, which for most people is not at the start."""
        place = self.query_one("#setting-rows")
        if not place.children:
            place.mount_all(self._rows())

    def _rows(self) -> Iterator[Widget]:
        section = ""
        for setting in SCHEMA:
            if setting.section != section:
                if section == "ui":
                    yield KeysRow(self.settings)
                section = setting.section
                yield Static(_(SECTIONS.get(section, section)), classes="section", markup=False)
                if section == "generation":
                    yield PresetRow(self.settings)
            yield SettingRow(setting, self.settings, self.own)

    def on_mount(self) -> None:
        """Say what the keys do until a row is looked at."""
        self._say(_("↑ ↓ choose · ← → change · Enter type · Del default"))

    def focus_row(self, key: str | None = None) -> None:
        self._make_rows()
        rows = self.query(SettingRow)
        row = next((row for row in rows if row.setting.key == key), None) or rows.first()
        row.focus()

    def reload(self) -> None:
        for row in self.query(Row):
            row.refresh()
        if self._explained:
            self._say(self._explained.explain())

    @on(Row.Focused)
    def _explain(self, event: Row.Focused) -> None:
        self._explained = event.row
        self._say(event.row.explain())

    @contextmanager
    def saying_errors(self) -> Iterator[None]:
        """What is wrong with a value is said below the rows."""
        try:
            yield
        except UserError as error:
            self._say(tell(error), wrong=True)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        line = self.query_one("#setting-help", Prose)
        line.set_class(wrong, "-wrong")
        line.update(text)

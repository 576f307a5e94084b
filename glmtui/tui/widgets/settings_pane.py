"""The settings on the right, drawn from the schema; changed with the arrow keys or by typing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import set_cell_size
from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from glmtui.errors import UserError
from glmtui.i18n import LANGUAGES, N_, _
from glmtui.settings import SCHEMA, Setting, Settings, Value
from glmtui.tui import keys
from glmtui.tui.text import one_line

SECTIONS = {"ui": N_("Interface"), "model": N_("Model"), "generation": N_("Answers")}
UNSET = {
    "model.source": N_("nano (built in)"),
    "model.quant": N_("as in the files"),
    "model.threads": N_("all cores"),
    "model.ptuning": N_("none"),
    "generation.max_new_tokens": N_("what is left"),
    "generation.seed": N_("new each time"),
}
"""What no value means."""
STEPS = {"generation.temperature": 0.05, "generation.top_p": 0.05, "generation.repetition_penalty": 0.05}
"""What one press of an arrow key changes, where it is not 1."""


def shown(setting: Setting, value: Value) -> str:
    """Write a value for people."""
    if value is None:
        return _(UNSET.get(setting.key, "auto"))
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if setting.kind == "float":
        return f"{value:g}"
    if setting.key == "ui.language":
        return LANGUAGES.get(str(value), str(value))
    return one_line(str(value)) or _("none")


def stepped(setting: Setting, value: Value, direction: int) -> Value:
    """Return the next choice, or the next number, in `direction`; the same value at the end of a range."""
    if setting.kind == "bool":
        return not value
    if setting.kind == "choice":
        options: list[Value] = [*([None] if setting.nullable else []), *setting.choices]
        return options[(options.index(value) + direction) % len(options)]
    if setting.kind == "text" or not isinstance(value, int | float):
        return value if setting.kind == "text" else setting.minimum
    step = STEPS.get(setting.key) or max(1, 10 ** (len(str(int(value))) - 2))
    moved = round(value + direction * step, 6)
    low, high = setting.minimum, setting.maximum
    moved = max(moved, low) if low is not None else moved
    moved = min(moved, high) if high is not None else moved
    return int(moved) if setting.kind == "int" else float(moved)


class SettingRow(Widget, can_focus=True):
    """One setting: its title and its value; the keys are in the scope ``settings`` of `glmtui.tui.keys`."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.bindings("settings")]

    @dataclass
    class Changed(Message):
        """The person wants `value`."""

        key: str
        value: Value

    @dataclass
    class Typed(Message):
        """The person typed a value."""

        key: str
        text: str

    @dataclass
    class Reset(Message):
        """The person wants the default."""

        key: str

    @dataclass
    class Focused(Message):
        """The person looks at this row."""

        setting: Setting

    @dataclass
    class Pick(Message):
        """The person wants to choose from a list (themes)."""

        key: str

    def __init__(self, setting: Setting, settings: Settings) -> None:
        super().__init__(id=setting.key.replace(".", "-"))
        self.setting = setting
        self.settings = settings

    @property
    def value(self) -> Value:
        """The value in use."""
        return self.settings[self.setting.key]

    def render(self) -> Content:
        """Draw title and value; a dot marks what is not the default."""
        width = self.content_size.width
        value = shown(self.setting, self.value)
        changed = not self.settings.is_default(self.setting.key)
        title = _(self.setting.title)
        room = max(width - 2 - Content(title).cell_length - 4, 6)
        if Content(value).cell_length > room:  # the end of a path says more than its beginning
            value = "…" + set_cell_size(value[::-1], room - 1)[::-1].strip()
        arrows = self.has_focus and self.setting.kind != "text"
        right = Content.assemble(
            ("‹ " if arrows else "  ", "$text-muted"),
            (value, "bold $text-primary" if changed or self.has_focus else "$text"),
            (" ›" if arrows else "  ", "$text-muted"),
        )
        left = Content.assemble(("•" if changed else " ", "$text-accent"), " ", title)
        return Content.assemble(left, " " * max(width - left.cell_length - right.cell_length, 1), right)

    def on_focus(self) -> None:
        """Show the help of this row."""
        self.post_message(self.Focused(self.setting))

    def on_click(self, event: events.Click) -> None:
        """A click chooses the row; on the value it changes it."""
        self.focus()
        if event.x > self.size.width * 0.5:
            self.action_edit()

    def action_next(self) -> None:
        """Go to the next row."""
        self.screen.focus_next(SettingRow)

    def action_previous(self) -> None:
        """Go to the row before."""
        self.screen.focus_previous(SettingRow)

    def action_step(self, direction: int) -> None:
        """Take the next value in `direction`."""
        if self.setting.key == "ui.theme":
            self.post_message(self.Pick(self.setting.key))
        elif (value := stepped(self.setting, self.value, direction)) != self.value:
            self.post_message(self.Changed(self.setting.key, value))

    def action_edit(self) -> None:
        """Type a value, or switch."""
        if self.setting.kind in ("bool", "choice") or self.setting.key == "ui.theme":
            self.action_step(1)
        else:
            field = ValueField(self.setting, self.value)
            self.mount(field)
            field.focus()

    def action_reset(self) -> None:
        """Back to the default."""
        self.post_message(self.Reset(self.setting.key))


class ValueField(Input):
    """Takes a typed value in place of its row; Esc gives up."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "give_up", "")]

    def __init__(self, setting: Setting, value: Value) -> None:
        super().__init__("" if value is None else str(value), compact=True, placeholder=setting.allowed())
        self.key = setting.key

    def action_give_up(self) -> None:
        """Close without a change."""
        self._close()

    def on_blur(self) -> None:
        """Close without a change when the person goes elsewhere."""
        self.call_later(self.remove)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Use what was typed."""
        event.stop()
        assert self.parent is not None
        self.post_message(SettingRow.Typed(self.key, self.value))
        self._close()

    def _close(self) -> None:
        if isinstance(self.parent, SettingRow):
            self.parent.focus()
        self.call_later(self.remove)


class SettingsPane(Vertical):
    """All settings by section, with a line of help for the one that is looked at."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(id="settings")
        self.settings = settings

    def compose(self) -> ComposeResult:
        """Title, rows by section, help."""
        yield Static(_("Settings"), classes="pane-title", markup=False)
        with VerticalScroll(can_focus=False, id="setting-rows"):
            section = ""
            for setting in SCHEMA:
                if setting.section != section:
                    section = setting.section
                    yield Static(_(SECTIONS.get(section, section)), classes="section", markup=False)
                yield SettingRow(setting, self.settings)
        yield Static(id="setting-help", markup=False)

    def on_mount(self) -> None:
        """Say what the keys do until a row is looked at."""
        self._say(_("↑ ↓ choose · ← → change · Enter type · Del default"))

    def focus_row(self, key: str | None = None) -> None:
        """Go to the row of `key`, or to the first."""
        rows = self.query(SettingRow)
        row = next((row for row in rows if row.setting.key == key), None) or rows.first()
        row.focus()

    def reload(self) -> None:
        """Draw the values again."""
        for row in self.query(SettingRow):
            row.refresh()

    @on(SettingRow.Focused)
    def _explain(self, event: SettingRow.Focused) -> None:
        setting = event.setting
        allowed = f" ({setting.allowed()})" if setting.kind in ("int", "float") else ""
        self._say(_(setting.help) + allowed)

    def show_error(self, error: UserError) -> None:
        """Say what is wrong with a value."""
        self._say(str(error), wrong=True)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        line = self.query_one("#setting-help", Static)
        line.set_class(wrong, "-wrong")
        line.update(text)

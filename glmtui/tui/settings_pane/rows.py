"""The rows of the settings pane: changed with the arrow keys or by typing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import set_cell_size
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from glmtui.i18n import LANGUAGES, N_, _, tell
from glmtui.settings.settings import Setting, Settings, Value
from glmtui.text.clean import one_line
from glmtui.tui.bindings import bindings

if TYPE_CHECKING:
    from glmtui.session.preferences import Preferences
    from glmtui.tui.session_app import SessionApp

UNSET = {
    "model.source": N_("nano (built in)"),
    "model.gpus": N_("one"),
    "model.quant": N_("as in the files"),
    "model.threads": N_("all cores"),
    "model.ptuning": N_("none"),
    "model.lora": N_("none"),
    "generation.max_new_tokens": N_("no limit"),
    "generation.seed": N_("new each time"),
    "docs.collection": N_("none"),
    "docs.embedding": N_("none"),
}
"""What is shown for no value."""
NAMES = {
    ("ui.language", "auto"): N_("as the system"),
    ("ui.notify", "off"): N_("nothing"),
    ("ui.notify", "bell"): N_("a bell"),
    ("ui.notify", "system"): N_("a notice"),
    ("model.device", "auto"): N_("the fastest"),
}
"""What is shown for values that say nothing in the interface's language."""
STEPS = {"generation.temperature": 0.05, "generation.top_p": 0.05, "generation.repetition_penalty": 0.05}
"""What one press of an arrow key changes, where it is not 1."""
Own = Callable[[], Mapping[str, Value]]
"""Returns the open conversation's own values, by full key."""


def shown(setting: Setting, value: Value) -> str:
    """Write a value for people."""
    if value is None:
        return _(UNSET.get(setting.key, "auto"))
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if setting.kind == "float":
        return f"{value:g}"
    if isinstance(value, int) and setting.key != "generation.seed":
        return f"{value:,}"
    if setting.key == "ui.language" and value in LANGUAGES:
        return LANGUAGES[str(value)]
    if name := NAMES.get((setting.key, str(value))):
        return _(name)
    return one_line(setting.shown(str(value))) or _("none")


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


class Row(Widget, can_focus=True):
    """A title and a value; the keys are in the scope ``settings`` of `glmtui.session.keys`."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("settings")]
    app: SessionApp
    steps: bool = True
    """Whether the arrow keys change the value."""

    @dataclass
    class Focused(Message):
        """The person looks at this row."""

        row: Row

    @dataclass
    class Changed(Message):
        """The person gave the row another value."""

        change: Callable[[Preferences], None]
        """Does it. Raises `UserError` where the value is not allowed."""

    def __init__(self, settings: Settings, title: str, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.settings = settings
        self.title = title

    @property
    def value_text(self) -> str:
        """At the right."""
        raise NotImplementedError

    @property
    def mark(self) -> str:
        """One character before the title, where the value is not the usual one."""
        return " "

    def explain(self) -> str:
        """Return a few lines of help."""
        raise NotImplementedError

    def render(self) -> Content:
        width = self.content_size.width
        value, title, mark = self.value_text, self.title, self.mark
        room = max(width - 2 - Content(title).cell_length - 4, 6)
        if Content(value).cell_length > room:  # the end of a path says more than its beginning
            value = "…" + set_cell_size(value[::-1], room - 1)[::-1].strip()
        arrows = self.has_focus and self.steps
        right = Content.assemble(
            ("‹ " if arrows else "  ", "$text-muted"),
            (value, "bold $text-primary" if mark != " " or self.has_focus else "$text"),
            (" ›" if arrows else "  ", "$text-muted"),
        )
        left = Content.assemble((mark, "$text-accent"), " ", title)
        return Content.assemble(left, " " * max(width - left.cell_length - right.cell_length, 1), right)

    def change(self, change: Callable[[Preferences], None]) -> None:
        self.post_message(self.Changed(change))

    def on_focus(self) -> None:
        self.post_message(self.Focused(self))

    def on_click(self, event: events.Click) -> None:
        """A click chooses the row; on the value it changes it."""
        self.focus()
        if event.x > self.size.width * 0.5:
            self.action_edit()

    def action_next(self) -> None:
        self.screen.focus_next(Row)

    def action_previous(self) -> None:
        self.screen.focus_previous(Row)

    def action_edit(self) -> None:
        """Type a value, switch, or choose."""


class SettingRow(Row):
    """One setting of the schema."""

    def __init__(self, setting: Setting, settings: Settings, own: Own) -> None:
        super().__init__(settings, _(setting.title), id=setting.key.replace(".", "-"))
        self.setting = setting
        self.own = own
        self.steps = setting.kind != "text" or self.dialog is not None

    @property
    def dialog(self) -> str | None:
        return "theme" if self.setting.key == "ui.theme" else None

    @property
    def value(self) -> Value:
        return self.own().get(self.setting.key, self.settings[self.setting.key])

    @property
    def is_own(self) -> bool:
        return self.setting.key in self.own()

    @property
    def value_text(self) -> str:
        return shown(self.setting, self.value)

    @property
    def mark(self) -> str:
        """A diamond where the value is this conversation's own, a dot where it is not the default."""
        if self.is_own:
            return "◆"
        return " " if self.settings.is_default(self.setting.key) else "•"

    def explain(self) -> str:
        """Return whose the value is, the help of the schema, and what is allowed."""
        setting = self.setting
        lines = []
        if self.is_own:
            general = shown(setting, self.settings[setting.key])
            lines.append(_("◆ Only in this conversation; in all others: {value}").format(value=general))
        elif not self.settings.is_default(setting.key):
            default = shown(setting, self.settings.default(setting.key))
            lines.append(_("• Default: {value}").format(value=default))
        longest = self.settings.longest
        if setting.key == "generation.max_length" and isinstance(self.value, int) and self.value > longest:
            lines.append(_("The model in memory takes {count} at most.").format(count=f"{longest:,}"))
        lines.append(_(setting.help))
        if setting.kind in ("int", "float"):
            lines.append(tell(setting.allowed()))
        return "\n".join(lines)

    def action_step(self, direction: int) -> None:
        if self.dialog:
            self.app.run_command(self.dialog)
        elif (value := stepped(self.setting, self.value, direction)) != self.value:
            self.change(lambda preferences: preferences.put(self.setting, value))

    def action_edit(self) -> None:
        if self.setting.kind in ("bool", "choice") or self.dialog:
            self.action_step(1)
        else:
            field = ValueField(self.setting, self.value)
            self.mount(field)
            field.focus()

    def action_reset(self) -> None:
        """Back to the default; or to the value of all conversations."""
        self.change(lambda preferences: preferences.clear(self.setting))

    def action_here(self) -> None:
        self.change(lambda preferences: preferences.toggle_here(self.setting))


class PresetRow(Row):
    """The named set of values in use; the arrow keys take the next one."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, _("Preset"), id="preset")

    @property
    def value_text(self) -> str:
        name = self.settings.preset
        return one_line(tell(self.settings.preset_title(name))) if name else "–"

    def explain(self) -> str:
        return _("A named set of the values below. Enter: choose from the list, save the present ones.")

    def action_step(self, direction: int) -> None:
        names, present = list(self.settings.presets), self.settings.preset
        at = names.index(present) + direction if present in names else 0
        self.change(lambda preferences: preferences.use_preset(names[at % len(names)]))

    def action_edit(self) -> None:
        self.app.run_command("preset")

    def action_reset(self) -> None:
        self.change(lambda preferences: preferences.use_preset("balanced"))


class KeysRow(Row):
    """Opens the list of keys."""

    steps = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, _("Keys"), id="keys")

    @property
    def value_text(self) -> str:
        count = len(self.settings.keys)
        return _("{n} changed").format(n=count) if count else _("default")

    @property
    def mark(self) -> str:
        return "•" if self.settings.keys else " "

    def explain(self) -> str:
        return _("Every key can be bound elsewhere. Enter: the list.")

    def action_edit(self) -> None:
        self.app.run_command("keys")


class ValueField(Input):
    """Takes a typed value in place of its row; Esc gives up."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "give_up", "")]

    def __init__(self, setting: Setting, value: Value) -> None:
        super().__init__(
            "" if value is None else str(value), compact=True, placeholder=tell(setting.allowed())
        )
        self.setting = setting

    def action_give_up(self) -> None:
        self._close()

    def on_blur(self) -> None:
        self.call_later(self.remove)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        setting, text = self.setting, self.value
        self.post_message(Row.Changed(lambda preferences: preferences.put(setting, setting.parse(text))))
        self._close()

    def _close(self) -> None:
        if isinstance(self.parent, SettingRow):
            self.parent.focus()
        self.call_later(self.remove)

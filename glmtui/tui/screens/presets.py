"""Chooses a preset, saves the present values as one, or deletes one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.binding import BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.settings.schema import BY_KEY
from glmtui.text.clean import one_line
from glmtui.tui.screens.dialog import ListDialog
from glmtui.tui.settings_pane.rows import shown

if TYPE_CHECKING:
    from glmtui.tui.session_app import SessionApp

SHOWN = ("temperature", "top_p", "top_k", "repetition_penalty")
"""What a row shows of a preset, as far as it holds it."""
Choice = tuple[Literal["use", "save"], str]


class PresetScreen(ListDialog[Choice | None]):
    """All presets with their values; the one in use is highlighted. What is deleted is gone at once."""

    BINDINGS: ClassVar[list[BindingType]] = [("s", "choose('save')", ""), ("d,delete", "delete", "")]
    app: SessionApp

    def __init__(self) -> None:
        super().__init__(
            _("Presets"), _("Enter uses · S saves the present values · Del deletes · Esc closes")
        )
        self._asked = ""
        """The preset that is deleted by another Del."""

    def body(self) -> Iterable[Widget]:
        yield from super().body()
        yield Static(id="presets-said", markup=False)

    def rows(self) -> Iterable[Option]:
        names = list(self.app.settings.presets)
        self.start = names.index(self.app.settings.preset) if self.app.settings.preset in names else 0
        return (Option(self._row(name)) for name in names)

    def on_option_list_option_highlighted(self) -> None:
        """Another one is looked at: nothing is asked any more."""
        if self._asked:
            self._asked = ""
            self._say("")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_choose("use")

    def action_choose(self, verb: Literal["use", "save"]) -> None:
        at = self.options.highlighted
        if at is not None:
            self.dismiss((verb, list(self.app.settings.presets)[at]))

    def action_delete(self) -> None:
        """Delete the highlighted preset, when asked twice; say so here, and why not where it stays."""
        at = self.options.highlighted
        if at is None:
            return
        name = list(self.app.settings.presets)[at]
        if self._asked != name and not self.app.settings.is_shipped(name):
            self._asked = name
            self._say(_("Del again deletes {name}.").format(name=name))
            return
        try:
            self.app.session.preferences.delete_preset(name)
        except UserError as error:
            self._asked = name
            self._say(tell(error))
            return
        self._asked = ""
        self.options.clear_options()
        self.options.add_options(self.rows())
        self.options.highlighted = min(at, self.options.option_count - 1)
        self._say(_("The preset {name} is deleted.").format(name=name))

    def _say(self, text: str) -> None:
        self.query_one("#presets-said", Static).update(text)

    def _row(self, name: str) -> Content:
        values = self.app.settings.presets[name]
        figures = [
            f"{_(BY_KEY[key].title)} {shown(BY_KEY[key], values[key])}"
            for key in (f"generation.{field}" for field in SHOWN)
            if key in values
        ]
        return Content.assemble(
            f"{one_line(tell(self.app.settings.preset_title(name)))}\n",
            ("  " + " · ".join(figures), "$text-muted"),
        )

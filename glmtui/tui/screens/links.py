"""Opens or copies a link: only on purpose, and only after its whole address was seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static

from glmtui.i18n import _
from glmtui.text.clean import one_line
from glmtui.tui.screens.dialog import Dialog

if TYPE_CHECKING:
    from glmtui.tui.app import GlmTui

SCHEMES = ("http://", "https://", "mailto:")
"""What is given to the browser; models invent other things too."""


class LinkScreen(Dialog[None]):
    """Lists addresses: Enter opens one in the browser, c copies it."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss", ""), ("c,y", "copy", "")]
    app: GlmTui

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__()
        self._addresses = addresses

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(_("Open this link?"), classes="dialog-title", markup=False)
            yield OptionList(*[Content(one_line(address)) for address in self._addresses], markup=False)
            keys = _("Enter opens it in the browser · c copies it · Esc goes back")
            yield Static(keys, classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = 0
        options.focus()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        address = self._addresses[event.option_index]
        self.dismiss(None)
        if address.lower().startswith(SCHEMES):
            self.app.open_url(address)
        else:
            self.app.say(_("This is no address for a browser: {address}").format(address=address), "warning")

    def action_copy(self) -> None:
        address = self._addresses[self.query_one(OptionList).highlighted or 0]
        self.dismiss(None)
        self.app.copy(address)

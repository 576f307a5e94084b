"""Opens or copies a link: only on purpose, and only after its complete address was seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from glmtui.i18n import _
from glmtui.text.clean import one_line
from glmtui.tui.screens.dialog import ListDialog

if TYPE_CHECKING:
    from glmtui.tui.session_app import SessionApp

SCHEMES = ("http://", "https://", "mailto:")
"""What is given to the browser; models invent other things too."""


class LinkScreen(ListDialog[None]):
    """Lists addresses: Enter opens one in the browser, c copies it."""

    BINDINGS: ClassVar[list[BindingType]] = [("c,y", "copy", "")]
    app: SessionApp

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__(
            _("Open this link?"), _("Enter opens it in the browser · c copies it · Esc goes back")
        )
        self._addresses = addresses

    def rows(self) -> Iterable[Option]:
        return (Option(Content(one_line(address))) for address in self._addresses)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        address = self._addresses[event.option_index]
        self.dismiss(None)
        if address.lower().startswith(SCHEMES):
            self.app.open_url(address)
        else:
            self.app.say(_("This is no address for a browser: {address}").format(address=address), "warning")

    def action_copy(self) -> None:
        address = self._addresses[self.options.highlighted or 0]
        self.dismiss(None)
        self.app.copy(address)

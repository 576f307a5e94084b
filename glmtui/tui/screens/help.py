"""F1: what can be done where one is, first; then everything else."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from glmtui.i18n import _
from glmtui.tui.keys import SCOPES, Scope


class HelpScreen(ModalScreen[None]):
    """Keys and commands, with those of the focused part at the top."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,f1,q,enter", "dismiss", "")]

    def __init__(self, scope: Scope, overrides: dict[str, str]) -> None:
        super().__init__()
        self._scope = scope
        self._overrides = overrides

    def compose(self) -> ComposeResult:
        """The tables as Markdown."""
        from glmtui.tui.widgets.markdown import ChatMarkdown

        with Vertical(classes="dialog -tall"):
            title = _("Help: {where}").format(where=_(SCOPES[self._scope]))
            yield Static(title, classes="dialog-title", markup=False)
            with VerticalScroll(id="help-text"):
                yield ChatMarkdown(self._text())
            yield Static(_("↑ ↓ scroll · Esc closes"), classes="dialog-keys", markup=False)

    def on_mount(self) -> None:
        """Let the arrow keys scroll."""
        self.query_one("#help-text").focus()

    def _text(self) -> str:
        from glmtui.tui import commands, keys

        others: list[Scope] = [scope for scope in SCOPES if scope not in (self._scope, "app")]
        parts = [
            keys.markdown_table(self._overrides, list(dict.fromkeys([self._scope, "app"]))),
            f"### {_('Commands')}\n\n{commands.markdown_table()}",
            keys.markdown_table(self._overrides, others),
        ]
        return "\n\n".join(parts)

"""F1: what can be done where one is, first; then everything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from textual.binding import BindingType
from textual.widget import Widget

from glmtui.i18n import _
from glmtui.session.keys import SCOPES, Scope
from glmtui.tui.screens.dialog import Dialog
from glmtui.tui.screens.panes import PaneScreen

HEIGHTS = [(0, "-tiny"), (PaneScreen.TINY, "-low")]
"""Lines from which on the style sheet lays it out in these ways."""


class HelpScreen(Dialog[None]):
    """Keys and commands, with those of the focused part at the top."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,f1,q,enter", "dismiss", "")]
    VERTICAL_BREAKPOINTS = HEIGHTS

    def __init__(
        self, scope: Scope, overrides: Mapping[str, str], *, first: Literal["keys", "commands"] = "keys"
    ) -> None:
        where = _("Commands") if first == "commands" else _(SCOPES[scope])
        super().__init__(_("Help: {where}").format(where=where), _("↑ ↓ scroll · Esc closes"), tall=True)
        self._scope = scope
        self._overrides = overrides
        self._first = first

    def body(self) -> Iterable[Widget]:
        from glmtui.tui.transcript.text_scroll import MarkdownScroll

        yield MarkdownScroll(self._text(), id="help-text")

    def _text(self) -> str:
        from glmtui.session import keys
        from glmtui.session.slash.registry import COMMANDS

        here: list[Scope] = list(dict.fromkeys([self._scope, "app"]))
        others: list[Scope] = [scope for scope in SCOPES if scope not in here]
        parts = [
            keys.markdown_table(self._overrides, here, names=False),
            f"### {_('Commands')}\n\n{COMMANDS.markdown()}",
            keys.markdown_table(self._overrides, others, names=False),
        ]
        if self._first == "commands":
            parts[0], parts[1] = parts[1], parts[0]
        return "\n\n".join(parts)

"""Two answers to one question, with and without what was trained, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget

from glmtui.i18n import _, tell
from glmtui.text.clean import clean, one_line
from glmtui.tui.screens.dialog import Dialog
from glmtui.tui.transcript.prose import Prose

if TYPE_CHECKING:
    from glmtui.session.comparison import Side
    from glmtui.tui.session_app import SessionApp

REDRAW_SECONDS = 0.1
NARROW = 70
"""Columns below which the answers stand one below the other."""


class CompareScreen(Dialog[None]):
    """Shows the session's comparison as its answers come; closing it ends them."""

    app: SessionApp
    BINDINGS: ClassVar[list[BindingType]] = [("escape,q", "close", "")]

    def __init__(self) -> None:
        super().__init__(
            _("With and without what was learned"), _("Tab the other answer   Esc close"), tall=True
        )

    def body(self) -> Iterable[Widget]:
        yield Prose(id="compare-question")
        with Horizontal(id="compare-sides"):
            for name in ("with", "without"):
                with VerticalScroll(classes="compare-side"):
                    yield Prose(id=f"compare-{name}")

    def on_mount(self) -> None:
        self.set_interval(REDRAW_SECONDS, self._draw)
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < NARROW, "-narrow")

    def action_close(self) -> None:
        if self.app.session.comparison is not None:
            self.app.session.comparison.cancel()
        self.dismiss()

    def _draw(self) -> None:
        comparison = self.app.session.comparison
        if comparison is None:
            return
        question = Content.styled(one_line(comparison.question), "bold $text-primary")
        self.query_one("#compare-question", Prose).update(question)
        for name, side in zip(("with", "without"), comparison.sides, strict=True):
            self.query_one(f"#compare-{name}", Prose).update(self._side(side))

    def _side(self, side: Side) -> Content:
        title = self.app.session.adapted if side.adapters else _("without")
        parts: list[Content | tuple[str, str]] = [(one_line(title), "bold"), ("\n", "")]
        if side.problem:
            parts.append((tell(side.problem), "$text-error"))
        elif side.text or side.ended:
            parts.append((clean(side.text), ""))
        else:
            parts.append((_("reading") if side.begun else _("waits for the other"), "$text-muted"))
        return Content.assemble(*parts)

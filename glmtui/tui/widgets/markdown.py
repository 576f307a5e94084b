"""A Markdown text on its own, such as the help."""

from __future__ import annotations

from glmtui.tui.typeset.blocks import stack
from glmtui.tui.typeset.growing import whole
from glmtui.tui.typeset.lines import Line
from glmtui.tui.widgets.lines_view import LinesView


class ChatMarkdown(LinesView):
    """Shows a text as messages are shown. Links are never opened; they are posted as `LinkClicked`."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._blocks = whole(text)

    def update(self, text: str) -> None:
        """Show another text."""
        self._blocks = whole(text)
        self.lines_changed()

    def make_lines(self, width: int) -> list[Line]:
        """Block by block."""
        return stack(self._blocks, width)

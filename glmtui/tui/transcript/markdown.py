"""A Markdown text on its own, such as the help."""

from __future__ import annotations

from glmtui.tui.transcript.lines_view import LinesView
from glmtui.tui.transcript.typeset.blocks import stack
from glmtui.tui.transcript.typeset.growing import whole
from glmtui.tui.transcript.typeset.lines import Line


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

"""A few sentences of the program's own, broken into lines as Chinese and English want it."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from glmtui.tui.transcript.typeset.lines import wrap


class Prose(Widget):
    """What `textual.widgets.Static` is for other text: there ``。`` may begin a line."""

    def __init__(self, text: str = "", *, id: str | None = None) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self._content = Content(text)

    def update(self, text: str | Content) -> None:
        self._content = text if isinstance(text, Content) else Content(text)
        self.refresh(layout=True)

    def render(self) -> Content:
        return Content("\n").join(line.content for line in wrap(self._content, self.content_size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the text takes."""
        return len(wrap(self._content, width))

"""Markdown as chat models write it."""

from __future__ import annotations

from textual.widgets import Markdown


class ChatMarkdown(Markdown):
    """Markdown that streams."""

    def __init__(
        self, markdown: str | None = None, *, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(markdown, id=id, classes=classes, open_links=False)

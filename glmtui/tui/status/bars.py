"""Small lines around the chat: its title, and the keys that matter now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.widget import Widget

from glmtui.i18n import _
from glmtui.text.clean import one_line


class TitleBar(Widget):
    """The title of the conversation."""

    def __init__(self) -> None:
        super().__init__(id="title")
        self._title = ""

    def show(self, title: str) -> None:
        self._title = one_line(title)
        self.refresh()

    def render(self) -> Content:
        name = Content.styled("glmtui", "bold $text-primary")
        title = Content.styled(self._title or _("New conversation"), "$text-muted")
        return Content.assemble(name, "  ", title).truncate(self.content_size.width, ellipsis=True)


class KeyHints(Widget):
    """The few keys that matter where one is, as many as fit. A click does what the key does."""

    GAP = 3

    def __init__(self) -> None:
        super().__init__(id="hints")
        self._hints: list[tuple[str, str, str]] = []

    def show(self, hints: Iterable[tuple[str, str, str]]) -> None:
        """Show (key, text, action) triples."""
        new = list(hints)
        if new != self._hints:
            self._hints = new
            self.refresh()

    def render(self) -> Content:
        hints = [
            Content.assemble((key, "bold $text-secondary"), (f" {text}", "$text-muted"))
            for _start, _end, (key, text, _action) in self._placed()
        ]
        return Content(" " * self.GAP).join(hints)

    async def on_click(self, event: events.Click) -> None:
        at = event.x - self.styles.padding.left
        for start, end, (_key, _words, action) in self._placed():
            if start <= at < end and action:
                await self.run_action(action)

    def _placed(self) -> Iterator[tuple[int, int, tuple[str, str, str]]]:
        start = 0
        for hint in self._hints:
            end = start + cell_len(f"{hint[0]} {hint[1]}")
            if end > self.content_size.width:
                return
            yield start, end, hint
            start = end + self.GAP

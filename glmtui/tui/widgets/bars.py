"""Small lines around the chat: its title, the messages that wait, and the keys that matter now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from glmtui.i18n import _
from glmtui.text import one_line


class TitleBar(Widget):
    """The title of the conversation."""

    def __init__(self) -> None:
        super().__init__(id="title")
        self._title = ""

    def show(self, title: str) -> None:
        """Show this title."""
        self._title = one_line(title)
        self.refresh()

    def render(self) -> Content:
        """Draw the program's name and the title."""
        name = Content.styled("glmtui", "bold $text-primary")
        title = Content.styled(self._title or _("New conversation"), "$text-muted")
        return Content.assemble(name, "  ", title).truncate(self.content_size.width, ellipsis=True)


class QueueStrip(Static):
    """The messages that are sent when the answer is complete. A click on one takes it back."""

    SHOWN = 3

    @dataclass
    class Wanted(Message):
        """The message with this number in the queue was clicked."""

        number: int

    def __init__(self) -> None:
        super().__init__(id="queue", markup=False)
        self.display = False
        self._first = 0

    def on_click(self, event: events.Click) -> None:
        """Ask for the message."""
        self.post_message(self.Wanted(self._first + event.y))

    def show(self, waiting: Sequence[str], key: str) -> None:
        """Show these; `key` takes the last one back."""
        self.display = bool(waiting)
        self._first = max(len(waiting) - self.SHOWN, 0)
        if waiting:
            lines = [
                Content.assemble((f"{_('next')} ", "$text-accent"), one_line(text)[:200])
                for text in waiting[-self.SHOWN :]
            ]
            lines[-1] = Content.assemble(
                lines[-1], (f"   {_('{key} takes it back').format(key=key)}", "$text-muted")
            )
            self.update(Content("\n").join(lines))


class KeyHints(Widget):
    """The few keys that matter where one is, as many as fit. A click does what the key does."""

    GAP = 3

    def __init__(self) -> None:
        super().__init__(id="hints")
        self._hints: list[tuple[str, str, str]] = []

    def show(self, hints: Iterable[tuple[str, str, str]]) -> None:
        """Show (key, words, action) triples."""
        new = list(hints)
        if new != self._hints:
            self._hints = new
            self.refresh()

    def render(self) -> Content:
        """Draw what fits."""
        hints = [
            Content.assemble((key, "bold $text-secondary"), (f" {words}", "$text-muted"))
            for _start, _end, (key, words, _action) in self._placed()
        ]
        return Content(" " * self.GAP).join(hints)

    async def on_click(self, event: events.Click) -> None:
        """Run the action that was clicked."""
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

"""The popup over the composer: what could be typed here, each with a line on what it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from glmtui.text.clean import one_line
from glmtui.text.columns import cell


@dataclass(frozen=True, slots=True)
class Completion:
    """One offer: `text` replaces what is being completed."""

    text: str
    description: str = ""
    label: str = ""
    """What the popup shows when it is not `text` itself."""
    optional: bool = False
    """What is typed may be meant as it is, as the name of a new file: Enter leaves it so."""

    @property
    def shown(self) -> str:
        return one_line(self.label or self.text)


class CompletionList(Widget):
    """A list of `Completion` above the composer; it never has the focus, the composer drives it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"completion--selected", "completion--description"}
    ROWS = 8
    """The most offers seen at once; the list scrolls beyond."""

    ALLOW_SELECT = False

    class Chosen(Message):
        """A row was clicked; it is `current` now."""

    offers: reactive[tuple[Completion, ...]] = reactive((), layout=True)
    index = reactive(0)
    walked = False
    """Whether the person chose the current one."""

    def show(self, offers: Sequence[Completion], *, index: int = 0) -> None:
        """Offer these; an empty sequence closes the popup."""
        self.offers = tuple(offers)
        self.index = min(index, max(len(offers) - 1, 0))
        self.walked = False
        self.set_class(bool(offers), "-open")
        rows = min(len(offers), self.ROWS)
        self.styles.offset = (0, -rows - self.gutter.height)

    @property
    def is_open(self) -> bool:
        return bool(self.offers)

    @property
    def current(self) -> Completion | None:
        return self.offers[self.index] if self.offers else None

    def move(self, by: int) -> None:
        if self.offers:
            self.index = (self.index + by) % len(self.offers)
            self.walked = True

    @property
    def _first(self) -> int:
        return min(max(self.index - self.ROWS // 2, 0), max(len(self.offers) - self.ROWS, 0))

    def on_click(self, event: events.Click) -> None:
        event.stop()
        row = event.y - self.gutter.top
        if 0 <= row < min(len(self.offers), self.ROWS):
            self.index = self._first + row
            self.walked = True
            self.post_message(self.Chosen())

    def render(self) -> Content:
        first = self._first
        rows = self.offers[first : first + self.ROWS]
        described = any(offer.description for offer in self.offers)
        widest = max((cell_len(offer.shown) for offer in self.offers), default=0)
        width = self.content_size.width
        column = min(widest, 40, width * 2 // 5) if described else max(width - 2, 0)
        selected = self.get_visual_style("completion--selected")
        muted = self.get_visual_style("completion--description")
        lines = []
        for number, offer in enumerate(rows, first):
            name = cell(offer.shown, column)
            description = cell(one_line(offer.description), max(width - column - 4, 0))
            line = Content.assemble(f" {name}  ", (description, muted), " ")
            lines.append(line.stylize(selected) if number == self.index else line)
        return Content("\n").join(lines)

"""The long column of a transcript: what stands where, measured where it was seen and guessed elsewhere."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from textual.widget import Widget

    from glmtui.chat.conversation import Message

OVERHEAD = 3
"""Lines of an entry beside its text: the line with the role, the one with the figures, the gap."""


@dataclass(eq=False)
class Entry:
    """One message, or one notice of the app's own."""

    text: str
    message: Message | None = None
    kind: str = ""
    """Of a notice: info, warning, error, markdown."""
    branch: tuple[int, int] = (1, 1)
    """Which of how many versions a message is."""
    last: bool = False
    """Whether it is the last message."""
    view: Widget | None = None
    """What shows it, while it is near the view."""
    height: int = 0
    """In lines, with the gap after it."""
    measured: bool = False
    pinned: bool = False
    """Stays mounted wherever the view is: an answer being written."""
    index: int = field(default=-1)

    def guess(self, width: int) -> int:
        """Return about how many lines the entry takes at `width` cells: quick, for thousands of them."""
        cells = len(self.text) if self.text.isascii() else 2 * len(self.text)
        return OVERHEAD + self.text.count("\n") + cells // max(width, 1)


class Place(NamedTuple):
    """A point in the column that stays where it is in the text when heights change."""

    entry: Entry
    offset: float
    """Lines below the entry's top; negative above it."""


class Column:
    """Entries one below the other."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.width = 0
        self._tops: list[int] | None = None

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entries: Iterable[Entry]) -> None:
        """Put entries at the end."""
        for entry in entries:
            entry.index = len(self.entries)
            entry.height = entry.guess(self.width)
            self.entries.append(entry)
        self._tops = None

    def clear(self) -> None:
        """Forget all."""
        self.entries = []
        self._tops = None

    def remove(self, entry: Entry) -> None:
        """Take one out."""
        del self.entries[entry.index]
        for index in range(entry.index, len(self.entries)):
            self.entries[index].index = index
        self._tops = None

    def set_width(self, width: int) -> None:
        """Guess again for another width."""
        if width != self.width:
            self.width = width
            for entry in self.entries:
                entry.height, entry.measured = entry.guess(width), False
            self._tops = None

    def set_height(self, entry: Entry, height: int) -> None:
        """Note what was measured."""
        entry.measured = True
        if height != entry.height:
            entry.height = height
            self._tops = None

    @property
    def tops(self) -> Sequence[int]:
        """The line where each entry begins, and at the end the line after the last."""
        if self._tops is None:
            self._tops = list(accumulate((entry.height for entry in self.entries), initial=0))
        return self._tops

    @property
    def height(self) -> int:
        """Of everything."""
        return self.tops[-1]

    def at(self, line: float) -> int:
        """Return the index of the entry that `line` falls on (the nearest one, outside)."""
        return min(max(bisect_right(self.tops, line) - 1, 0), max(len(self.entries) - 1, 0))

    def place(self, line: float, height: int = 1) -> Place | None:
        """Return what a view of `height` lines at `line` is to hold on to.

        That is the first entry in it whose height is known, since a person has seen it where it is; the
        others will turn out higher or lower than guessed. Without one, it is what `line` falls on.
        """
        if not self.entries:
            return None
        seen = range(self.at(line), self.at(line + height - 1) + 1)
        index = next((number for number in seen if self.entries[number].measured), seen.start)
        return Place(self.entries[index], line - self.tops[index])

    def line(self, place: Place) -> float:
        """Return the line that `place` is on now."""
        return self.tops[place.entry.index] + min(place.offset, max(place.entry.height - 1, 0))

    def near(self, top: float, height: int, margin: int) -> range:
        """Return the indices of what is within `margin` lines of a view of `height` lines at `top`."""
        if not self.entries:
            return range(0)
        return range(self.at(top - margin), self.at(top + height + margin) + 1)

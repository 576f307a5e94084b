"""The long column of a transcript: what stands where, measured where it was seen and estimated elsewhere."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import NamedTuple

from textual.content import Content

from glmtui.tui.transcript.typeset.lines import Line, wrap

OVERHEAD = 3
"""Lines of an entry apart from its text: the line with the role, the one with the figures, the gap."""


class Entry:
    """One text in the column: `make_lines` is what a kind of entry defines; `lines` remembers the result."""

    kind = ""
    """Of a notice: info, warning, error, markdown."""
    bar: tuple[str, str, str] | None = ("▌", "$foreground 30%", "ansi_bright_black")
    """The bar at its left, the bar's style, and its style in themes of 16 colours; None: no bar, no gap."""

    height = 0
    """In lines, with the gap after it."""
    measured = False
    """Whether `height` is exact for the width of the column."""
    index = -1
    serial = 0
    """Grows along the column and is never used twice."""
    _lines: list[Line] | None = None
    _width = 0

    def __init__(self, text: str = "") -> None:
        self.text = text

    def make_lines(self, width: int) -> list[Line]:
        raise NotImplementedError

    def lines(self, width: int) -> list[Line]:
        """Return the lines at `width` cells, bar included."""
        if self._lines is None or self._width != width:
            self._lines = self.make_lines(max(width - 3, 1) if self.bar else width)
            self._width = width
        return self._lines

    def replace_lines(self, lines: list[Line], width: int) -> None:
        """Show other lines until the entry changes."""
        self._lines, self._width = lines, width

    def changed(self) -> None:
        self._lines = None

    def release(self) -> None:
        """Drop what can be made again from the text."""
        self._lines = None

    @property
    def gap(self) -> int:
        return 1 if self.bar else 0

    def estimate(self, width: int) -> int:
        """Return about how many lines the entry takes at `width` cells: quick, for thousands of entries."""
        cells = len(self.text) if self.text.isascii() else 2 * len(self.text)
        return OVERHEAD + self.text.count("\n") + cells // max(width, 1)


class Place(NamedTuple):
    """A point in the column that stays where it is in the text when heights change."""

    entry: Entry
    offset: float
    """Lines below the entry's top; negative above it."""


class Column:
    """Entries one below the other.

    Args:
        in_its_place: given what went wrong when an entry was set into lines, returns what is shown instead.
    """

    def __init__(self, in_its_place: Callable[[Exception], str]) -> None:
        self._in_its_place = in_its_place
        self.entries: list[Entry] = []
        self.width = 0
        self._tops: list[int] | None = None
        self._serial = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._serial += 1
            entry.serial, entry.index = self._serial, len(self.entries)
            entry.height, entry.measured = entry.estimate(self.width), False
            self.entries.append(entry)
        self._tops = None

    def clear(self) -> None:
        self.entries = []
        self._tops = None

    def remove(self, entry: Entry) -> None:
        del self.entries[entry.index]
        for index in range(entry.index, len(self.entries)):
            self.entries[index].index = index
        entry.index = -1
        self._tops = None

    def __contains__(self, entry: Entry) -> bool:
        return 0 <= entry.index < len(self.entries) and self.entries[entry.index] is entry

    def set_width(self, width: int) -> None:
        if width != self.width:
            self.width = width
            for entry in self.entries:
                entry.height, entry.measured = entry.estimate(width), False
            self._tops = None

    def lines(self, entry: Entry) -> list[Line]:
        """Return the lines of an entry; one that fails to make them costs itself alone."""
        try:
            return entry.lines(self.width)
        except Exception as error:  # noqa: BLE001 (whatever it is, the other messages are read)
            entry.replace_lines(wrap(Content(self._in_its_place(error)), max(self.width, 1)), self.width)
            return entry.lines(self.width)

    def measure(self, entry: Entry) -> list[Line]:
        lines = self.lines(entry)
        self.set_height(entry, len(lines) + entry.gap)
        return lines

    def set_height(self, entry: Entry, height: int) -> None:
        entry.measured = True
        if height != entry.height:
            entry.height = height
            if self._tops is not None and entry.index == len(self.entries) - 1:  # an answer grows
                self._tops[-1] = self._tops[-2] + height
            else:
                self._tops = None

    @property
    def tops(self) -> Sequence[int]:
        """The line where each entry begins, and at the end the line after the last."""
        if self._tops is None:
            self._tops = list(accumulate((entry.height for entry in self.entries), initial=0))
        return self._tops

    @property
    def height(self) -> int:
        return self.tops[-1]

    def at(self, line: float) -> int:
        """Return the index of the entry that `line` falls on (the nearest one, outside)."""
        return min(max(bisect_right(self.tops, line) - 1, 0), max(len(self.entries) - 1, 0))

    def place(self, line: float, height: int = 1) -> Place | None:
        """Return what a view of `height` lines at `line` is to hold on to.

        That is the first entry in it whose height is known, since a person has seen it where it is; the
        others will turn out higher or lower than estimated. Without one, it is what `line` falls on.
        """
        if not self.entries:
            return None
        seen = self.near(line, height - 1)
        index = next((number for number in seen if self.entries[number].measured), seen.start)
        return Place(self.entries[index], line - self.tops[index])

    def line(self, place: Place) -> float:
        inside = place.offset < place.entry.height
        return self.tops[place.entry.index] + (place.offset if inside else max(place.entry.height - 1, 0))

    def near(self, top: float, height: int, margin: int = 0) -> range:
        """Return the indices of what is within `margin` lines of a view of `height` lines at `top`."""
        if not self.entries:
            return range(0)
        return range(self.at(top - margin), self.at(top + height + margin) + 1)

    def between(self, first: int, last: int) -> Sequence[Entry]:
        """Return the entries whose serial numbers are from `first` to `last`."""
        start = bisect_left(self.entries, first, key=attrgetter("serial"))
        return self.entries[start : bisect_right(self.entries, last, key=attrgetter("serial"))]

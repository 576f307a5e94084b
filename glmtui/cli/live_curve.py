"""How a training run goes, on a terminal: figures and the curve of the loss, drawn again in place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from time import monotonic

from glmtui.i18n import _, tell
from glmtui.streams import StatusLine
from glmtui.text.columns import cell, widest
from glmtui.training.progress import Event
from glmtui.training.record import RunRecord

REDRAW_SECONDS = 0.5
WIDEST, HIGHEST = 100, 14


class LiveCurve:
    """Takes a run's events and shows them; where there is no terminal it shows nothing.

    Args:
        status: where it is drawn.
    """

    def __init__(self, status: StatusLine) -> None:
        self._status = status
        self.record = RunRecord()
        self._drawn = 0.0

    def take(self, event: Event) -> None:
        """Add what a run tells, and draw it twice a second at most."""
        self.record.take(event)
        if self.record.step is not None and (now := monotonic()) - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self.draw()

    def draw(self) -> None:
        """Draw it now, as large as the terminal is."""
        size = shutil.get_terminal_size()
        self._status.show_lines(self.lines(min(size.columns - 1, WIDEST), min(size.lines - 4, HIGHEST)))

    def leave(self) -> None:
        """Draw it a last time and let it stay."""
        self.draw()
        self._status.keep()

    def lines(self, width: int, height: int) -> list[str]:
        """Return the curve with its legend above and the figures below, of at most `width` columns."""
        figures = list(_joined((f"{tell(name)} {value}" for name, value in self.record.figures()), width))
        curve = self.record.plot(width, height - len(figures) - 1)
        legend = "  ".join((f"⠂ {_('loss')}", f"⠒ {_('smoothed')}", f"◆ {_('validation')}"))
        drawn = ["".join(character for character, _curve in row).rstrip() for row in curve]
        return [*([cell(legend, width).rstrip()] if drawn else []), *drawn, *figures]


def _joined(parts: Iterator[str], width: int) -> Iterator[str]:
    """Put `parts` into as few lines of `width` columns as hold them."""
    line = ""
    for part in parts:
        longer = f"{line} · {part}" if line else part
        if line and widest([longer]) > width:
            yield cell(line, width).rstrip()
            longer = part
        line = longer
    if line:
        yield cell(line, width).rstrip()

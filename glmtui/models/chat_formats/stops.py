"""Texts that end an answer, wherever they fall among its tokens."""

from __future__ import annotations

from collections.abc import Sequence


class StopStream:
    """Passes an answer on up to the first of some texts; nothing is taken back.

    Args:
        stops: the texts; empty ones end nothing.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(filter(None, stops))
        self._held = ""  # the beginning of a stop, perhaps
        self.found = False
        """Whether one came."""

    def push(self, text: str) -> str:
        """Return what of the answer is decided once `text` has come."""
        if self.found:
            return ""
        text, self._held = self._held + text, ""
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:  # the first to be complete, however the text was cut
            self.found = True
            return text[: min(ends)[1]]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """Return what was held back, as the answer ends here."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Return how many characters `text` ends with that `stop` begins with, without being all of it."""
    lengths = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)

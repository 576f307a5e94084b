"""How one thread stops the work of another."""

from __future__ import annotations

import threading


class Stopped(Exception):  # noqa: N818 (not an error)
    """The work was stopped on purpose."""


class StopSignal:
    """Set by whoever wants the work to end; checked by whoever does it, between its pieces."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the work to stop. Never waits."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the work is to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Stopped` if the work is to stop."""
        if self._event.is_set():
            raise Stopped

"""How one thread stops the work of another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")
INTERVAL = 0.1
"""Seconds between two looks at a signal while waiting for something that cannot be stopped."""


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


def stoppable(work: Callable[[], T], stop: StopSignal) -> T:
    """Do `work`, which cannot look at `stop` itself (as it waits for the network); return its result.

    Raises:
        Stopped: at once; the work goes on in its own thread, and what comes of it is dropped.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
            results.put((None, error))

    threading.Thread(target=run, name="glmtui-stoppable", daemon=True).start()
    while True:
        stop.check()
        try:
            result, error = results.get(timeout=INTERVAL)
        except queue.Empty:
            continue
        if error is not None:
            raise error
        return cast("T", result)

"""How one thread gives up the work of another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")
INTERVAL = 0.1
"""Seconds between two looks at a token while waiting for something that cannot be cancelled."""


class OperationCancelled(Exception):  # noqa: N818 (not an error)
    """The work was given up on purpose."""


class CancelToken:
    """Set by whoever wants the work to end; checked by whoever does it, between its pieces."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to end. Never waits."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work is to end."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `OperationCancelled` if the work is to end."""
        if self._event.is_set():
            raise OperationCancelled


def run_cancellable(work: Callable[[], T], token: CancelToken) -> T:
    """Do `work`, which cannot look at `token` itself (as it waits for the network); return its result.

    Raises:
        OperationCancelled: at once; the work goes on in its own thread, and what comes of it is dropped.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
            results.put((None, error))

    threading.Thread(target=run, name="glmtui-cancellable", daemon=True).start()
    while True:
        token.check()
        try:
            result, error = results.get(timeout=INTERVAL)
        except queue.Empty:
            continue
        if error is not None:
            raise error
        return cast("T", result)

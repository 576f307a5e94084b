"""How one thread gives up the work of another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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

    @contextmanager
    def current(self) -> Iterator[None]:
        """Around the work of this thread that is to end then: `check_current` looks at this token."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)


_current: ContextVar[CancelToken | None] = ContextVar("current", default=None)


def check_current() -> None:
    """Raise `OperationCancelled` if what this thread does is to end: for work that is too deep to be told."""
    if (token := _current.get()) is not None:
        token.check()


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

"""How the system asks the program to end: a signal. It ends within a second, whatever it is doing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

CLOGGED_SECONDS = 0.1
"""After which a terminal that has not taken what was written is given up."""
LIMIT_SECONDS = 0.6
"""After which the process ends as it is: what matters is on disk."""
RESTORE_SECONDS = 0.2
"""That bringing the terminal back may take then."""
ALL = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
"""Windows has the first two."""
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Without the one that asks for the end as it is."""


@contextmanager
def end_signals(ended: Callable[[int], object], names: Sequence[str] = ALL) -> Iterator[None]:
    """Call `ended` with the signal's number, in the main thread and between any two steps of it.

    It stands in for the system's own way, so that what is not yet kept is kept and the terminal tidied up.
    What is ignored goes on being ignored: ``nohup``, or the shell of a script, meant it so.
    """
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _frame: ended(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ends_in_order(names: Sequence[str] = ENDING) -> Iterator[None]:
    """Let a signal that ends the process leave the way of an exception: all that is begun is finished."""

    def ended(number: int) -> None:
        end_soon(128 + number)
        raise SystemExit(128 + number)

    with end_signals(ended, names):
        yield


def _nothing() -> None:
    return


def end_soon(
    code: int, give_up_output: Callable[[], object] = _nothing, restore: Callable[[], object] = _nothing
) -> None:
    """See to it that the process has ended within a second.

    Else it may wait for a terminal that takes nothing, for a thread that searches, for a file far away.

    Args:
        code: of the process.
        give_up_output: lets nobody wait any more for the terminal to take what was written.
        restore: brings the terminal back to how it was, if that has not been done.
    """

    def end() -> None:
        begun = time.monotonic()
        time.sleep(CLOGGED_SECONDS)
        _start(give_up_output)
        time.sleep(max(begun + LIMIT_SECONDS - time.monotonic(), 0))
        _start(restore).join(RESTORE_SECONDS)
        os._exit(code)

    _start(end)


def _start(work: Callable[[], object]) -> Thread:
    thread = Thread(target=work, name="glmtui-end", daemon=True)
    thread.start()
    return thread

"""How the system asks the program to end: a signal, or a terminal that hangs up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress


def on_end_signal(ended: Callable[[int], object]) -> None:
    """Call `ended` with the signal's number in the running loop, instead of ending at once.

    It stands in for the system's own way, so that what is not yet kept is kept and the terminal tidied up.
    """
    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGHUP"):
        with suppress(AttributeError, NotImplementedError):  # Windows has neither
            number = int(getattr(signal, name))
            loop.add_signal_handler(number, ended, number)

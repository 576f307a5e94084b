"""What Ctrl+C does to the process before and after there is somebody to handle it.

Python's own way is a traceback wherever it comes: also while modules are still being imported.
"""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
"""The exit code, as shells expect it."""


def end_at_once() -> None:
    """Let Ctrl+C end the process without a word, as nothing has begun."""
    _handle_by(lambda _number, _frame: os._exit(INTERRUPTED))


def raise_error() -> None:
    """Let Ctrl+C raise `KeyboardInterrupt`, which the caller catches from now on."""
    _handle_by(signal.default_int_handler)


def ignore() -> None:
    """Let the process end undisturbed."""
    _handle_by(signal.SIG_IGN)


def _handle_by(handler: signal._HANDLER) -> None:
    """Whoever started this in the background, where Ctrl+C is ignored, meant it so."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)

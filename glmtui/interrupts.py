"""What Ctrl+C does to the process where nobody handles it.

Python's own way is an exception wherever it comes: a traceback while modules are imported, and once an import
of torch has swallowed it or died of it, anything. It comes late, too: only when the main thread is done with
what it does in C, and while the libraries of torch are loaded no thread runs.
"""

from __future__ import annotations

import signal

INTERRUPTED = 130
"""The exit code, as shells expect it."""


def end_at_once() -> None:
    """Let the system end the process without a word, whatever it does: nothing has to be finished or kept.

    A shell shows that as 130, and ends a loop of its own, too.
    """
    _handle_by(signal.SIG_DFL)


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

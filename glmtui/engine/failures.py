"""Turns any exception into a line that a person can act on."""

from __future__ import annotations

import traceback
from datetime import datetime, timezone
from pathlib import Path

from glmtui import paths
from glmtui.errors import OutOfMemoryError, UserError
from glmtui.protocol.phrases import Option, Phrase, _

UNEXPECTED = "unexpected"
"""The code of what nobody foresaw."""
LOG_LIMIT = 1 << 20
"""Bytes; a longer log is begun anew."""


def describe(error: BaseException) -> tuple[str, Phrase]:
    """Return the code of a failure (see `glmtui.errors`), and what went wrong and what to do.

    What nobody foresaw is written to the log with its traceback, and the phrase says where.
    """
    if isinstance(error, UserError):
        return error.code, error.phrase
    if is_out_of_memory(error):
        return OutOfMemoryError.code, _(
            "Not enough memory. Close other programs, use fewer bits per weight ({option} or 4), "
            "a shorter context, or a smaller model."
        ).format(option=Option("quant", 8))
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return UserError.code, _("The system says: {reason}").format(reason=error.strerror)
        return UserError.code, _("{path}: {reason}").format(path=error.filename, reason=error.strerror)
    kind = type(error).__name__
    reason = (str(error).strip() or kind).splitlines()[0]
    log = write_log(error)
    if log is None:
        return UNEXPECTED, _("Unexpected error ({kind}): {reason}").format(kind=kind, reason=reason)
    phrase = _("Unexpected error ({kind}): {reason}. The details are in {path}")
    return UNEXPECTED, phrase.format(kind=kind, reason=reason, path=log)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is how Python, the system or torch says that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "out of memory" in text)


def log_file() -> Path:
    """Where unexpected errors are written."""
    return paths.state_dir() / "glmtui.log"


def write_log(error: BaseException) -> Path | None:
    """Append `error` with its traceback to the log; return its path, or None if it cannot be written."""
    log = log_file()
    entry = f"{datetime.now(timezone.utc).isoformat()}\n{''.join(traceback.format_exception(error))}\n"
    try:
        paths.make_private(log.parent)
        too_long = log.exists() and log.stat().st_size > LOG_LIMIT
        with log.open("w" if too_long else "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(entry)
    except OSError:
        return None
    return log

"""Turns any exception into a line that a person can act on, and writes down what nobody foresaw."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from glmtui import paths
from glmtui.errors import OutOfMemoryError, UserError
from glmtui.protocol.phrases import Option, Phrase, _
from glmtui.text.clean import one_line
from glmtui.text.quoting import reason_of

UNEXPECTED = "unexpected"
"""The code of what nobody foresaw."""
LOG_LIMIT = 1 << 20
"""Bytes; a longer log is begun anew."""
SHOWN = 200
"""Characters that are shown of what an unexpected error says."""
NAMES_NO_DATA = (
    *(ArithmeticError, AttributeError, ImportError, LookupError, NameError, RuntimeError, TypeError),
)
"""Errors whose text speaks of types, attributes, shapes; others may quote what was said in a conversation."""


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
            return UserError.code, _("The system says: {reason}").format(reason=reason_of(error))
        return UserError.code, _("{path}: {reason}").format(path=error.filename, reason=reason_of(error))
    kind = type(error).__name__
    reason = one_line(str(error))[:SHOWN] or kind
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
    if isinstance(error, ImportError) and "failed to map segment" in text:  # of a library
        return True
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "out of memory" in text)


def log_file() -> Path:
    """Where unexpected errors are written."""
    return paths.state_dir() / "glmtui.log"


def write_log(error: BaseException) -> Path | None:
    """Append `error` to the log; return its path, or None if it cannot be written.

    Nothing of a conversation gets there: no values of variables, and of the text of an error only what
    cannot quote one.
    """
    log = log_file()
    entry = "".join([datetime.now(timezone.utc).isoformat(), "\n", *_traceback(error), "\n"])
    try:
        paths.make_private(log.parent)
        too_long = log.exists() and log.stat().st_size > LOG_LIMIT
        with log.open("w" if too_long else "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(entry)
    except OSError:
        return None
    return log


class Faults:
    """The unexpected errors that were met: one that comes again from the same line is written down once."""

    def __init__(self) -> None:
        self._met: dict[tuple[object, ...], Phrase] = {}

    def describe(self, error: BaseException) -> tuple[Phrase, bool]:
        """Return what to say of `error`, and whether it is the first of its kind."""
        kind = self._kind(error)
        known = self._met.get(kind)
        phrase = known or describe(error)[1]
        self._met[kind] = phrase
        return phrase, known is None

    @staticmethod
    def _kind(error: BaseException) -> tuple[object, ...]:
        if isinstance(error, UserError | OSError):  # of which the text is all there is
            return type(error), str(error)
        places = traceback.extract_tb(error.__traceback__, -1)
        return type(error), *((place.filename, place.lineno) for place in places)


def _traceback(error: BaseException) -> Iterator[str]:
    """Yield the lines of a traceback, of what led to the error first."""
    if error.__cause__ is not None:
        yield from _traceback(error.__cause__)
        yield "\nwhich led to:\n"
    elif error.__context__ is not None and not error.__suppress_context__:
        yield from _traceback(error.__context__)
        yield "\nduring which came:\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__}{_said(error)}\n"


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f": {errno.errorcode.get(error.errno, error.errno)}"
    if isinstance(error, NAMES_NO_DATA) and not isinstance(error, KeyError):
        return f": {one_line(str(error))[:SHOWN]}"
    return ""

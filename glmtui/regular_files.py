"""Reading files that somebody else made or named: only regular ones, and no more of them than makes sense.

Whoever opens a FIFO waits for a writer, ``/dev/zero`` has no end, and a size that the file system tells need
not be the size that is read. What is refused is an `OSError` like all others that files give, so that one
``except`` has them all; `reason` says any of them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from glmtui.protocol.phrases import Phrase, _
from glmtui.text.quoting import reason_of

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


class RefusedFileError(OSError):
    """A file that is not read, whatever is in it."""

    def __init__(self, phrase: Phrase) -> None:
        super().__init__(str(phrase))
        self.phrase = phrase


def reason(error: Exception) -> Phrase:
    """Return what `error` says of a file, without numbers, paths and a full stop."""
    return error.phrase if isinstance(error, RefusedFileError) else reason_of(error)


def open_regular(path: Path, most: int) -> BinaryIO:
    """Open a regular file of at most `most` bytes to read, without ever waiting for it.

    Raises:
        OSError: it cannot be opened; `RefusedFileError` where it is something else than that.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        check_regular(os.fstat(descriptor), most)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(status: os.stat_result, most: int) -> None:
    """Raise `RefusedFileError` unless this is the status of a regular file of at most `most` bytes."""
    if stat.S_ISDIR(status.st_mode):
        raise RefusedFileError(_("it is a folder"))
    if not stat.S_ISREG(status.st_mode):
        raise RefusedFileError(_("it is no regular file"))
    if status.st_size > most:
        raise too_large(status.st_size, most)


def read_regular(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file that has at most `most`; raises as `open_regular` does."""
    with open_regular(path, most) as file:
        told = os.fstat(file.fileno()).st_size
        data = file.read(told + 1)  # asked for `most`, Python would make room for that
        if len(data) > told:  # files in /proc say that they are empty, others may grow
            data += file.read(most + 1 - len(data))
    if len(data) > most:
        raise too_large(len(data), most)
    return data


def too_large(size: int, most: int) -> RefusedFileError:
    """Say that something has `size` bytes, which is more than `most`."""
    phrase = _("it has {size} MB; at most {most} MB are read")
    return RefusedFileError(
        phrase.format(size=f"{size / 1e6:,.1f}", most=f"{most / 1e6:,.1f}".removesuffix(".0"))
    )

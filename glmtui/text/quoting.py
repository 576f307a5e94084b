"""What a message quotes of a file, a person or a library: short, in one line, without control characters."""

from __future__ import annotations

import errno
import json

from glmtui.protocol.phrases import Phrase, _, verbatim
from glmtui.text.clean import one_line

QUOTED = 120
"""Most characters of a quotation."""
_SYSTEM = {
    errno.ENOENT: _("No such file or directory"),
    errno.EACCES: _("Permission denied"),
    errno.EPERM: _("Operation not permitted"),
    errno.ENOSPC: _("No space left on device"),
    errno.EROFS: _("Read-only file system"),
    errno.EISDIR: _("Is a directory"),
    errno.ENOTDIR: _("Not a directory"),
    errno.ENOTEMPTY: _("Directory not empty"),
    errno.EEXIST: _("File exists"),
    errno.ELOOP: _("Too many levels of symbolic links"),
    errno.ENAMETOOLONG: _("File name too long"),
    errno.EFBIG: _("File too large"),
    errno.EIO: _("Input/output error"),
    errno.EMFILE: _("Too many open files"),
    errno.ENFILE: _("Too many open files in system"),
    errno.EBUSY: _("Device or resource busy"),
    errno.ENOMEM: _("Cannot allocate memory"),
    errno.ETXTBSY: _("Text file busy"),
    errno.EADDRINUSE: _("Address already in use"),
    errno.EADDRNOTAVAIL: _("Cannot assign requested address"),
}
"""What systems say of files and addresses, in the words of Linux, by the number of the error."""


def quoted(value: object) -> str:
    """Return `value` as a message quotes it: text as it is, numbers as in JSON, of a list only brackets."""
    if isinstance(value, str):
        text = one_line(value[: 4 * QUOTED])
    elif isinstance(value, list | dict):
        text = "[…]" if isinstance(value, list) else "{…}"
    else:
        text = json.dumps(value, default=str)
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 1]}…"


def reason_of(error: BaseException) -> Phrase:
    """Return what `error` says in one short line without a full stop, or its class where it says nothing.

    Of the system's errors without number and path, and so that it can be said in any language.
    """
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        return _SYSTEM[error.errno]
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    line = next(filter(None, map(str.strip, said.splitlines())), type(error).__name__)
    return verbatim(quoted(line).rstrip("."))

"""What a message quotes of a file, a person or a library: short, in one line, without control characters."""

from __future__ import annotations

import json

from glmtui.text.clean import one_line

QUOTED = 120
"""Most characters of a quotation."""


def quoted(value: object) -> str:
    """Return `value` as a message quotes it: text as it is, numbers as in JSON, of a list only brackets."""
    if isinstance(value, str):
        text = one_line(value[: 4 * QUOTED])
    elif isinstance(value, list | dict):
        text = "[…]" if isinstance(value, list) else "{…}"
    else:
        text = json.dumps(value, default=str)
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 1]}…"


def reason_of(error: BaseException) -> str:
    """Return what `error` says in one short line without a full stop, or its class where it says nothing."""
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    line = next(filter(None, map(str.strip, said.splitlines())), type(error).__name__)
    return quoted(line).rstrip(".")

"""Reading text files that people name, in the encodings they have."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import _
from glmtui.regular_files import read_regular, reason

MOST_BYTES = 2_000_000
"""More than this is not read: no model of this family could take a tenth of it."""
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    *((mark, "utf-32") for mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),  # they begin like the next
    *((mark, "utf-16") for mark in UTF_16_MARKS),
)
_BINARY = re.compile("[\x00-\x07\x0e-\x19\x1c-\x1f]")
"""Control characters that no text has; it may have the escape sequences of a terminal's log."""


def read_text(path: Path) -> str:
    """Return the text in `path`: UTF-8, UTF-16 with its mark, or the Chinese GB 18030 (GBK).

    Raises:
        UserError: there is no such file, it is too big or no regular one, or it is no text.
    """
    try:
        data = read_regular(path, MOST_BYTES)
    except OSError as error:
        said = _("{path} cannot be read: {error}")
        raise BadFileError(said.format(path=path, error=reason(error))) from error
    text = decode(data)
    if text is None:
        raise BadFileError(_("{path} is not a text file").format(path=path))
    return text


def decode(data: bytes) -> str | None:
    """Return the text in `data`, or None if it is none."""
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not _BINARY.search(text):
            return text
    return None

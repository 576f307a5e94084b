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
_BINARY = re.compile("[\x00-\x06\x0e-\x19\x1c-\x1f]")
"""Control characters that no text has; it may have the escapes and bells of a terminal's log."""
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]+")
_LOOKED_AT = 1 << 16
"""Bytes of a text that say in which encoding it is."""
MOSTLY = 0.7
"""Share of single characters beyond ASCII that Western languages have, and Chinese in GBK has not..."""
RARE = 0.25
"""...nor are they so rare in it."""


def read_text(path: Path) -> str:
    """Return the text in `path`: UTF-8, UTF-16 with its mark, the Chinese GB 18030 (GBK), or Windows-1252.

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
    for encoding in (marked,) if marked else ("utf-8", "cp1252" if _is_western(data) else "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not _BINARY.search(text):
            return text
    return None


def _is_western(data: bytes) -> bool:
    """Whether what is not UTF-8 has single letters with accents rather than characters of two bytes."""
    runs = list(map(len, _BEYOND_ASCII.findall(data[:_LOOKED_AT])))
    single = sum(length == 1 for length in runs)
    return single > MOSTLY * len(runs) and sum(runs) < RARE * min(len(data), _LOOKED_AT)

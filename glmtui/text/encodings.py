"""Reading text files that people name, in the encodings they have."""

from __future__ import annotations

import codecs
from pathlib import Path

from glmtui.errors import BadFileError, BadValueError
from glmtui.protocol.phrases import _

MOST_BYTES = 2_000_000
"""More than this is not read: no model of this family could take a tenth of it."""
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), *((mark, "utf-16") for mark in UTF_16_MARKS))


def read_text(path: Path) -> str:
    """Return the text in `path`: UTF-8, UTF-16 with its mark, or the Chinese GB 18030 (GBK).

    Raises:
        UserError: there is no such file, it is too big, or it is no text.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise BadValueError(
                _("{path} has {size} MB; at most {most} MB can be read.").format(
                    path=path, size=f"{size / 1e6:.1f}", most=f"{MOST_BYTES / 1e6:.0f}"
                )
            )
        data = path.read_bytes()
    except OSError as error:
        raise BadFileError(
            _("{path} cannot be read: {error}").format(path=path, error=error.strerror or error)
        ) from error
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
        if not any(character < " " and character not in "\t\n\r\f\v\b\x1a\x1b" for character in text):
            return text
    return None

"""Reading the TOML files that people write (the settings, and themes), and changing some of their keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from glmtui.protocol.phrases import _
from glmtui.regular_files import RefusedFileError, read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

MOST_BYTES = 4 << 20
"""A hundred thousand lines; the reader takes seconds for them."""
MOST_AT_ONCE = 256 << 10
"""Characters of a file that is taken apart as a whole to change a key, which takes a while."""
_TEXT = r"""
    \"{3} (?: [^\\] | \\. )*? \"{3} | '{3} .*? '{3} | " (?: [^"\\\n] | \\. )* " | ' [^'\n]* ' | \# [^\n]*
"""
"""Text and comments, in which nothing else is what it looks like."""
_LONG_NUMBER = re.compile(
    rf"""
    {_TEXT} | (?<! [\w.] ) (?<! [eE][+-] ) (?P<number> \d [\d_]{{300,}} ) (?! [\w.-] )
    """,
    re.VERBOSE | re.DOTALL,
)
"""Whole numbers for which Python's reader gives up the file; as infinite they are refused by themselves."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return what is in the file `path`, which may begin with a byte order mark.

    Raises:
        OSError: it cannot be read, is no regular file, or larger than `MOST_BYTES`.
        ValueError: it is not TOML, or nested beyond all measure.
    """
    text = read_regular(path, MOST_BYTES).decode("utf-8-sig")
    try:
        return _loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _loads(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python turns no such number into one
        return tomllib.loads(_LONG_NUMBER.sub(_infinite, text))


def _infinite(match: re.Match[str]) -> str:
    return "inf" if match["number"] else match[0]


# --- changing ---

Change: TypeAlias = Callable[["TOMLDocument"], object]
"""Changes one table of a document."""
_MARKS = re.compile(
    rf"""
    ^ [ \t]* (?P<header> \[{{1,2}} ) [ \t]*
        (?P<quote> ["']? ) (?P<name> [\w-]+ ) (?P=quote) [ \t]* (?= [\].] )
    | {_TEXT} | (?P<open> [\[{{] ) | (?P<close> [\]}}] )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def change_toml(text: str, table: str, change: Change) -> str:
    """Return the TOML `text` after `change` was made to its top-level `table`; all else is as it was.

    Raises:
        ValueError, TypeError: it is no TOML, or the change does not go together with what is there.
        RefusedFileError: it is large, and the table stands in several places or under several names.
    """
    import tomlkit  # slow to import, and most runs never save

    if len(text) <= MOST_AT_ONCE:
        document = tomlkit.parse(text)
        change(document)
        return tomlkit.dumps(document)
    start, end = _extent(text, table)
    before, part = _loads(text), _loads(text[start:end])
    if repr(part.get(table)) != repr(before.get(table)):
        raise RefusedFileError(
            _("it is too large for a change of [{table}], which is not written in one way").format(
                table=table
            )
        )
    document = tomlkit.parse(text[start:end])
    change(document)
    begin = text[:start] if start == 0 or text[start - 1] == "\n" else text[:start] + "\n"
    changed = begin + tomlkit.dumps(document) + text[end:]
    _loads(changed)  # raises where the rest does not go together with it
    return changed


def _extent(text: str, table: str) -> tuple[int, int]:
    """Return where the headers of `table` and what is below them begin and end; else the end of `text`."""
    depth, start, end = 0, -1, len(text)
    for mark in _MARKS.finditer(text):
        if mark["header"] and depth == 0:
            if mark["name"] == table:
                start, end = (mark.start() if start < 0 else start), len(text)
            elif start >= 0 and end == len(text):
                end = mark.start()
        depth += len(mark["header"] or mark["open"] or "") - len(mark["close"] or "")
    return (start, end) if start >= 0 else (len(text), len(text))

"""Reading the TOML files that people write: the settings, and themes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from glmtui.regular_files import read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_BYTES = 4 << 20
"""A hundred thousand lines; the reader takes seconds for them."""
_LONG_NUMBER = re.compile(
    r"""
      \"{3} (?: [^\\] | \\. )*? \"{3} | '{3} .*? '{3}  # text and comments, in which a number is none
    | " (?: [^"\\\n] | \\. )* " | ' [^'\n]* ' | \# [^\n]*
    | (?<! [\w.] ) (?<! [eE][+-] ) (?P<number> \d [\d_]{300,} ) (?! [\w.-] )
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

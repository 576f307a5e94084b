"""Reading the TOML files that people write: the settings, and themes."""

from __future__ import annotations

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


def read_toml(path: Path) -> dict[str, Any]:
    """Return what is in the file `path`, which may begin with a byte order mark.

    Raises:
        OSError: it cannot be read, is no regular file, or larger than `MOST_BYTES`.
        ValueError: it is not TOML, or nested beyond all measure.
    """
    try:
        return tomllib.loads(read_regular(path, MOST_BYTES).decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error

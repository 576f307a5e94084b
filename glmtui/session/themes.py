"""Which colour themes there are, for where none is drawn; `glmtui.tui.themes` reads what is in them."""

from __future__ import annotations

import sys
from contextlib import suppress

from glmtui import paths

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def titles() -> dict[str, str]:
    """Return the titles of the themes (of the shipped ones as English msgids) by their names.

    A file that cannot be read is left out: the full screen says what is wrong with it.
    """
    found: dict[str, str] = {}
    for folder in (paths.themes_dir(), paths.user_themes_dir()):
        for path in sorted(folder.glob("*.toml")):
            with suppress(OSError, ValueError):
                data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
                name = str(data.get("name", path.stem))
                found[name] = str(data.get("title", name))
    return found

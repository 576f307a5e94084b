"""Which colour themes there are, for where none is drawn; `glmtui.tui.themes` reads what is in them."""

from __future__ import annotations

from contextlib import suppress

from glmtui import paths
from glmtui.settings.toml_files import read_toml


def titles() -> dict[str, str]:
    """Return the titles of the themes (of the shipped ones as English msgids) by their names.

    A file that cannot be read is left out: the full screen says what is wrong with it.
    """
    found: dict[str, str] = {}
    for folder in (paths.themes_dir(), paths.user_themes_dir()):
        for path in sorted(folder.glob("*.toml")):
            with suppress(OSError, ValueError):
                data = read_toml(path)
                name = str(data.get("name", path.stem))
                found[name] = str(data.get("title", name))
    return found

"""``@`` and the name of a file in a message: finding files while the name is typed."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from glmtui import paths
from glmtui.errors import UserError
from glmtui.session.slash.completers import is_folder
from glmtui.text.units import size

MOST = 50
"""Files offered at once."""
LOOKED_AT = 20_000
"""Files that are looked at in all folders below."""
KNOWN_SECONDS = 5.0
_MENTION = re.compile(r"(?<![A-Za-z0-9_.@])@([^\s@][^@\n]*|)\Z")


class Found(NamedTuple):
    """A file that may be meant."""

    path: str
    size: str


def typed(before: str) -> str | None:
    """Return what was typed behind the ``@`` that the cursor is in; None if it is in none."""
    match = _MENTION.search(before)
    return match[1] if match else None


class FileFinder:
    """Finds files below a folder; what is there is looked at again after a few seconds.

    Several threads may ask at once: one looks, the others wait for what it finds.

    Args:
        root: by default where the program was started.
    """

    def __init__(self, root: Path = Path()) -> None:
        self._root = root
        self._known: list[str] = []
        self._until = 0.0
        self._walking = Lock()

    def find(self, query: str) -> list[Found]:
        """Return the files whose path has the letters of `query` in this order, the likeliest first.

        With ``/``, ``~``, ``./`` or ``..`` at its beginning it is the path of a folder and the beginning of a
        name; else all folders below are looked through, but for hidden and made ones.
        """
        paths = _in_folder(query) if query.startswith(("/", "~", "./", "..")) else self._below()
        scored = [(score, path) for path in paths if (score := score_of(query, path)) is not None]
        scored.sort(key=lambda pair: (pair[0], len(pair[1]), pair[1]))
        return [Found(path, _size(path)) for _rank, path in scored[:MOST]]

    def _below(self) -> list[str]:
        with self._walking:
            if time.monotonic() > self._until:
                self._known = list(_walk(self._root))
                self._until = time.monotonic() + KNOWN_SECONDS
            return self._known


def score_of(query: str, path: str) -> int | None:
    """Return how far `path` is from what was typed; None if it is something else. Spaces must stand so."""
    query, path = query.lower(), path.lower()
    name = path.rpartition("/")[2]
    for rank, found in enumerate(
        (path == query, name == query, name.startswith(query), query in name, query in path)
    ):
        if found:
            return rank
    if " " in query:
        return None
    rest = iter(path)
    return 5 if all(character in rest for character in query) else None


def _in_folder(query: str) -> Iterator[str]:
    head, slash, _name = query.rpartition("/")
    shown = head + slash
    try:
        with os.scandir(paths.typed(shown or query)) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    yield f"{shown}{entry.name}" + ("/" if is_folder(entry) else "")
    except (OSError, UserError):
        return


def _walk(root: Path) -> Iterator[str]:
    for path in islice(paths.files_below(root), LOOKED_AT):
        yield os.path.normpath(path).replace(os.sep, "/")


def _size(path: str) -> str:
    try:
        return "" if path.endswith("/") else size(paths.typed(path).stat().st_size)
    except (OSError, UserError):
        return ""

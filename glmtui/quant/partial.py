"""Folders in which something is made before it is renamed to what it is: none that exists is ever half."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from glmtui.locking import is_locked, locked_folder

PREFIX = "partial"
"""What their names begin with."""
_LONGEST = 200
"""Bytes of a target's name in that of its folder: no name has more than 255."""


@contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """Give a new folder of this process next to where `target` will be; what is left of it in the end goes.

    Raises:
        OSError: it cannot be made.
    """
    folder = target.with_name(f"{PREFIX}-{os.getpid()}-{_cut(target.name)}")
    folder.mkdir(mode=0o700, parents=True)
    try:
        with locked_folder(folder):  # so that `remove_leftovers` sees that somebody is at it
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove from `folder` what programs that are no more left half made of `name`, or of anything.

    One of the same number as this process may be another's: in a container programs often have the same.
    """
    for path in folder.glob(f"{PREFIX}-*"):
        found = re.fullmatch(rf"{PREFIX}-(\d{{1,9}})-(.+)", path.name, re.DOTALL)
        if found and _cut(name) in ("", found[2]):
            number = int(found[1])
            if (number == os.getpid() or not psutil.pid_exists(number)) and not is_locked(path):
                shutil.rmtree(path, ignore_errors=True)


def _cut(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:_LONGEST])


def sync_file(file: Path) -> None:
    """Bring `file` to the disk. Raises OSError where that fails."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())

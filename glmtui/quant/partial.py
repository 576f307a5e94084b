"""Folders in which something is made before it is renamed to what it is: none that exists is ever half."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PREFIX = "partial"
"""What their names begin with."""


@contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """Give a new folder of this process next to where `target` will be; what is left of it in the end goes.

    Raises:
        OSError: it cannot be made.
    """
    folder = target.with_name(f"{PREFIX}-{os.getpid()}-{target.name}")
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove from `folder` what processes that are no more left half made of `name`, or of anything."""
    for path in folder.glob(f"{PREFIX}-*"):
        found = re.fullmatch(rf"{PREFIX}-(\d+)-(.+)", path.name)
        if found and name in ("", found[2]) and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def sync_file(file: Path) -> None:
    """Bring `file` to the disk. Raises OSError where that fails."""
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())

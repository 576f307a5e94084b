"""What is there after a crash: whole files, with the old content or the new, and the folders they are in."""

import contextlib
import os
import tempfile
import time
from pathlib import Path

from glmtui.locking import try_lock

ABANDONED = 86_400.0
"""Seconds after which a temporary file belongs to nobody, if no program holds it either."""
_BEGIN, _END = ".", ".tmp"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the content of `path` by `data`, durably, creating the folder (owner only) when missing.

    A symbolic link is followed, so that a configuration kept in a dotfiles folder stays there; the
    permissions of an existing file are kept, a new one is readable by its owner only.

    Raises:
        OSError: nothing was replaced, and no temporary file is left behind.
    """
    target = Path(os.path.realpath(path))
    make_directory(target.parent)
    prefix = f"{_BEGIN}{target.name[:40]}."
    descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=_END, dir=target.parent)
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:
            try_lock(descriptor)  # so that `remove_abandoned` sees that somebody is at it
            file.seek(0)  # the lock may be far behind the end
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def make_directory(directory: Path) -> None:
    """Create `directory`, and what is missing above it, for its owner only: also after a power loss.

    Raises:
        OSError: it is not there.
    """
    missing = [each for each in (directory, *directory.parents) if not os.path.exists(each)]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)  # another process may do the same
        sync_directory(each.parent)
    directory.mkdir(exist_ok=True)  # something else may be in its place


def remove_abandoned(folder: Path, *, older_than: float = ABANDONED) -> int:
    """Remove what programs that were killed while they wrote left in `folder`; return how many files.

    Those younger than so many seconds stay, and those that a program has open, however old a clock that was
    set says they are. What cannot be looked at or removed stays, too.
    """
    count = 0
    limit = time.time() - older_than
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_BEGIN) and entry.name.endswith(_END):
                with contextlib.suppress(OSError):
                    if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime <= limit:
                        count += _remove_unheld(entry.path)
    return count


def _remove_unheld(path: str) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        unheld = try_lock(descriptor) is not False
        if unheld:
            os.unlink(path)
    finally:
        os.close(descriptor)
    return unheld


def sync_directory(directory: Path) -> None:
    """Make a creation or renaming inside `directory` survive a power loss, where the platform can."""
    if os.name == "nt":
        return  # a directory cannot be opened there; NTFS journals its entries
    with contextlib.suppress(OSError):  # some file systems refuse; the content itself is already safe
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

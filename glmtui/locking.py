"""Advisory locks on open files, so that two processes do not write into each other's lines."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PATIENCE = 2.0
"""Seconds to wait for a lock that another process holds; appends take milliseconds, so it hangs."""


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold the lock of the file open as `descriptor`.

    After `PATIENCE` seconds, or where the file system knows no locks, go on without: saving matters more, and
    a single append of a few kilobytes is not torn by another in practice.
    """
    deadline = time.monotonic() + PATIENCE
    acquired = try_lock(descriptor)
    while acquired is False and time.monotonic() < deadline:
        time.sleep(0.01)
        acquired = try_lock(descriptor)
    try:
        yield
    finally:
        if acquired:
            _unlock(descriptor)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, for whoever replaces a file in it by what it makes of it.

    Where a folder cannot be opened, as on Windows, go on without, as `locked` does.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with locked(descriptor):
            yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether somebody holds the lock of a folder; where folders have none, nobody does."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        return try_lock(descriptor) is False
    finally:
        os.close(descriptor)  # which also lets go of the lock


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder while something goes on in it for long; give False where somebody else does.

    Where there are no locks, or a folder cannot be opened, go on without, as `locked` does.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield True
        return
    acquired = None
    try:
        acquired = try_lock(descriptor)
        yield acquired is not False
    finally:
        if acquired:
            _unlock(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def open_locked(path: Path) -> Iterator[BinaryIO]:
    """Open the file `path` to append to it (made for its owner only where there is none) and hold its lock.

    Whoever holds it may put another file in its place; who waited meanwhile gets that one.
    """
    while True:
        with open(path, "ab", opener=_open_private) as file, locked(file.fileno()):
            if _is_at(path, file.fileno()):
                yield file
                return


def _open_private(path: str, flags: int) -> int:
    return os.open(
        path, flags | getattr(os, "O_NONBLOCK", 0), 0o600
    )  # what is a pipe now keeps nobody waiting


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    _FAR = 0x7FFF_0000
    """The byte that is locked: locks are mandatory there, so it lies beyond what anybody reads."""

    def try_lock(descriptor: int) -> bool | None:
        """Return True: acquired; False: somebody else has it; None: there are no locks here."""
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def try_lock(descriptor: int) -> bool | None:
        """Return True: acquired; False: somebody else has it; None: there are no locks here."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return None
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

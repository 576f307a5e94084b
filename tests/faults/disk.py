"""A disk in front of the real one: it remembers what was synced, and fails when it is told to.

Python's own functions for files are replaced while a `Disk` is in use; outside of its folder it does
nothing. The model is stricter than any journalling file system:

* Of what was written to a file since its last fsync, anything may be there after a cut: nothing, a beginning,
  or any of its pages, the others being zeros.
* Of what was done to a folder since its last fsync (creating, removing, renaming), any may have happened.
  A renaming inside one folder happens or does not; between two folders it is two changes.
"""

from __future__ import annotations

import builtins
import io
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from unittest import mock

PAGE = 512
WRITING = frozenset("wax+")
Change: TypeAlias = dict[str, "Node | None"]
"""New entries of a folder by name; None: the name is gone."""


@dataclass(eq=False)
class FileNode:
    """A file: what is safe, and what was written since."""

    safe: bytes = b""
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    """(offset, data); an offset of -1: the file was emptied."""

    def sync(self) -> None:
        self.safe, self.writes = self.content(self.writes), []

    def content(self, writes: list[tuple[int, bytes]]) -> bytes:
        data = bytearray(self.safe)
        for offset, piece in writes:
            if offset < 0:
                data.clear()
                continue
            data.extend(b"\0" * (offset - len(data)))
            data[offset : offset + len(piece)] = piece
        return bytes(data)

    def after_cut(self, rng: random.Random) -> bytes:
        how = rng.choice(["none", "all", "beginning", "pages"])
        if how == "none" or not self.writes:
            return self.safe
        if how == "all":
            return self.content(self.writes)
        if how == "beginning":
            kept = self.writes[: rng.randrange(len(self.writes)) + 1]
            offset, data = kept[-1]
            return self.content([*kept[:-1], (offset, data[: rng.randrange(len(data) + 1)])])
        whole, old = self.content(self.writes), self.safe
        pages = []
        for start in range(0, len(whole), PAGE):
            source = whole if rng.random() < 0.5 else old
            page = source[start : start + PAGE]
            pages.append(page.ljust(min(PAGE, len(whole) - start), b"\0"))
        return b"".join(pages)


@dataclass(eq=False)
class FolderNode:
    """A folder: the entries that are safe, those that are seen, and the changes in between."""

    safe: dict[str, Node] = field(default_factory=dict)
    seen: dict[str, Node] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def apply(self, change: Change) -> None:
        _apply(self.seen, change)
        self.changes.append(change)

    def sync(self) -> None:
        self.safe, self.changes = dict(self.seen), []

    def after_cut(self, rng: random.Random) -> dict[str, Node]:
        entries = dict(self.safe)
        how = rng.choice(["none", "all", "beginning", "any"])
        upto = rng.randrange(len(self.changes) + 1)
        for number, change in enumerate(self.changes):
            if (
                how == "all"
                or (how == "beginning" and number < upto)
                or (how == "any" and rng.random() < 0.5)
            ):
                _apply(entries, change)
        return entries


Node: TypeAlias = FileNode | FolderNode


def _apply(entries: dict[str, Node], change: Change) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class Disk:
    """What lies under `root`, a folder that is there already and empty."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = FolderNode()
        self.before_each: Callable[[], object] = lambda: None
        """Called before anything is changed or synced."""
        self.error: Callable[[str], int | None] = lambda _operation: None
        """Tells with which errno an operation (``open``, ``write``, ``fsync``, …) fails, if it does."""
        self._files: dict[int, tuple[Node, Path]] = {}
        """What is open, by descriptor."""
        self._real: dict[str, Callable[..., Any]] = {}

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """While this is open, Python's functions for files go through this disk."""
        names = ["open", "write", "fsync", "close", "link", "replace", "rename", "unlink", "remove"]
        names += ["mkdir", "rmdir"]
        self._real = {name: getattr(os, name) for name in names} | {"io": io.open}
        with (
            mock.patch.multiple(os, **{name: getattr(self, name) for name in names}),
            mock.patch.object(io, "open", self._opened),
            mock.patch.object(builtins, "open", self._opened),
        ):
            yield

    # --- in place of the functions of `os` ---

    def open(self, path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        where = self._where(path, **options)
        if where is None:
            return int(self._real["open"](path, flags, mode, **options))
        self._begin("open" if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "read")
        descriptor = int(self._real["open"](path, flags, mode, **options))
        node = self._node(where)
        if node is None:
            node = FileNode()
            self._folder(where).apply({where.name: node})
        elif flags & os.O_TRUNC and isinstance(node, FileNode):
            node.writes.append((-1, b""))
        self._files[descriptor] = (node, where)
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        node, _path = self._files.get(descriptor, (None, None))
        if not isinstance(node, FileNode):
            return int(self._real["write"](descriptor, data))
        try:
            self._begin("write")
        except OSError:  # a disk is full in the middle of a line
            self._written(node, descriptor, bytes(data)[: len(data) // 2])
            raise
        return self._written(node, descriptor, bytes(data))

    def fsync(self, descriptor: int) -> None:
        if descriptor in self._files:
            self._begin("fsync")
            self._files[descriptor][0].sync()
        else:
            self._real["fsync"](descriptor)

    def close(self, descriptor: int) -> None:
        self._files.pop(descriptor, None)
        self._real["close"](descriptor)

    def link(self, source: Any, target: Any, **options: Any) -> None:
        old, new = self._where(source), self._where(target)
        if old is not None and new is not None:
            self._begin("link")
        self._real["link"](source, target, **options)
        if old is not None and new is not None:
            self._folder(new).apply({new.name: self._node(old)})

    def rename(self, source: Any, target: Any) -> None:
        old, new = self._where(source), self._where(target)
        if old is not None and new is not None:
            self._begin("rename")
        self._real["rename"](source, target)
        if old is not None and new is not None:
            node = self._node(old)
            if old.parent == new.parent:
                self._folder(new).apply({old.name: None, new.name: node})
            else:
                self._folder(new).apply({new.name: node})
                self._folder(old).apply({old.name: None})

    replace = rename

    def unlink(self, path: Any, **options: Any) -> None:
        self._removed("unlink", path, options)

    remove = unlink

    def rmdir(self, path: Any, **options: Any) -> None:
        self._removed("rmdir", path, options)

    def mkdir(self, path: Any, mode: int = 0o777, **options: Any) -> None:
        where = self._where(path, **options)
        if where is not None:
            self._begin("mkdir")
        self._real["mkdir"](path, mode, **options)
        if where is not None:
            self._folder(where).apply({where.name: FolderNode()})

    # --- inside ---

    def _opened(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        """Take the place of `open`: what writes must go through `write`."""
        known = file in self._files if isinstance(file, int) else self._where(file) is not None
        if not known or not WRITING & set(mode):
            if known:
                self._begin("read")
            return self._real["io"](file, mode, *arguments, **options)
        if not isinstance(file, int):
            kinds = {"w": os.O_CREAT | os.O_TRUNC, "a": os.O_CREAT | os.O_APPEND, "x": os.O_CREAT | os.O_EXCL}
            file = os.open(file, os.O_RDWR | next((kinds[c] for c in mode if c in kinds), 0), 0o666)
        if "a" in mode:
            os.lseek(file, 0, os.SEEK_END)
        binary = io.BufferedRandom(_Raw(file)) if "+" in mode else io.BufferedWriter(_Raw(file))
        return binary if "b" in mode else io.TextIOWrapper(binary, options.get("encoding"))

    def _begin(self, operation: str) -> None:
        if (number := self.error(operation)) is not None:
            raise OSError(number, os.strerror(number))
        if operation != "read":
            self.before_each()

    def _written(self, node: FileNode, descriptor: int, data: bytes) -> int:
        count = int(self._real["write"](descriptor, data))  # a file opened to append is at its end then
        node.writes.append((os.lseek(descriptor, 0, os.SEEK_CUR) - count, data[:count]))
        return count

    def _removed(self, operation: str, path: Any, options: dict[str, Any]) -> None:
        where = self._where(path, **options)
        if where is not None:
            self._begin(operation)
        self._real[operation](path, **options)
        if where is not None:
            self._folder(where).apply({where.name: None})

    def _where(self, path: Any, dir_fd: int | None = None, **_options: Any) -> Path | None:
        """Return the path below `root`, or None for one that lies elsewhere."""
        if dir_fd is not None:
            if dir_fd not in self._files:
                return None
            path = self.root / self._files[dir_fd][1] / os.fsdecode(path)
        try:
            return Path(os.path.abspath(os.fsdecode(path))).relative_to(self.root)
        except ValueError:
            return None

    def _node(self, where: Path) -> Node | None:
        node: Node | None = self.tree
        for name in where.parts:
            node = node.seen.get(name) if isinstance(node, FolderNode) else None
        return node

    def _folder(self, where: Path) -> FolderNode:
        node = self._node(where.parent)
        assert isinstance(node, FolderNode), where
        return node


class _Raw(io.RawIOBase):
    """A file whose bytes go through `os.write`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        return os.write(self._descriptor, data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


def write_after_cut(tree: FolderNode, root: Path, rng: random.Random) -> None:
    """Let the folder `root` hold what is there after the power went."""
    shutil.rmtree(root, ignore_errors=True)
    _write_folder(tree, root, rng)


def _write_folder(folder: FolderNode, path: Path, rng: random.Random) -> None:
    path.mkdir(mode=0o700)
    for name, node in folder.after_cut(rng).items():
        if isinstance(node, FolderNode):
            _write_folder(node, path / name, rng)
        else:
            (path / name).write_bytes(node.after_cut(rng))

"""What the system is told about memory: only hints, and only on Linux, which takes them."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import weakref
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, UntypedStorage

_HUGE = 2 << 20
_TRIM, _MAP = -1, -3
"""Of glibc's ``mallopt``: from how many bytes at its end a heap is cut, and what is mapped by itself."""
_KEPT, _OWN = 64 << 20, 32 << 20


def keep_what_products_take() -> None:
    """Let glibc keep up to 64 MB of freed memory, and ask the system only for blocks of 32 MB and more.

    Else what each product takes and gives back, some MB, is filled with zeros page by page every time: 7 % of
    the time of a picture.
    """
    if sys.platform != "linux":
        return
    if (choose := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:  # musl has none
        choose(_TRIM, _KEPT)
        choose(_MAP, _OWN)


def empty_bytes(shape: tuple[int, ...]) -> Tensor:
    """Return a uint8 tensor of `shape` on the CPU, not filled, on pages of 2 MB from its first byte on.

    Linux fills these with zeros six times as fast as it does pages of 4 KB, and products read them faster.
    """
    count = math.prod(shape)
    if sys.platform != "linux" or count < _HUGE:
        return torch.empty(shape, dtype=torch.uint8)
    roomy = torch.empty(count + _HUGE, dtype=torch.uint8)  # what is never touched takes no memory
    start = -roomy.data_ptr() % _HUGE
    _advise(roomy.data_ptr() + start, count, mmap.MADV_HUGEPAGE)
    return roomy[start : start + count].view(shape)


class MappedPages:
    """The pages of a mapped file, let go of after use.

    Only where Linux tells what is mapped where: memory of another kind must not be touched.

    Args:
        file: mapped already.
        once: it is not read again soon, so that the system need not keep what was let go of either: memory
            for the rest of the file and what becomes of it.
    """

    def __init__(self, file: Path, *, once: bool = False) -> None:
        self._file = file
        self._once = once
        self._ranges: list[tuple[int, int, int]] = []
        if sys.platform == "linux":
            ending = f" {file.resolve()}"
            maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
            for line in maps.splitlines():
                if line.endswith(ending):
                    addresses, _mode, offset, *_rest = line.split(maxsplit=4)
                    start, _dash, end = addresses.partition("-")
                    self._ranges.append((int(start, 16), int(end, 16), int(offset, 16)))

    def end_of(self, tensor: Tensor) -> int | None:
        """Return where in the file `tensor` ends; None where that is not known."""
        end = tensor.data_ptr() + tensor.nbytes
        return next((end - first + at for first, last, at in self._ranges if first < end <= last), None)

    def let_go_after(self, tensor: Tensor) -> None:
        """Let go of the pages of `tensor` when nobody refers to it any more; they count as ours no more."""
        if self.end_of(tensor) is not None:
            # With the storage the pages stay mapped until then: another mapping's must not be let go of.
            place = (tensor.data_ptr(), tensor.nbytes, tensor.untyped_storage())
            weakref.finalize(tensor, self._let_go, *place).atexit = False

    def _let_go(self, address: int, count: int, _mapped: UntypedStorage) -> None:
        start = address // mmap.PAGESIZE * mmap.PAGESIZE
        for first, last, at in self._ranges:
            if first <= start and address + count <= last:
                _advise(start, address + count - start, mmap.MADV_DONTNEED)
                if self._once:
                    self._forget(start - first + at, address + count - start)

    def _forget(self, start: int, count: int) -> None:
        """Only whole pages: what others use of the first and the last stays."""
        with suppress(OSError), self._file.open("rb") as stream:  # it may have been deleted meanwhile
            os.posix_fadvise(stream.fileno(), start, count, os.POSIX_FADV_DONTNEED)


def _advise(start: int, count: int, advice: int) -> None:
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(count), ctypes.c_int(advice))

"""What the system is told about memory: only hints, and only on Linux, which takes them."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_HUGE = 2 << 20


def use_huge_pages(tensor: Tensor) -> None:
    """Let a `tensor` on the CPU that was never touched have pages of 2 MB, which are faster."""
    if sys.platform == "linux" and tensor.device.type == "cpu" and tensor.nbytes >= 2 * _HUGE:
        start = -(-tensor.data_ptr() // _HUGE) * _HUGE
        _advise(start, tensor.data_ptr() + tensor.nbytes - start, mmap.MADV_HUGEPAGE)


class MappedPages:
    """The pages of a mapped file, asked for before they are used and let go of afterwards.

    Only where Linux tells what is mapped where: memory of another kind must not be touched.
    """

    def __init__(self, file: Path) -> None:
        self._ranges: list[tuple[int, int]] = []
        if sys.platform == "linux":
            ending = f" {file.resolve()}"
            for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
                if line.endswith(ending):
                    start, _dash, end = line.partition(" ")[0].partition("-")
                    self._ranges.append((int(start, 16), int(end, 16)))

    def fetch(self, tensor: Tensor) -> None:
        """Have all of `tensor` read from the disk at once, not in the small pieces of a first touch."""
        if sys.platform == "linux":
            self._advise(tensor, mmap.MADV_WILLNEED)

    def let_go(self, tensor: Tensor) -> None:
        """Forget the pages of `tensor`; they stay in the system's cache, but count as ours no more."""
        if sys.platform == "linux":
            self._advise(tensor, mmap.MADV_DONTNEED)

    def _advise(self, tensor: Tensor, advice: int) -> None:
        start = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        end = tensor.data_ptr() + tensor.nbytes
        if any(first <= start and end <= last for first, last in self._ranges):
            _advise(start, end - start, advice)


def _advise(start: int, count: int, advice: int) -> None:
    ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(count), ctypes.c_int(advice))

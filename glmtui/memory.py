"""What the system is told about memory: only hints, and only on Linux, which takes them."""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from pathlib import Path

import torch
from torch import Tensor

_HUGE = 2 << 20


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
    """

    def __init__(self, file: Path) -> None:
        self._ranges: list[tuple[int, int]] = []
        if sys.platform == "linux":
            ending = f" {file.resolve()}"
            for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
                if line.endswith(ending):
                    start, _dash, end = line.partition(" ")[0].partition("-")
                    self._ranges.append((int(start, 16), int(end, 16)))

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

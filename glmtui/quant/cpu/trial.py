"""A first run of freshly compiled kernels, by a process of its own: ``python trial.py LIBRARY``.

A compiler, an assembler or an emulator can be broken so that the first product ends the process. Here that
is the process of nobody. It needs ctypes alone and takes some hundredths of a second; whether the results
are right is looked at later, next to PyTorch's.
"""

from __future__ import annotations

import ctypes
import sys

ROWS, COLUMNS, TOKENS, BITS = 32, 256, 3, 4
_ROOM = 1 << 17
"""Bytes of every buffer; more than any of them needs."""


class Matrix(ctypes.Structure):
    """``Matrix`` of product.h; see `glmtui.quant.cpu.Matrix`."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("values", "low", "scales", "factors", "row_scales", "bias")),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("bits", ctypes.c_int32),
    )


def main(path: str) -> None:
    """Quantise a small matrix and multiply with it, and run some of the rest."""
    library = ctypes.CDLL(path)
    kept = [ctypes.create_string_buffer(_ROOM + 64) for _buffer in range(6)]
    weight, x, out, values, scales, factors = (
        ctypes.c_void_p((ctypes.addressof(buffer) + 63) // 64 * 64) for buffer in kept
    )
    for place, count in ((weight, ROWS * COLUMNS), (x, TOKENS * COLUMNS)):
        numbers = (ctypes.c_float * count)(*(n % 7 - 3.0 for n in range(count)))
        ctypes.memmove(place, numbers, ctypes.sizeof(numbers))
    rows, columns = ctypes.c_int64(ROWS), ctypes.c_int64(COLUMNS)
    for threads in (1, 2):
        library.glmtui_quantize(weight, 0, rows, columns, BITS, values, None, scales, factors, threads)
        matrix = Matrix(values.value, None, scales.value, factors.value, None, None, ROWS, COLUMNS, BITS)
        for tokens in (1, TOKENS):
            library.glmtui_multiply(ctypes.byref(matrix), x, ctypes.c_int64(tokens), out, threads)
        few = (x, ctypes.c_int64(TOKENS), out, threads)
        library.glmtui_multiply_halves(weight, 0, rows, columns, *few)
        library.glmtui_multiply_many_halves(weight, 0, rows, columns, *few)
        library.glmtui_gelu(x, ctypes.c_int64(COLUMNS), threads)
        library.glmtui_swiglu(x, ctypes.c_int64(1), ctypes.c_int64(COLUMNS), out, threads)
    if library.glmtui_has_crc32():
        library.glmtui_crc32(0, weight, ctypes.c_int64(_ROOM))


if __name__ == "__main__":
    main(sys.argv[1])

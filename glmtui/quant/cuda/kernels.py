"""Triton programs that unpack `glmtui.quant.formats.Packed` on the GPU, as it lies: no second layout.

A block of 16 rows and a group of 128 columns are ``4 * bits`` chunks of 64 bytes, and a chunk is a word of 32
bits for each row. A word holds ``32 / bits`` neighbouring columns: byte ``j`` is column ``j`` (INT8, signed),
or columns ``j`` and ``4 + j`` in its low and high nibble (INT4, plus 8). So the threads of a warp read
neighbouring words, and every word is read once.

Imported only where Triton is (CUDA builds of PyTorch bring it along on Linux). With ``TRITON_INTERPRET=1``
it runs on the CPU, for tests.
"""

import triton
import triton.language as tl

from glmtui.quant import formats

BLOCK = tl.constexpr(formats.BLOCK)
GROUP = tl.constexpr(formats.GROUP)
SUB = tl.constexpr(formats.SUB)
TILE = 128
"""Chunks that `multiply` works on at once: 8 KB of weights for each row block."""
WIDTH = 256
"""Columns that `unpack` works on at once."""


@triton.jit
def scale_of(scales, factors, base, chunk, row, there, BITS: tl.constexpr):
    """Return float32 ``[chunks, 16]``: what the integers of each chunk and row are multiplied by."""
    CHUNKS: tl.constexpr = 4 * BITS
    group = base + chunk // CHUNKS
    scale = tl.load(scales + group[:, None] * BLOCK + row[None, :], mask=there[:, None], other=0.0)
    scale = scale.to(tl.float32)
    if BITS == 4:
        sub = chunk % CHUNKS * (32 // BITS) // SUB  # of the group: 0 to 3
        where = (group * 2 + sub // 2)[:, None] * BLOCK + row[None, :]
        pair = tl.load(factors + where, mask=there[:, None], other=0).to(tl.int32)
        scale *= ((pair >> (sub % 2 * 4)[:, None]) & 15).to(tl.float32)
    return scale


@triton.jit
def multiply(
    x,
    values,
    scales,
    factors,
    row_scales,
    bias,
    out,
    rows,
    columns,
    groups,
    BITS: tl.constexpr,
    PER_ROW: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Write ``out[token, 16 rows of this block]``, the product with ``x[token]``; sums are float32."""
    CHUNKS: tl.constexpr = 4 * BITS
    STEP: tl.constexpr = 32 // BITS
    block = tl.program_id(0)
    token = tl.program_id(1)
    row = tl.arange(0, BLOCK)
    base = block.to(tl.int64) * groups
    x += token.to(tl.int64) * columns
    total = tl.zeros((TILE, BLOCK), dtype=tl.float32)
    for start in range(0, groups * CHUNKS, TILE):
        chunk = start + tl.arange(0, TILE)
        there = chunk < groups * CHUNKS
        where = (base * CHUNKS + chunk)[:, None] * BLOCK + row[None, :]
        word = tl.load(values + where, mask=there[:, None], other=0)
        part = tl.zeros((TILE, BLOCK), dtype=tl.float32)
        for j in tl.static_range(4):
            column = chunk * STEP + j
            left = tl.load(x + column, mask=column < columns, other=0.0).to(tl.float32)
            if BITS == 8:
                q = (word << (24 - 8 * j)) >> 24
                part += q.to(tl.float32) * left[:, None]
            else:
                right = tl.load(x + column + 4, mask=column + 4 < columns, other=0.0).to(tl.float32)
                low = ((word >> (8 * j)) & 15) - 8
                high = ((word >> (8 * j + 4)) & 15) - 8
                part += low.to(tl.float32) * left[:, None] + high.to(tl.float32) * right[:, None]
        if not PER_ROW:
            part *= scale_of(scales, factors, base, chunk, row, there, BITS)
        total += part
    result = tl.sum(total, axis=0)
    row += block * BLOCK
    if PER_ROW:
        result *= tl.load(row_scales + row)
    if HAS_BIAS:
        result += tl.load(bias + row, mask=row < rows, other=0.0).to(tl.float32)
    tl.store(out + token.to(tl.int64) * rows + row, result.to(out.dtype.element_ty), mask=row < rows)


@triton.jit
def unpack(
    values,
    scales,
    factors,
    row_scales,
    out,
    first,
    rows,
    columns,
    groups,
    BITS: tl.constexpr,
    PER_ROW: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Write the weights of a block, counted from block `first`, and `WIDTH` columns to `out`.

    Each weight is found on its own, so that neighbouring threads write neighbouring columns.
    """
    CHUNKS: tl.constexpr = 4 * BITS
    STEP: tl.constexpr = 32 // BITS
    block = first + tl.program_id(0)
    row = tl.arange(0, BLOCK)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    there = column < columns
    base = block.to(tl.int64) * groups
    chunk = column // STEP
    where = (base * CHUNKS + chunk)[:, None] * BLOCK + row[None, :]
    word = tl.load(values + where, mask=there[:, None], other=0)
    place = column % STEP
    if BITS == 8:
        q = (word << (24 - 8 * place)[:, None]) >> 24
    else:
        q = ((word >> (place % 4 * 8 + place // 4 * 4)[:, None]) & 15) - 8
    weight = q.to(tl.float32)
    if PER_ROW:
        weight *= tl.load(row_scales + block * BLOCK + row)[None, :]
    else:
        weight *= scale_of(scales, factors, base, chunk, row, there, BITS)
    target = tl.program_id(0) * BLOCK + row
    offset = target.to(tl.int64)[None, :] * columns + column[:, None]
    inside = there[:, None] & ((block * BLOCK + row) < rows)[None, :]
    tl.store(out + offset, weight.to(out.dtype.element_ty), mask=inside)

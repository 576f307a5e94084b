"""How quantised weights are stored: the published ChatGLM formats, and the layout that the kernels stream.

**Published** (int8 and int4 checkpoints of ChatGLM-6B and ChatGLM2-6B, as their ``quantization.py`` writes
them): every output row has one scale, ``max|w| / (2^(bits-1) - 1)``, and weights are ``round(w / scale)``.
INT8 is stored as int8 ``[rows, columns]``; INT4 as int8 ``[rows, columns / 2]`` with the even column in the
high nibble.

**Packed** (`Packed`): what runs. Rows are interleaved in blocks of 16 and columns grouped by 128, so that one
vector instruction works on many rows and memory is read from front to back. Published weights are only put in
another order. Weights quantised here get finer scales:

========  ==============================================  ===========================  ================
bits      weight                                          scales                       bits per weight
========  ==============================================  ===========================  ================
8         ``scale * q``, q in -127..127                   fp16 per 128 columns         8.125
4         ``scale * factor * (q - 8)``, q in 0..15        fp16 per 128 columns and a   4.25
                                                          factor 0..15 per 32 columns
========  ==============================================  ===========================  ================

``factor * (q - 8)`` fits a signed byte, so prompts run through the same byte products in both.

The output layer's INT8 lies **in two planes**: the high nibbles of all bytes, and the low ones, each in the
order of INT4. The high ones tell which tokens may be likely, and only for these the low ones are read: half
of the bytes for the logits of INT8 wherever it matters (`glmtui.quant.linear.QuantizedLinear`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from glmtui.memory import empty_bytes

Bits = Literal[4, 8]

BLOCK = 16
"""Rows that lie interleaved."""
GROUP = 128
"""Columns that share a scale."""
SUB = 32
"""Columns that share a factor of that scale (INT4)."""
MAX_FACTOR = 15
_PIECE = 1 << 22
"""Weights that PyTorch converts at a time, so that no complete matrix is ever there in float32."""
_LARGE_PIECE = 1 << 25
"""Weights that the kernels convert at a time: their threads wait for each other at the end of each."""

Done = Callable[[int], None]
"""Called with the bytes of a checkpoint that were used since the last call; raises to cancel."""


# --- the published formats ---


def quantize_published(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Quantise `weight` ``[rows, columns]`` as the published code does.

    Returns the stored int8 tensor and the float32 scales ``[rows]``. A row of zeros gets scale 0.
    """
    weight = weight.float()
    scale = weight.abs().amax(1) / (2 ** (bits - 1) - 1)
    q = (weight / torch.where(scale > 0, scale, 1)[:, None]).round().to(torch.int8)
    return (q if bits == 8 else pack_nibbles(q)), scale


def pack_nibbles(q: Tensor) -> Tensor:
    """Pack int8 `q` ``[rows, columns]`` of -8..7 into ``[rows, columns / 2]``, even columns high."""
    return (q[:, 0::2] << 4) | (q[:, 1::2] & 15)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """Return int8 ``[rows, columns]`` of -8..7 from `packed` int8 ``[rows, columns / 2]``."""
    return torch.stack((packed >> 4, (packed << 4) >> 4), dim=-1).flatten(1)


# --- the packed layout ---


@dataclass(frozen=True)
class Packed:
    """A quantised matrix ``[rows, columns]``, padded to whole blocks and groups with zeros.

    Scales are per group (fp16, quantised here) or per row (float32, published), never both.
    """

    bits: Bits
    rows: int
    columns: int
    values: Tensor
    """uint8 ``[blocks, groups, 256 * bits]``: chunks of 64 bytes, each 4 columns of 16 rows (INT8, signed) or
    4 columns in the low and the next 4 in the high nibbles (INT4, plus 8)."""
    low: Tensor | None = None
    """uint8 ``[blocks, groups, 1024]``: the low nibbles of INT8 in two planes, in the order of INT4. `values`
    has the same shape then, and holds the high ones, plus 8."""
    scales: Tensor | None = None
    """float16 ``[blocks, groups, 16]``."""
    factors: Tensor | None = None
    """uint8 ``[blocks, groups, 2, 16]``: of each row those of sub-groups 0 and 2 in the low, 1 and 3 in the
    high nibbles."""
    row_scales: Tensor | None = None
    """float32 ``[blocks, 16]``."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are there, by name."""
        named = {name: getattr(self, name) for name in TENSORS}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: torch.device | str) -> Packed:
        """Return the same matrix on `device`. Planes are joined where they are of no use: not on the CPU."""
        tensors = self.tensors()
        if torch.device(device).type != "cpu" and "low" in tensors:
            tensors["values"] = join_planes(tensors["values"], tensors.pop("low"))
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        return Packed(self.bits, self.rows, self.columns, **moved)

    def integers(self, first: int = 0, last: int | None = None) -> Tensor:
        """Return blocks `first` to `last` in units of their scale, int8 ``[rows, columns]`` with padding."""
        values = self.values[first:last]
        blocks, groups = values.shape[:2]
        if self.bits == 8:
            if self.low is not None:
                values = join_planes(values, self.low[first:last])
            steps = values.view(torch.int8).view(blocks, groups, GROUP // 4, BLOCK, 4)
            return steps.permute(0, 3, 1, 2, 4).reshape(blocks * BLOCK, groups * GROUP)
        pairs = values.view(blocks, groups, GROUP // 8, BLOCK, 4)
        steps = torch.stack((pairs & 15, pairs >> 4), dim=3).view(torch.int8) - 8
        q = steps.permute(0, 4, 1, 2, 3, 5).reshape(blocks * BLOCK, groups, GROUP // SUB, SUB)
        if self.factors is not None:
            pair = self.factors[first:last]
            factor = torch.stack((pair & 15, pair >> 4), dim=3).view(torch.int8)  # [blocks, groups, 2, 2, 16]
            q = q * factor.flatten(2, 3).permute(0, 3, 1, 2).reshape(blocks * BLOCK, groups, -1, 1)
        return q.view(blocks * BLOCK, groups * GROUP)

    def dequantize(
        self, first: int = 0, last: int | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Return the weights of blocks `first` to `last` as `dtype` ``[rows, columns]``, without padding."""
        q = self.integers(first, last)
        if self.scales is not None:
            scale = self.scales[first:last].float().transpose(1, 2).reshape(q.shape[0], -1, 1)
            weight = (q.view(q.shape[0], -1, GROUP) * scale).view(q.shape)
        else:
            assert self.row_scales is not None
            weight = q * self.row_scales[first:last].reshape(-1, 1)
        count = min(self.rows - first * BLOCK, q.shape[0])
        return weight[:count, : self.columns].to(dtype)


TENSORS = ("values", "low", "scales", "factors", "row_scales")
Layout = dict[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of tensors, by name."""


def layout(bits: Bits, rows: int, columns: int, *, per_row: bool = False, planes: bool = False) -> Layout:
    """Return what the tensors of a `Packed` look like.

    Args:
        bits: of a weight.
        rows: of the matrix.
        columns: the same.
        per_row: its scales are the published ones.
        planes: of INT8, whether it lies in two planes.
    """
    blocks, groups = -(-rows // BLOCK), -(-columns // GROUP)
    tensors: Layout = {"values": (torch.uint8, (blocks, groups, 1024 if planes else 256 * bits))}
    if planes:
        tensors["low"] = tensors["values"]
    if per_row:
        return tensors | {"row_scales": (torch.float32, (blocks, BLOCK))}
    tensors["scales"] = (torch.float16, (blocks, groups, BLOCK))
    if bits == 4:
        tensors["factors"] = (torch.uint8, (blocks, groups, GROUP // SUB // 2, BLOCK))
    return tensors


def quantize(weight: Tensor, bits: Bits, *, planes: bool = False, done: Done | None = None) -> Packed:
    """Quantise `weight` ``[rows, columns]`` of any floating type with scales per group. Zeros stay zeros.

    `planes` puts INT8 in two planes; `done` is told how it goes on.

    Raises:
        ValueError: a weight is not finite.
    """
    packed = empty(bits, *weight.shape, planes=planes)
    kernels = _kernels(weight)
    for part, target in _pieces(weight, packed, _LARGE_PIECE if kernels else _PIECE):
        finite = kernels.quantize(part.contiguous(), target) if kernels else _quantize(part, target)
        if not finite:
            raise ValueError("the weights are not finite")
        if done is not None:
            done(part.nbytes)
    return packed


def pack_published(weight: Tensor, scale: Tensor, columns: int, done: Done | None = None) -> Packed:
    """Order a published `weight`, int8 ``[rows, columns]`` or ``[rows, columns / 2]``, and its `scale`.

    `done` is told how it goes on.

    Raises:
        ValueError: the shapes fit neither format.
    """
    rows = weight.shape[0]
    bits: Bits = 8 if weight.shape[1] == columns else 4
    if weight.shape[1] * (8 // bits) != columns or scale.shape != (rows,):
        raise ValueError(
            f"{tuple(weight.shape)} with scales {tuple(scale.shape)} is no matrix of {columns} columns"
        )
    packed = empty(bits, rows, columns, per_row=True)
    assert packed.row_scales is not None
    packed.row_scales.copy_(_pad(scale.float()[:, None], BLOCK, 1).view(-1, BLOCK))
    kernels = _kernels(weight)
    for part, target in _pieces(weight, packed, _LARGE_PIECE if kernels else _PIECE):
        if kernels:
            kernels.reorder(part.contiguous(), target)
        else:
            q = _pad(unpack_nibbles(part) if bits == 4 else part, BLOCK, GROUP)
            target.values.copy_(_interleave(q.view(q.shape[0], -1, GROUP), bits))
        if done is not None:
            done(part.nbytes)
    return packed


class _Packer(Protocol):
    """What packs faster than PyTorch."""

    def quantize(self, weight: Tensor, packed: Packed) -> bool: ...

    def reorder(self, stored: Tensor, packed: Packed) -> None: ...


def _kernels(weight: Tensor) -> _Packer | None:
    from glmtui.quant import cpu  # which reads what is packed here

    return cpu.load() if weight.device.type == "cpu" else None


def empty(bits: Bits, rows: int, columns: int, *, per_row: bool = False, planes: bool = False) -> Packed:
    """Return a matrix for weights ``[rows, columns]`` whose tensors hold nothing yet; see `layout`."""
    described = layout(bits, rows, columns, per_row=per_row, planes=planes)
    tensors = {
        name: empty_bytes(shape) if dtype == torch.uint8 else torch.empty(shape, dtype=dtype)
        for name, (dtype, shape) in described.items()
    }
    return Packed(bits, rows, columns, **tensors)


def _quantize(weight: Tensor, packed: Packed) -> bool:
    """Fill `packed` with `weight` of the same shape; return whether all weights are finite."""
    padded = _pad(weight.float(), BLOCK, GROUP)
    if not padded.isfinite().all():
        return False
    grouped = padded.view(padded.shape[0], -1, GROUP)
    found: tuple[Tensor, ...] = _quantize_8(grouped) if packed.bits == 8 else _quantize_4(grouped)
    if packed.low is not None:
        found = (*split_planes(found[0]), *found[1:])
    for target, tensor in zip(packed.tensors().values(), found, strict=True):
        target.copy_(tensor)
    return True


def split_planes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and the low plane of INT8 `values` ``[blocks, groups, 2048]``, each ``[…, 1024]``."""
    first, second = values.view(*values.shape[:2], -1, 2, BLOCK * 4).unbind(3)
    high = ((first >> 4) | (second & 0xF0)) ^ 0x88
    return high.flatten(2), ((first & 15) | (second << 4)).flatten(2)


def join_planes(high: Tensor, low: Tensor) -> Tensor:
    """Return INT8 values ``[blocks, groups, 2048]`` of their planes."""
    high, low = (plane.view(*plane.shape[:2], -1, BLOCK * 4) for plane in (high ^ 0x88, low))
    return torch.stack(((high << 4) | (low & 15), (high & 0xF0) | (low >> 4)), dim=3).flatten(2)


def _quantize_8(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = _to_half(x.abs().amax(2) / 127)
    q = (x / torch.where(scale > 0, scale, 1)[..., None]).round().clamp(-127, 127).to(torch.int8)
    return _interleave(q, 8), _by_block(scale).half()


def _quantize_4(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Choose each sub-group's factor among the few that may be best, by squared error."""
    rows, groups = x.shape[:2]
    x = x.view(rows, groups, -1, SUB)
    largest = x.abs().amax(3)
    scale = _to_half(largest.amax(2, keepdim=True) / (7 * MAX_FACTOR))
    unit = torch.where(scale > 0, scale, 1)
    whole = (largest / unit / 7).ceil()  # the factor that cuts nothing off
    factor, best = whole, torch.full_like(largest, torch.inf)
    for less in range(4):
        candidate = (whole - less).clamp(0, MAX_FACTOR)
        step = (candidate * unit)[..., None]
        error = (x - _round_4(x, step) * step).square().sum(3)
        factor = torch.where(error < best, candidate, factor)
        best = torch.minimum(error, best)
    q = _round_4(x, (factor * unit)[..., None]).to(torch.int8)
    f = _by_block(factor.to(torch.uint8).flatten(1)).view(rows // BLOCK, groups, 2, 2, BLOCK)
    return (
        _interleave(q.view(rows, groups, GROUP), 4),
        _by_block(scale[..., 0]).half(),
        f[:, :, :, 0] | f[:, :, :, 1] << 4,
    )


def _round_4(x: Tensor, step: Tensor) -> Tensor:
    return (x / torch.where(step > 0, step, 1)).round().clamp(-8, 7)


def _to_half(scale: Tensor) -> Tensor:
    """Round to fp16; a scale too small or too large for it takes the smallest or largest there is."""
    return torch.where(scale > 0, scale.clamp(2.0**-24, 65504.0), 0).half().float()


def _interleave(q: Tensor, bits: Bits) -> Tensor:
    """Order int8 `q` ``[rows, groups, 128]`` as `Packed.values`."""
    rows, groups, _group = q.shape
    steps = q.view(rows // BLOCK, BLOCK, groups, GROUP // 4, 4).permute(0, 2, 3, 1, 4)
    if bits == 8:
        return steps.reshape(rows // BLOCK, groups, -1).view(torch.uint8)
    nibbles = (steps + 8).view(torch.uint8)
    return (nibbles[:, :, 0::2] | nibbles[:, :, 1::2] << 4).reshape(rows // BLOCK, groups, -1)


def _by_block(x: Tensor) -> Tensor:
    """``[rows, n]`` to contiguous ``[blocks, n, 16]``."""
    return x.view(-1, BLOCK, x.shape[1]).transpose(1, 2).contiguous()


def _pad(x: Tensor, rows: int, columns: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, -x.shape[1] % columns, 0, -x.shape[0] % rows)).contiguous()


def _pieces(weight: Tensor, packed: Packed, size: int) -> Iterator[tuple[Tensor, Packed]]:
    """Yield about `size` elements of `weight` at a time, in whole rows, and the part of `packed` for them."""
    blocks = max(size // max(packed.columns, 1) // BLOCK, 1)
    for first in range(0, packed.values.shape[0], blocks):
        part = weight[first * BLOCK : (first + blocks) * BLOCK]
        tensors = {name: tensor[first : first + blocks] for name, tensor in packed.tensors().items()}
        yield part, Packed(packed.bits, len(part), packed.columns, **tensors)

"""Quantised weights on Apple's GPU, in the layouts that PyTorch's own operators take there.

====  ======================================================  =============================================
bits  weight                                                  scales, in the type of the products
====  ======================================================  =============================================
8     int8 ``[rows, columns]``                                ``[rows]``
4     uint8 ``[rows, columns / 2]``, even columns in the high ``[columns / group, rows, 2]``: scale and zero
      nibbles, plus 8; `torch._convert_weight_to_int4pack`    of a group of 32 (own INT4) or 128 (published)
      then swaps the nibbles and hides it in another shape
====  ======================================================  =============================================

The INT4 operator multiplies by ``scale * (q - 8) + zero``; here every zero is 0. Published weights and INT4
become the same numbers (INT4 scales rounded to the type of the products). The INT8 operator knows one scale a
row, so INT8 with scales per group is rounded again, to what the published INT8 files hold. Rows are padded to
32, as the INT8 operator demands, columns to 128.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui.quant.formats import BLOCK, GROUP, SUB, Packed

ROWS = 32
"""The operators work on a multiple of this many rows."""
INNER_TILES = 2
"""Belongs to the layout on CUDA; on MPS it only shapes the tensor."""
FEW = 8
"""Tokens up to which the INT4 operator, which reads the weights for every token, beats unpacking first."""
_PIECE = 1 << 24
"""Weights that are unpacked at a time."""


class MpsWeight(nn.Module):
    """A quantised matrix ``[rows, columns]`` as a module, for layers that may share it."""

    values: Tensor
    scales: Tensor

    def __init__(
        self, bits: int, rows: int, columns: int, values: Tensor, scales: Tensor, group: int
    ) -> None:
        super().__init__()
        self.bits, self.rows, self.columns, self.group = bits, rows, columns, group
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)

    @classmethod
    def of(cls, packed: Packed, dtype: torch.dtype) -> MpsWeight:
        """Reorder `packed` for products in `dtype`, on the CPU, whose memory it is anyway."""
        device = packed.values.device
        packed = packed.to("cpu")
        if packed.bits == 8:
            values, scales = _int8(packed)
            group = packed.values.shape[1] * GROUP
            return cls(8, packed.rows, packed.columns, values.to(device), scales.to(device, dtype), group)
        pairs, scales, group = _int4(packed)
        values = torch._convert_weight_to_int4pack(pairs.to(device), INNER_TILES)
        return cls(4, packed.rows, packed.columns, values, scales.to(device, dtype), group)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``x @ weight.T + bias`` ``[tokens, rows]``, in the type of `x` ``[tokens, columns]``."""
        x = F.pad(x, (0, -x.shape[1] % GROUP)).contiguous()
        scales = self.scales.to(x.dtype)
        if self.bits == 8:
            out = torch._weight_int8pack_mm(x, self.values, scales)
        elif x.shape[0] <= FEW:
            out = torch._weight_int4pack_mm(x, self.values, self.group, scales)
        else:
            out = torch.cat([F.linear(x, weight) for weight in self._pieces(x.dtype)], dim=1)
        out = out[:, : self.rows]
        return out if bias is None else out + bias.to(out.dtype)

    def gather(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the rows `ids` ``[n]`` as ``[n, columns]``; for INT8, which all embeddings are."""
        assert self.bits == 8
        rows = self.values[ids].to(dtype) * self.scales[ids].to(dtype)[:, None]
        return rows[:, : self.columns]

    def unpacked(self, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yield the weights as `dtype` ``[rows, columns]``, a few rows at a time."""
        first = 0
        for piece in self._pieces(dtype):
            yield piece[: self.rows - first, : self.columns]
            first += len(piece)

    def _pieces(self, dtype: torch.dtype) -> Iterator[Tensor]:
        columns = -(-self.columns // GROUP) * GROUP
        step = max(_PIECE // columns // ROWS, 1) * ROWS
        for first in range(0, self.rows, step):
            yield self._unpack(first, first + step, dtype)

    def _unpack(self, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Return rows `first` to `last` with the padding of their columns.

        INT4: the operator's own bytes are what went in with the nibbles of each byte swapped.
        """
        if self.bits == 8:
            return self.values[first:last].to(dtype) * self.scales[first:last].to(dtype)[:, None]
        pairs = self.values.view(torch.uint8).view(self.values.shape[0] * 8, -1)[first:last]
        q = torch.stack((pairs & 15, pairs >> 4), dim=2).view(len(pairs), -1, self.group)
        scales = self.scales[:, first:last, 0].to(dtype).t()
        return ((q.to(dtype) - 8) * scales[:, :, None]).view(len(pairs), -1)


def _int8(packed: Packed) -> tuple[Tensor, Tensor]:
    """Return int8 ``[rows, columns]`` with padding, and float32 scales ``[rows]``."""
    if packed.row_scales is not None:
        return _pad_rows(packed.integers()), _pad_rows(packed.row_scales.flatten())
    blocks, groups = packed.values.shape[:2]
    values = torch.empty(blocks * BLOCK, groups * GROUP, dtype=torch.int8)
    scales = torch.empty(blocks * BLOCK)
    padded = replace(packed, rows=blocks * BLOCK, columns=groups * GROUP)
    step = max(_PIECE // padded.columns // BLOCK, 1)
    for first in range(0, blocks, step):
        weight = padded.dequantize(first, first + step)
        scale = weight.abs().amax(1) / 127
        rows = slice(first * BLOCK, first * BLOCK + len(weight))
        values[rows] = (weight / torch.where(scale > 0, scale, 1)[:, None]).round().to(torch.int8)
        scales[rows] = scale
    return _pad_rows(values), _pad_rows(scales)


def _int4(packed: Packed) -> tuple[Tensor, Tensor, int]:
    """Return uint8 ``[rows, columns / 2]`` and float32 ``[groups, rows, 2]`` with padding, and the group."""
    q = replace(packed, factors=None).integers() + 8  # 0 to 15
    pairs = ((q[:, 0::2] << 4) | q[:, 1::2]).view(torch.uint8)
    if packed.scales is None:
        assert packed.row_scales is not None
        groups = packed.row_scales.flatten()[:, None].expand(-1, packed.values.shape[1])
    else:
        assert packed.factors is not None
        factors = torch.stack((packed.factors & 15, packed.factors >> 4), dim=3).flatten(2, 3)
        scales = packed.scales.float()[:, :, None] * factors  # [blocks, groups, 4, 16]
        groups = scales.permute(0, 3, 1, 2).reshape(len(q), -1)
    groups = _pad_rows(groups).t()
    both = torch.stack((groups, torch.zeros_like(groups)), dim=2).contiguous()
    return _pad_rows(pairs), both, GROUP if packed.scales is None else SUB


def _pad_rows(x: Tensor) -> Tensor:
    missing = -len(x) % ROWS
    return torch.cat((x, x.new_zeros(missing, *x.shape[1:]))) if missing else x.contiguous()

"""Linear layers and embeddings with quantised weights, for the place of `nn.Linear` and `nn.Embedding`."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui.quant import cpu
from glmtui.quant.formats import BLOCK, GROUP, TENSORS, Packed

Activations = Literal["int8", "float"]
"""``int8`` rounds activations to 8 bits per token and 128 columns, for the kernels; ``float`` does not."""

_PIECE = 1 << 22
"""Weights that are unpacked at a time where there are no kernels."""


class QuantizedWeight(nn.Module):
    """A packed matrix ``[rows, columns]`` as a module: several layers can share one."""

    values: Tensor
    scales: Tensor | None
    factors: Tensor | None
    row_scales: Tensor | None

    def __init__(self, packed: Packed) -> None:
        super().__init__()
        self.bits, self.rows, self.columns = packed.bits, packed.rows, packed.columns
        for name in TENSORS:
            self.register_buffer(name, getattr(packed, name))
        self._matrices: dict[int, cpu.Matrix] = {}

    @property
    def packed(self) -> Packed:
        """The tensors as they are now (they may have moved to a device)."""
        return Packed(self.bits, self.rows, self.columns, *(getattr(self, name) for name in TENSORS))

    def _apply(self, fn: Any, recurse: bool = True) -> QuantizedWeight:
        # `module.half()` and the like are about activations; the scales' types belong to the format.
        self._matrices.clear()
        for name, tensor in self.packed.tensors().items():
            setattr(self, name, tensor.to(fn(tensor).device))
        return self

    def matrix(self, bias: Tensor | None) -> cpu.Matrix:
        """Return what the kernels are given, made once for each `bias`."""
        key = 0 if bias is None else bias.data_ptr()
        if key not in self._matrices:
            self._matrices[key] = cpu.Matrix.of(self.packed, bias)
        return self._matrices[key]


class QuantizedLinear(nn.Module):
    """``x @ weight.T + bias`` with a packed weight ``[out, in]``.

    On the CPU through the kernels, in float32. Elsewhere, and with ``float`` activations, weights are
    unpacked a few rows at a time.
    """

    bias: nn.Parameter | None

    def __init__(
        self, packed: Packed | QuantizedWeight, bias: Tensor | None = None, activations: Activations = "int8"
    ) -> None:
        super().__init__()
        self.weight = packed if isinstance(packed, QuantizedWeight) else QuantizedWeight(packed)
        self.in_features, self.out_features = self.weight.columns, self.weight.rows
        self.activations = activations
        parameter = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.register_parameter("bias", parameter)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``, in the type of `x`."""
        flat = x.reshape(-1, self.in_features)
        kernels = cpu.load() if self.activations == "int8" and x.device.type == "cpu" else None
        if kernels is not None:
            bias = self.bias
            if bias is not None and bias.dtype != torch.float32:
                bias = self.bias = nn.Parameter(bias.float(), requires_grad=False)
            out = kernels.multiply(self.weight.matrix(bias), flat.float().contiguous()).to(x.dtype)
        else:
            out = self._multiply_by_pieces(flat)
        return out.view(*x.shape[:-1], self.out_features)

    def _multiply_by_pieces(self, x: Tensor) -> Tensor:
        packed = self.weight.packed
        if self.activations == "int8" and x.device.type == "cpu":
            x = round_activations(x.float()).to(x.dtype)
        blocks = max(_PIECE // (BLOCK * packed.columns), 1)
        pieces = [
            F.linear(x, packed.dequantize(first, first + blocks, x.dtype))
            for first in range(0, packed.values.shape[0], blocks)
        ]
        out = torch.cat(pieces, dim=1)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.weight.bits}"


class QuantizedEmbedding(nn.Module):
    """Rows of a packed matrix ``[tokens, width]``, which the output layer may share."""

    def __init__(self, packed: Packed | QuantizedWeight, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = packed if isinstance(packed, QuantizedWeight) else QuantizedWeight(packed)
        self.num_embeddings, self.embedding_dim = self.weight.rows, self.weight.columns
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """``[...]`` token ids to ``[..., width]``.

        Raises:
            IndexError: an id is outside the vocabulary.
        """
        flat = ids.flatten()
        if len(flat) and not 0 <= int(flat.min()) <= int(flat.max()) < self.num_embeddings:
            raise IndexError("token id out of range")
        rows = [self._rows(part) for part in torch.split(flat, 64)]
        found = torch.cat(rows) if rows else torch.empty(0, self.embedding_dim, dtype=self.dtype)
        return found.view(*ids.shape, self.embedding_dim)

    def _rows(self, ids: Tensor) -> Tensor:
        packed = self.weight.packed
        blocks = {name: tensor.index_select(0, ids // BLOCK) for name, tensor in packed.tensors().items()}
        # Sixteen rows are unpacked for each one wanted: nothing beside the layers that follow.
        rows = Packed(packed.bits, len(ids) * BLOCK, packed.columns, **blocks).dequantize(dtype=self.dtype)
        return rows.view(len(ids), BLOCK, -1)[torch.arange(len(ids), device=ids.device), ids % BLOCK]


def round_activations(x: Tensor) -> Tensor:
    """Round float32 `x` ``[tokens, columns]`` as the kernels do: signed bytes per token and 128 columns."""
    padded = F.pad(x, (0, -x.shape[1] % GROUP))
    groups = padded.view(x.shape[0], -1, GROUP)
    largest = groups.abs().amax(2, keepdim=True)
    inverse = torch.where(largest > 0, 127 / largest, 0)
    return ((groups * inverse).round() * (largest / 127)).view_as(padded)[:, : x.shape[1]]

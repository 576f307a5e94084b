"""Linear layers and embeddings with quantised weights, for the place of `nn.Linear` and `nn.Embedding`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from glmtui.quant import cpu, cuda
from glmtui.quant.formats import BLOCK, GROUP, TENSORS, Packed
from glmtui.quant.mps import MpsWeight

Activations = Literal["int8", "float"]
"""``int8`` rounds activations to 8 bits per token and 128 columns, for the kernels; ``float`` does not."""

REFINED = 256
"""Blocks of 16 tokens whose logits are those of INT8, of an output layer that lies in two planes.

Of each of few tokens (`cpu.Kernels.few`), whether it comes alone or next to others; of more, all logits are.
"""
_PIECE = 1 << 22
"""Weights that are unpacked at a time where there are no kernels."""
_CPU_PIECE = 1 << 20
"""The same with kernels: the processor's cache holds them until they are multiplied."""
_GPU_PIECE = 1 << 26
"""The same on a GPU, which small products leave idle."""


class QuantizedWeight(nn.Module):
    """A packed matrix ``[rows, columns]`` as a module: several layers can share one."""

    values: Tensor
    low: Tensor | None
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
        tensors = {name: getattr(self, name) for name in TENSORS}
        return Packed(self.bits, self.rows, self.columns, **tensors)

    def _apply(self, fn: Any, recurse: bool = True) -> QuantizedWeight:
        # `module.half()` and the like are about activations; the scales' types belong to the format.
        self._matrices.clear()
        moved = self.packed.to(fn(self.values[:0]).device)
        for name in TENSORS:
            setattr(self, name, getattr(moved, name))
        return self

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``x @ weight.T + bias`` ``[tokens, rows]`` in the type of `x`, unpacking where `x` is.

        Few tokens go through a kernel that reads every weight once; for more, weights are unpacked a few rows
        at a time for a product of PyTorch's.
        """
        packed, gpu = self.packed, x.device.type == "cuda"
        kernels = cuda.load(x.device) if gpu else None
        if kernels is not None and len(x) <= cuda.FEW:
            return kernels.multiply(packed, x.contiguous(), bias)
        out = torch.cat([F.linear(x, weight) for weight in self.unpacked(x.dtype)], dim=1)
        return out if bias is None else out + bias.to(out.dtype)

    def multiply_gradient(self, gradient: Tensor) -> Tensor:
        """Return ``gradient @ weight`` ``[tokens, columns]`` in the type of `gradient` ``[tokens, rows]``."""
        kernels = cpu.load() if gradient.device.type == "cpu" else None
        if kernels is not None:
            return kernels.multiply_gradient(self.matrix(None), gradient.float()).to(gradient.dtype)
        return gradient_product(gradient, self.unpacked(gradient.dtype), self.columns)

    def unpacked(self, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yield the weights as `dtype` ``[rows, columns]``, a few rows at a time."""
        packed, device = self.packed, self.values.device.type
        unpack, piece = packed.dequantize, _PIECE
        if device == "cuda" and (gpu := cuda.load(packed.values.device)) is not None:
            unpack, piece = partial(gpu.unpack, packed), _GPU_PIECE
        elif device == "cpu" and (kernels := cpu.load()) is not None:
            unpack, piece = partial(_unpack, kernels, self.matrix(None)), _CPU_PIECE
        blocks = max(piece // (BLOCK * packed.columns), 1)
        for first in range(0, packed.values.shape[0], blocks):
            yield unpack(first, first + blocks, dtype)

    def gather(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the rows `ids` ``[n]`` as ``[n, columns]``."""
        packed = self.packed
        blocks = {name: tensor.index_select(0, ids // BLOCK) for name, tensor in packed.tensors().items()}
        # Sixteen rows are unpacked for each one asked for: nothing next to the layers that follow.
        rows = Packed(packed.bits, len(ids) * BLOCK, packed.columns, **blocks).dequantize(dtype=dtype)
        return rows.view(len(ids), BLOCK, -1)[torch.arange(len(ids), device=ids.device), ids % BLOCK]

    def matrix(self, bias: Tensor | None) -> cpu.Matrix:
        """Return what the kernels are given, made once for each `bias`."""
        key = 0 if bias is None else bias.data_ptr()
        if key not in self._matrices:
            self._matrices[key] = cpu.Matrix.of(self.packed, bias)
        return self._matrices[key]


def gradient_product(gradient: Tensor, weights: Iterable[Tensor], columns: int) -> Tensor:
    """Return ``gradient @ weight`` ``[tokens, columns]`` of a weight that comes a few rows at a time."""
    product, first = gradient.new_zeros(len(gradient), columns), 0
    for weight in weights:
        product.addmm_(gradient[:, first : first + len(weight)], weight)
        first += len(weight)
    return product


def _unpack(kernels: cpu.Kernels, matrix: cpu.Matrix, first: int, last: int, dtype: torch.dtype) -> Tensor:
    return kernels.unpack(matrix, first, last).to(dtype)


class QuantizedLinear(nn.Module):
    """``x @ weight.T + bias`` with a packed weight ``[out, in]``.

    On the CPU with ``int8`` activations through the kernels, in float32; else as the weight itself does it,
    in the type of its input.

    A weight in two planes is an output layer's: for each of few tokens the kernels compute the logits by the
    high plane, and by both where they are highest (`REFINED`).

    The gradient of its input, and of its bias if that wants one, is that of the same product with the weights
    as they are stored; that activations are rounded is passed over. The weights have no gradient.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        packed: Packed | QuantizedWeight | MpsWeight,
        bias: Tensor | None = None,
        activations: Activations = "int8",
    ) -> None:
        super().__init__()
        self.weight = QuantizedWeight(packed) if isinstance(packed, Packed) else packed
        self.in_features, self.out_features = self.weight.columns, self.weight.rows
        self.activations = activations
        parameter = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.register_parameter("bias", parameter)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``, in the type of `x`."""
        flat, bias = x.reshape(-1, self.in_features), self.bias
        if torch.is_grad_enabled() and (x.requires_grad or (bias is not None and bias.requires_grad)):
            out: Tensor = _Product.apply(flat, bias, self)  # type: ignore[no-untyped-call]
        else:
            out = self.multiply(flat)
        return out.view(*x.shape[:-1], self.out_features)

    def multiply(self, flat: Tensor) -> Tensor:
        """``[tokens, in]`` to ``[tokens, out]``, in the type of the input and without a gradient."""
        weight, bias = self.weight, self.bias
        rounded = self.activations == "int8" and flat.device.type == "cpu"
        kernels, dtype = cpu.load() if rounded else None, flat.dtype
        fits = bias is None or bias.dtype == torch.float32 or not bias.requires_grad
        if kernels is not None and isinstance(weight, QuantizedWeight) and fits:
            matrix, flat = self.matrix(weight), flat.float().contiguous()
            out = kernels.multiply(matrix, flat)
            if weight.low is not None and 0 < len(flat) <= kernels.few:
                kernels.refine(matrix, flat, _likeliest(out), out)
            return out.to(dtype)
        return weight.multiply(round_activations(flat.float()).to(dtype) if rounded else flat, bias)

    def matrix(self, weight: QuantizedWeight) -> cpu.Matrix:
        """Return what the kernels are given of `weight`, this layer's, and the bias."""
        bias = self.bias
        if bias is not None and bias.dtype != torch.float32:
            bias = self.bias = nn.Parameter(bias.float(), requires_grad=False)
        return weight.matrix(bias)

    def extra_repr(self) -> str:
        """Sizes, for `print`."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.weight.bits}"


class _Product(torch.autograd.Function):
    """A `QuantizedLinear` of ``[tokens, in]``; the gradient takes a few rows of weights at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, layer: QuantizedLinear) -> Tensor:
        ctx.layer = layer
        return layer.multiply(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            weight = ctx.layer.weight
            if isinstance(weight, QuantizedWeight):
                of_x = weight.multiply_gradient(gradient)
            else:
                of_x = gradient_product(gradient, weight.unpacked(gradient.dtype), weight.columns)
        if ctx.needs_input_grad[1]:
            of_bias = gradient.sum(0).to(ctx.layer.bias.dtype)
        return of_x, of_bias, None


class QuantizedEmbedding(nn.Module):
    """Rows of a packed matrix ``[tokens, width]``, which the output layer may share."""

    def __init__(
        self, packed: Packed | QuantizedWeight | MpsWeight, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.weight = QuantizedWeight(packed) if isinstance(packed, Packed) else packed
        self.num_embeddings, self.embedding_dim = self.weight.rows, self.weight.columns
        self.dtype = dtype

    def forward(self, ids: Tensor) -> Tensor:
        """``[...]`` token ids to ``[..., width]``.

        Raises:
            IndexError: an id is outside the vocabulary (on the CPU; elsewhere looking would make the program
                wait for the device).
        """
        flat = ids.flatten()
        is_seen = ids.device.type == "cpu" and len(flat) > 0
        if is_seen and not 0 <= int(flat.min()) <= int(flat.max()) < self.num_embeddings:
            raise IndexError("token id out of range")
        rows = [self.weight.gather(part, self.dtype) for part in torch.split(flat, 64)]
        found = torch.cat(rows) if rows else torch.empty(0, self.embedding_dim, dtype=self.dtype)
        return found.view(*ids.shape, self.embedding_dim)


def _likeliest(logits: Tensor) -> Tensor:
    """Return the blocks of 16 with the highest of `logits` ``[tokens, rows]``, `REFINED` at most of each."""
    padded = F.pad(logits, (0, -logits.shape[1] % BLOCK), value=-torch.inf)
    highest = padded.view(len(logits), -1, BLOCK).amax(2)
    return highest.topk(min(REFINED, highest.shape[1]), sorted=False).indices


def round_activations(x: Tensor) -> Tensor:
    """Round float32 `x` ``[tokens, columns]`` as the kernels do: signed bytes per token and 128 columns."""
    padded = F.pad(x, (0, -x.shape[1] % GROUP))
    groups = padded.view(x.shape[0], -1, GROUP)
    largest = groups.abs().amax(2, keepdim=True)
    inverse = torch.where(largest > 0, 127 / largest, 0)
    return ((groups * inverse).round() * (largest / 127)).view_as(padded)[:, : x.shape[1]]

"""bfloat16 and float16 weights on the CPU, where PyTorch has no fast product for them.

Few tokens, which memory bounds, take the kernels. More take PyTorch's own product if the processor multiplies
bfloat16; else, and in float16, it is several times slower than float32. There the kernels multiply words of
12 bits, where that is faster (it loses no more than products in bfloat16: on nano a mean KL of 3e-6 against
2.5e-6); elsewhere a few rows of weights at a time become float32 for PyTorch's product. The model stays half
as large as it would be in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui import host
from glmtui.quant import cpu

FEW = 16
"""Tokens below which PyTorch's own products are as fast: a weight is used too rarely to pay for its copy."""
NATIVE_FEW = 4
"""Tokens up to which the kernels are as fast as products by the processor's own instructions for bfloat16."""
MANY = ("avx2", "avxvnni")
"""Where the kernels multiply many tokens faster than PyTorch does in float32."""
TILE = 1 << 22
"""Weights that are float32 at a time: 16 MB."""


class TiledLinear(nn.Module):
    """Takes the place of an `nn.Linear` and shares its parameters."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    @property
    def takes(self) -> torch.dtype:
        """The type of `x` that needs no copy: float32, unless the processor multiplies the weight's."""
        return self.weight.dtype if _is_native(self.weight) else torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``, in the type of `x`; sums have 32 bits if without a gradient."""
        flat, weight = x.reshape(-1, self.in_features), self.weight
        trained = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        kernels = cpu.load() if _is_half(weight) and weight.is_contiguous() and not trained else None
        if kernels is not None:
            few = len(flat) <= (NATIVE_FEW if _is_native(weight) else kernels.few)
            if few or (kernels.isa in MANY and not _is_native(weight)):
                multiply = kernels.multiply_halves if few else kernels.multiply_many_halves
                out = multiply(weight, flat.float().contiguous())
                out = out if self.bias is None else out.add_(self.bias)
                return out.to(x.dtype).view(*x.shape[:-1], self.out_features)
        if len(flat) < FEW or trained or _is_native(weight):
            return F.linear(x, weight, self.bias)
        flat, out = flat.float(), x.new_empty(flat.shape[0], self.out_features)
        parts = -(-self.out_features * self.in_features // TILE)
        rows = -(-self.out_features // parts)  # as many in each
        buffer = torch.empty(rows, self.in_features)
        for start in range(0, self.out_features, rows):
            part = slice(start, start + rows)
            weight = self.weight[part]
            bias = None if self.bias is None else self.bias[part].float()
            out[:, part] = F.linear(flat, buffer[: weight.shape[0]].copy_(weight), bias)
        return out.view(*x.shape[:-1], self.out_features)


def tile(network: nn.Module) -> None:
    """Replace the linear layers of `network` that are bfloat16 or float16 on the CPU."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and _is_half(child.weight):
                setattr(module, name, TiledLinear(child))


def _is_half(weight: Tensor) -> bool:
    return weight.dtype in (torch.bfloat16, torch.float16) and weight.device.type == "cpu"


def _is_native(weight: Tensor) -> bool:
    """Whether the processor multiplies the weight's type itself."""
    return weight.dtype == torch.bfloat16 and host.has_native_bfloat16()

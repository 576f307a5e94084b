"""bfloat16 weights on a CPU that cannot multiply them: products in float32, a few rows of weights at a time.

PyTorch then multiplies bfloat16 several times slower than float32, except for one token, which memory bounds.
The model stays half as large as it would be in float32: only a tile of it is ever there in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui import host

FEW = 16
"""Tokens below which PyTorch's own products are as fast: a weight is used too rarely to pay for its copy."""
TILE = 1 << 22
"""Weights that are float32 at a time: 16 MB."""


class TiledLinear(nn.Module):
    """Takes the place of an `nn.Linear` and shares its parameters."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``, in the type of `x`; sums are float32 where there is no gradient."""
        flat = x.reshape(-1, self.in_features)
        trained = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if flat.shape[0] < FEW or trained:
            return F.linear(x, self.weight, self.bias)
        flat, out = flat.float(), x.new_empty(flat.shape[0], self.out_features)
        rows = max(TILE // self.in_features, 1)
        buffer = torch.empty(min(rows, self.out_features), self.in_features)
        for start in range(0, self.out_features, rows):
            part = slice(start, start + rows)
            weight = self.weight[part]
            bias = None if self.bias is None else self.bias[part].float()
            out[:, part] = F.linear(flat, buffer[: weight.shape[0]].copy_(weight), bias)
        return out.view(*x.shape[:-1], self.out_features)


def tile(network: nn.Module) -> None:
    """Replace the linear layers of `network` that are bfloat16 on a CPU without instructions for it."""
    if host.has_native_bfloat16():
        return
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and _is_slow(child.weight):
                setattr(module, name, TiledLinear(child))


def _is_slow(weight: Tensor) -> bool:
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu"

"""What stands between the products, through the kernels: else it would take a good part of the time.

Each class falls back on what it replaces wherever the kernels do not apply.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui.models.base import CoreAttention, SwiGLU, Turn
from glmtui.quant import cpu


class FusedAttention(CoreAttention):
    """Attention over a cache in float16, half of what float32 would make every token read."""

    def forward(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """See `CoreAttention.forward`."""
        kernels = _kernels(q) if q.shape[:1] + q.shape[2:3] == (1, 1) and mask is None else None
        if kernels is not None and keys.dtype == torch.float16 and q.shape[3] % 16 == 0:
            return kernels.attend(q[0, :, 0], keys[0], values[0])[None, :, None]
        return super().forward(q, keys.to(q.dtype), values.to(q.dtype), mask)


class FusedTurn(Turn):
    """Rotation of one sequence in one pass: else half a dozen tensors for every layer and token."""

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See `Turn.forward`: ``[n, heads, head_dim]``, or with a batch of one and queries beside keys."""
        kernels = _kernels(x)
        ready = x.dtype == cos.dtype and cos.is_contiguous() and sin.is_contiguous()
        if kernels is None or not ready or (x.dim() == 5 and x.shape[0] > 1):
            return super().forward(x, cos, sin)
        parts = x[0] if x.dim() == 5 else x[:, :, None]
        return kernels.turn(parts, cos, sin, self.apart).view(x.shape)


class FusedGELU(nn.Module):
    """GELU by its approximation with tanh, of a tensor that nobody else needs: it is overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        kernels = _kernels(x)
        return F.gelu(x, approximate="tanh") if kernels is None else kernels.gelu_(x)


class FusedSwiGLU(SwiGLU):
    """SwiGLU in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., 2 width]`` to ``[..., width]``."""
        kernels = _kernels(x)
        return super().forward(x) if kernels is None else kernels.swiglu(x)


def fuse(network: nn.Module) -> None:
    """Replace what `network` does between its products, and let its cache hold float16."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is CoreAttention:
                setattr(module, name, FusedAttention())
            elif type(child) is Turn:
                setattr(module, name, FusedTurn(child.apart))
            elif type(child) is SwiGLU:
                setattr(module, name, FusedSwiGLU())
            elif type(child) is nn.GELU and child.approximate == "tanh":
                setattr(module, name, FusedGELU())
    if hasattr(network, "cache_dtype"):
        network.cache_dtype = torch.float16  # type: ignore[assignment]


def _kernels(x: Tensor) -> cpu.Kernels | None:
    usable = x.device.type == "cpu" and x.dtype == torch.float32
    return cpu.load() if usable and not x.requires_grad else None

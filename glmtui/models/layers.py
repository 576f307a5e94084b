"""The layers that several architectures share.

Each is a module without parameters of its own where something faster can take its place on some device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui.models.base import Projection, Rotary, State


class CoreAttention(nn.Module):
    """Softmax attention of rotated queries over cached keys; heads may share keys in groups."""

    def forward(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend as far as `mask` lets see.

        Args:
            q: ``[batch, heads, n, head_dim]``; the heads of a group lie side by side.
            keys: ``[batch, groups, columns, head_dim]``.
            values: the same.
            mask: bool, broadcastable to ``[batch, heads, n, columns]``, and the same for all heads.

        Returns:
            ``[batch, heads, n, head_dim]``.
        """
        batch, heads, n, size = q.shape
        groups = keys.shape[1]
        if heads == groups:
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        if n == 1:  # the heads of a group are the rows that read its keys once
            rows = q.view(batch, groups, -1, size)
            return F.scaled_dot_product_attention(rows, keys, values, attn_mask=mask).view_as(q)
        grouped = q.reshape(batch * groups, -1, n, size)
        # a group's keys are not copied for its heads: [batch * groups, heads of a group, columns, head_dim]
        keys, values = (
            each.flatten(0, 1)[:, None].expand(-1, grouped.shape[1], -1, -1) for each in (keys, values)
        )
        if mask is not None and mask.dim() == 4 and len(mask) > 1:
            mask = mask.repeat_interleave(groups, dim=0)
        return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask).reshape(q.shape)


class RotaryEmbedding(nn.Module):
    """Rotates pairs of columns by a token's position.

    Args:
        distance: of the two columns of a pair.
    """

    def __init__(self, distance: int) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Return ``x cos + partner sin`` for `x` ``[batch, n, ..., head_dim]``."""
        partner = torch.unflatten(x, -1, (-1, 2, self.distance)).flip(-2).flatten(-3)
        return torch.addcmul(x * rotary.cos, partner, rotary.sin)


class SwiGLU(nn.Module):
    """``SiLU(gate) * up`` of ``[..., gate and up side by side]``."""

    def forward(self, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up


def suited(x: Tensor, linear: nn.Linear) -> Tensor:
    """Return `x` in the type that `linear` takes: its weight's, unless it says another (`takes`)."""
    return x.to(getattr(linear, "takes", linear.weight.dtype))


class Block(nn.Module, ABC):
    """One layer of a network; see `glmtui.models.base.Block`."""

    def __init__(self) -> None:
        super().__init__()
        self.core_attention = CoreAttention()

    @abstractmethod
    def project(self, x: Tensor, rotary: Rotary) -> Projection: ...

    @abstractmethod
    def finish(self, residual: Tensor, attended: Tensor) -> Tensor: ...

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None, state: State, layer: int) -> Tensor:
        """Run `x` ``[batch, n, hidden]`` through the layer, which is number `layer`."""
        return state.run(layer, self, x, rotary, mask)


class Layers(nn.ModuleList):
    """The blocks of a network, in order."""

    adapted = False
    """A LoRA adds to what modules inside them give, so that each is called by itself."""

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None, state: State) -> Tensor:
        """Run `x` ``[batch, n, hidden]`` through all blocks; see `LanguageModel.hidden`."""
        for layer, block in enumerate(self):
            x = block(x, rotary, mask, state, layer)  # as a module: accelerate's hooks move what it gets
        return x

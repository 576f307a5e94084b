"""What stands between the products, through the kernels: else it would take a good part of the time.

Each class falls back on what it replaces wherever the kernels do not apply.
"""

from __future__ import annotations

import ctypes
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui.models import chatglm, chatglm2
from glmtui.models.base import KVCache, LanguageModel, Rotary, State, Storage
from glmtui.models.layers import CoreAttention, Layers, RotaryEmbedding, SwiGLU
from glmtui.quant import cpu
from glmtui.quant.linear import QuantizedLinear, QuantizedWeight

FEW = 16
"""Tokens that attend as one does, and get the same numbers as alone: drafts, and more is prompts."""


class FusedAttention(CoreAttention):
    """Attention over a cache in float16, half of what float32 would make every token read."""

    def forward(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        _batch, _heads, tokens, size = q.shape
        same = mask is None or (mask.dtype == torch.bool and mask.numel() == tokens * keys.shape[2])
        trained = keys.requires_grad or values.requires_grad
        usable = len(q) == 1 and same and keys.dtype == torch.float16 and size % 16 == 0 and q.stride(3) == 1
        usable = usable and not trained
        kernels = _kernels(q) if usable else None
        if kernels is not None:
            mask = None if mask is None else mask.contiguous()
            attend = kernels.attend if tokens <= FEW else kernels.attend_prompt
            return attend(q[0], keys[0], values[0], mask).transpose(0, 1)[None]
        return super().forward(q, keys.to(q.dtype), values.to(q.dtype), mask)


class FusedRotaryEmbedding(RotaryEmbedding):
    """Rotation in one pass: else half a dozen tensors for every layer and token."""

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        cos, sin = rotary
        kernels = _kernels(x)
        fits = x.dtype == cos.dtype and cos.is_contiguous() and sin.is_contiguous()
        if kernels is None or not fits or x.stride(0) != x.shape[1] * x.stride(1):
            return super().forward(x, rotary)
        tokens = x.flatten(0, 1)  # [tokens, heads, (2,) head_dim]
        parts = tokens if x.dim() == 5 else tokens[:, :, None]
        return kernels.rotate(parts, cos, sin, self.distance).view(x.shape)


class FusedGELU(nn.Module):
    """GELU by its approximation with tanh, of a tensor that nobody else needs: it is overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        kernels = _kernels(x)
        return F.gelu(x, approximate="tanh") if kernels is None else kernels.gelu_(x)


class FusedSwiGLU(SwiGLU):
    """SwiGLU in one pass."""

    def forward(self, x: Tensor) -> Tensor:
        kernels = _kernels(x)
        return super().forward(x) if kernels is None else kernels.swiglu(x)


class FusedLayers(Layers):
    """All layers in one call for few tokens: else a tenth of their time would pass between the products.

    Each gets to the bit what it would get alone, whether the others are of its sequence or not.
    """

    def __init__(self, layers: Layers) -> None:
        super().__init__(layers)
        self._plan: tuple[ctypes.Array[cpu.Layer], cpu.Shape] | None = None

    def _apply(self, fn: Any, recurse: bool = True) -> FusedLayers:
        self._plan = None  # tensors move
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, x: Tensor, rotary: Rotary, mask: Tensor | None, state: State) -> Tensor:
        out = None if self.adapted else self._fused(x, rotary, state)
        return super().forward(x, rotary, mask, state) if out is None else out

    def _fused(self, x: Tensor, rotary: Rotary, state: State) -> Tensor | None:
        """Run few tokens behind what their caches hold; None where the kernels do not apply."""
        kernels, count = _kernels(x), x.shape[1]
        if kernels is None or len(x) != 1 or not 0 < count <= kernels.few:
            return None
        try:
            plan = self._plan = self._plan or _plan(self)
        except _NotForKernels:
            return None
        buffers: dict[KVCache, list[Tensor]] = {}
        places = state.places(count) or []
        for cache, column in places:
            if cache not in buffers:  # its first token
                own = sum(place.cache is cache for place in places)
                buffers[cache] = cache.buffers(own, column - cache.prefix_length - cache.length)
                if buffers[cache][0].dtype not in cpu.CACHED:
                    return None
        if not places:
            return None
        order = list(buffers)
        tokens = [(order.index(cache), column) for cache, column in places]
        cos, sin = (each.contiguous() for each in rotary)
        return kernels.layers(*plan, list(buffers.values()), tokens, cos, sin, x.contiguous())


class _NotForKernels(Exception):  # noqa: N818 (a way out, no error)
    """The layers hold something that the kernels do not know."""


def _plan(blocks: Layers) -> tuple[ctypes.Array[cpu.Layer], cpu.Shape]:
    """Describe `blocks`. Raises _NotForKernels."""
    layers = (cpu.Layer * len(blocks))()
    shape = cpu.Shape()
    for layer, block in zip(layers, blocks, strict=True):
        if isinstance(block, chatglm.Block):
            attention: chatglm.Attention | chatglm2.Attention = block.attention
            shape = _chatglm_shape(block)
        elif isinstance(block, chatglm2.Block):
            attention = block.self_attention
            shape = _chatglm2_shape(block)
        else:
            raise _NotForKernels
        if shape.size % 16 or shape.size > cpu.WIDEST_HEAD:
            raise _NotForKernels
        layer.query_key_value = _matrix(attention.query_key_value)
        layer.dense = _matrix(attention.dense)
        layer.up, layer.down = _matrix(block.mlp.dense_h_to_4h), _matrix(block.mlp.dense_4h_to_h)
        layer.attention_norm, layer.attention_norm_bias = _norm(block.input_layernorm)
        layer.mlp_norm, layer.mlp_norm_bias = _norm(block.post_attention_layernorm)
    return layers, shape


def _chatglm_shape(block: chatglm.Block) -> cpu.Shape:
    """Queries, keys and values of a head lie side by side; the residual is the norm's output."""
    attention = block.attention
    heads, size = attention.heads, attention.head_dim
    places = {"query_stride": 3 * size, "key": size, "value": 2 * size, "group_stride": 3 * size}
    return cpu.Shape(
        **_sizes(block, attention),
        **places,
        groups=heads,
        centred=True,
        gated=False,
        from_norm=True,
        residual=chatglm.ALPHA,
    )


def _chatglm2_shape(block: chatglm2.Block) -> cpu.Shape:
    """All queries, then all keys, then all values; the residual is the stream."""
    attention = block.self_attention
    heads, groups, size = attention.heads, attention.groups, attention.head_dim
    places = {
        "query_stride": size,
        "key": heads * size,
        "value": (heads + groups) * size,
        "group_stride": size,
    }
    return cpu.Shape(
        **_sizes(block, attention),
        **places,
        groups=groups,
        centred=False,
        gated=True,
        from_norm=False,
        residual=1.0,
    )


def _sizes(
    block: chatglm.Block | chatglm2.Block, attention: chatglm.Attention | chatglm2.Attention
) -> dict[str, Any]:
    return {
        "hidden": block.input_layernorm.normalized_shape[0],
        "inner": block.mlp.dense_4h_to_h.in_features,
        "heads": attention.heads,
        "size": attention.head_dim,
        "distance": attention.rotary_embedding.distance,
        "epsilon": block.input_layernorm.eps,
    }


def _is_rounded(layer: nn.Module) -> TypeGuard[QuantizedLinear]:
    """Whether `layer` is one whose products are the kernels'."""
    if not isinstance(layer, QuantizedLinear) or layer.activations != "int8":
        return False
    return isinstance(layer.weight, QuantizedWeight) and layer.weight.values.device.type == "cpu"


def _matrix(layer: nn.Module) -> cpu.Matrix:
    if not _is_rounded(layer) or not isinstance(layer.weight, QuantizedWeight):
        raise _NotForKernels
    return layer.matrix(layer.weight)


def _norm(norm: nn.LayerNorm | nn.RMSNorm) -> tuple[int, int | None]:
    bias = getattr(norm, "bias", None)
    weight = norm.weight
    if weight.dtype != torch.float32 or weight.device.type != "cpu" or norm.eps is None:
        raise _NotForKernels
    return weight.data_ptr(), None if bias is None else bias.data_ptr()


def fuse(network: nn.Module) -> None:
    """Replace what `network` does between its products, and let its cache hold float16."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is CoreAttention:
                setattr(module, name, FusedAttention())
            elif type(child) is RotaryEmbedding:
                setattr(module, name, FusedRotaryEmbedding(child.distance))
            elif type(child) is SwiGLU:
                setattr(module, name, FusedSwiGLU())
            elif type(child) is nn.GELU and child.approximate == "tanh":
                setattr(module, name, FusedGELU())
            elif type(child) is Layers:
                setattr(module, name, FusedLayers(child))
    if isinstance(network, LanguageModel):
        network.cache_storage = Storage(torch.float16)
        network.exact_rows = _exact_rows(network)


def _exact_rows(network: LanguageModel) -> int:
    """Return `LanguageModel.exact_rows`: all that a token passes has to be the kernels'.

    But for the rotation's angles and the last norm, which PyTorch computes for each token by itself.
    """
    try:
        for module in network.modules():
            if isinstance(module, Layers):
                _plan(module)
    except _NotForKernels:
        return 1
    kernels = cpu.load() if _is_rounded(network.get_submodule(network.OUTPUT)) else None
    return 1 if kernels is None else kernels.few


def _kernels(x: Tensor) -> cpu.Kernels | None:
    usable = x.device.type == "cpu" and x.dtype == torch.float32
    return cpu.load() if usable and not x.requires_grad else None

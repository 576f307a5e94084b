"""ChatGLM-6B: bidirectional over the prompt, 2-D rotary positions, LayerNorm outputs as the residual.

A prompt is ``context… [gMASK] <sop>`` (or has ``[MASK]`` somewhere in the context). Everything before
``<sop>`` sees everything before ``<sop>``; from there on attention is causal. Module names are those of
the published state dict, so that loading maps nothing. All large products are plain `nn.Linear` and
`nn.Embedding`: quantisation replaces them from outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glmtui.errors import BadFileError
from glmtui.models import layers
from glmtui.models.base import KVCache, LanguageModel, Projection, Rotary, State, Storage, causal_mask
from glmtui.models.prefix import PrefixEncoder
from glmtui.protocol.phrases import _

ALPHA = math.sqrt(2 * 28)
"""Weight of the residual. The published code leaves it at 28 layers whatever the model has."""


@dataclass(frozen=True)
class ChatGLMConfig:
    """Sizes and token ids, as ``config.json`` names them."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_attention_heads: int
    inner_hidden_size: int
    bos_token_id: int
    """``<sop>``: the answer starts after it."""
    eos_token_id: int
    """``<eop>``: the answer ends with it."""
    mask_token_id: int
    gmask_token_id: int
    pad_token_id: int = 3
    max_sequence_length: int = 2048
    layernorm_epsilon: float = 1e-5
    position_encoding_2d: bool = True
    pre_seq_len: int | None = None
    """Rows of the P-tuning prefix; None without one."""
    prefix_projection: bool = False
    tie_word_embeddings: bool = True

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ChatGLMConfig:
        """Read a ``config.json``.

        Raises:
            UserError: a size is missing, or the heads do not divide the width.
        """
        known = {name: config[name] for name in cls.__dataclass_fields__ if config.get(name) is not None}
        if "bos_token_id" in known:
            # The first release's config lacks these two; its vocabulary has them in the same order as ever.
            known.setdefault("mask_token_id", known["bos_token_id"] - 4)
            known.setdefault("gmask_token_id", known["bos_token_id"] - 3)
        try:
            result = cls(**known)
        except TypeError as error:
            message = _("config.json is not complete for ChatGLM-6B: {error}")
            raise BadFileError(message.format(error=error)) from None
        if result.hidden_size % (4 * result.num_attention_heads):
            message = _("config.json: hidden_size {width} cannot be divided among {heads} attention heads")
            raise BadFileError(message.format(width=result.hidden_size, heads=result.num_attention_heads))
        return result

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def max_length(self) -> int:
        return self.max_sequence_length

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``<eop>``."""
        return (self.eos_token_id,)


def rotary(positions: Tensor, head_dim: int, dtype: torch.dtype) -> Rotary:
    """Return the rotation for `positions` ``[batch, parts, n]``, as ``[batch, n, 1, 1, head_dim]``.

    Every head is cut into `parts` equal pieces (two: place in the context, place in the answer), and each
    piece is rotated by its own positions, first half against second half. Angles are float32, of frequencies
    rounded to float16 as the published code rounds them. No table: any position works.
    """
    batch, parts, n = positions.shape
    size = head_dim // parts
    exponents = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size
    frequencies = (10000.0**-exponents).half().float()
    angles = positions[..., None] * frequencies  # [batch, parts, n, size / 2]
    cos, sin = angles.cos(), angles.sin()
    shape = (batch, n, 1, 1, head_dim)
    return Rotary(
        torch.stack((cos, cos), dim=3).permute(0, 2, 1, 3, 4).reshape(shape).to(dtype),
        torch.stack((-sin, sin), dim=3).permute(0, 2, 1, 3, 4).reshape(shape).to(dtype),
    )


class Attention(nn.Module):
    """The products of self-attention; queries, keys and values of a head lie side by side in the first."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        parts = 2 if config.position_encoding_2d else 1
        self.rotary_embedding = layers.RotaryEmbedding(config.head_dim // parts // 2)
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys and values, each ``[batch, heads, n, head_dim]``."""
        qkv = self.query_key_value(x).view(*x.shape[:2], self.heads, 3, self.head_dim)
        qk = self.rotary_embedding(qkv[:, :, :, :2], rotary).transpose(1, 2)  # [batch, heads, n, 2, head_dim]
        return qk[..., 0, :], qk[..., 1, :], qkv[..., 2, :].transpose(1, 2)


class MLP(nn.Module):
    """Two linear layers around a tanh-approximated GELU."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.activation = nn.GELU(approximate="tanh")
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dense_4h_to_h(self.activation(self.dense_h_to_4h(x)))
        return out


class Block(layers.Block):
    """One layer. Its residual is the LayerNorm's *output* times `ALPHA`, not the stream that came in.

    The published code divides and multiplies by layer + 1 around the softmax, which cancels.
    """

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.attention = Attention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = MLP(config)

    def project(self, x: Tensor, rotary: Rotary) -> Projection:
        a = self.input_layernorm(x)
        return Projection(a, *self.attention(a, rotary))

    def finish(self, residual: Tensor, attended: Tensor) -> Tensor:
        attended = self.attention.dense(attended.transpose(1, 2).flatten(2))
        m = self.post_attention_layernorm(torch.add(attended, residual, alpha=ALPHA))
        return torch.add(self.mlp(m), m, alpha=ALPHA)


class Transformer(nn.Module):
    """Everything but the output layer, under its published name."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = layers.Layers(Block(config) for _ in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.prefix_encoder: PrefixEncoder | None = None
        if config.pre_seq_len is not None:
            self.prefix_encoder = new_prefix(config, config.pre_seq_len, projection=config.prefix_projection)


def new_prefix(config: ChatGLMConfig, rows: int, *, projection: bool) -> PrefixEncoder:
    """Return a prefix of that many rows for a network of these sizes."""
    width = 2 * config.num_layers * config.hidden_size
    hidden = config.hidden_size if projection else None
    return PrefixEncoder(rows, width, hidden or width, hidden)


class ChatGLMCache(KVCache):
    """A cache that knows where its context ends, which every later position is counted from."""

    context_length = 0
    """Tokens before ``<sop>``."""
    mask_position = 0
    """Index of ``[gMASK]`` or ``[MASK]``."""
    uses_gmask = True

    def __init__(
        self,
        config: ChatGLMConfig,
        capacity: int = 0,
        prefix: Tensor | None = None,
        storage: Storage | None = None,
    ) -> None:
        super().__init__(config.num_layers, capacity, prefix, storage)
        self._config = config

    def begin(self, ids: Tensor) -> None:
        if self.length == 0:
            self.context_length, self.mask_position, self.uses_gmask = self._layout(ids.tolist())

    @property
    def indivisible(self) -> int:
        """The context: it sees itself in both directions."""
        return self.context_length if self.length == 0 else 0

    def positions(self, index: Tensor) -> Tensor:
        """Return the positions ``[1, parts, n]`` of the tokens at `index` ``[n]`` of the sequence.

        Context: its index, and 0. From ``<sop>`` on: the mask token's index, and 1, 2, 3, …
        """
        context = index < self.context_length
        if not self._config.position_encoding_2d:
            constant = index if self.uses_gmask else torch.full_like(index, self.mask_position)
            return torch.where(context, index, constant)[None, None]
        block = (index - self.context_length + 1).clamp(min=0)
        return torch.stack((torch.where(context, index, self.mask_position), block))[None]

    def mask(self, start: int, rows: int, device: torch.device) -> Tensor | None:
        """The context sees all of itself, later tokens see what comes before. See `KVCache.mask`."""
        first, context = self.length + start, self.context_length
        columns = self.prefix_length + first + rows
        if first + rows <= context:
            return None
        mask = causal_mask(self.prefix_length + first, rows, columns, device)
        if mask is not None and first < context:
            mask[:, : self.prefix_length + context] = True
        return mask

    def reusable(self, ids: Sequence[int], common: int) -> int:
        """The context serves a prompt with the very same context, and no other one."""
        common = min(common, self.length)
        mine = (self.context_length, self.mask_position, self.uses_gmask)
        return common if common >= self.context_length and self._layout(ids) == mine else 0

    def truncate(self, length: int) -> None:
        """Forget all tokens after the first `length`.

        The context sees itself in both directions, so it can be kept complete or not at all.
        """
        if 0 < length < self.context_length:
            raise ValueError(
                f"a bidirectional context of {self.context_length} tokens cannot be cut to {length}"
            )
        super().truncate(length)

    def _layout(self, ids: Sequence[int]) -> tuple[int, int, bool]:
        """Return the length of the context of a prompt, its mask token's index, and whether it is [gMASK].

        Without ``<sop>`` all of the prompt is context; without a mask token its last token stands for it.
        """
        config = self._config
        context_length = _index(ids, config.bos_token_id, default=len(ids))
        uses_gmask = config.gmask_token_id in ids
        mask_id = config.gmask_token_id if uses_gmask else config.mask_token_id
        return context_length, _index(ids, mask_id, default=max(context_length - 1, 0)), uses_gmask


class ChatGLM(LanguageModel):
    """ChatGLM-6B of any size: token ids to logits."""

    config: ChatGLMConfig
    EMBEDDING = "transformer.word_embeddings"

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()

    def embed(self, ids: Tensor) -> Tensor:
        x: Tensor = self.transformer.word_embeddings(ids)
        return x

    def hidden(self, x: Tensor, positions: Tensor, mask: Tensor | None, state: State) -> Tensor:
        """``[batch, n, hidden]`` to the same, at `positions` ``[batch, parts, n]``; see `LanguageModel`."""
        rotation = rotary(positions, self.config.head_dim, x.dtype)
        out: Tensor = self.transformer.final_layernorm(self.transformer.layers(x, rotation, mask, state))
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(hidden)
        return logits.float()

    def prefix(self) -> Tensor | None:
        config, encoder = self.config, self.transformer.prefix_encoder
        if encoder is None:
            return None
        dtype = self.transformer.final_layernorm.weight.dtype
        return encoder.keys_values(config.num_layers, config.num_attention_heads, config.head_dim, dtype)

    def new_prefix(self, rows: int, *, projection: bool) -> PrefixEncoder:
        return new_prefix(self.config, rows, projection=projection)

    def new_cache(self, capacity: int = 0) -> ChatGLMCache:
        prefix = self.prefix()
        prefix = None if prefix is None else prefix.detach()
        return ChatGLMCache(self.config, capacity, prefix, self.cache_storage)


def _index(ids: Sequence[int], token: int, default: int) -> int:
    return ids.index(token) if token in ids else default

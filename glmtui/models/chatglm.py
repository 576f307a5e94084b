"""ChatGLM-6B: bidirectional over the prompt, 2-D rotary positions, LayerNorm outputs as the residual.

A prompt is ``context… [gMASK] <sop>`` (or has ``[MASK]`` somewhere in the context). Everything before
``<sop>`` sees everything before ``<sop>``; from there on attention is causal. Module names are those of
the published state dict, so that loading maps nothing. All large products are plain `nn.Linear` and
`nn.Embedding`: quantisation replaces them from outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glmtui.errors import UserError
from glmtui.models.base import ROWS, Check, CoreAttention, KVCache, Layers, Meter, Slots, Turn, causal_mask
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
            raise UserError(
                _("config.json is not complete for ChatGLM-6B: {error}").format(error=error)
            ) from None
        if result.hidden_size % (4 * result.num_attention_heads):
            raise UserError(
                _("config.json: hidden_size {width} cannot be divided among {heads} attention heads").format(
                    width=result.hidden_size, heads=result.num_attention_heads
                )
            )
        return result

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def max_length(self) -> int:
        """Prompt and answer together that the model was made for, in tokens."""
        return self.max_sequence_length

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``<eop>``."""
        return (self.eos_token_id,)


class Rotary(NamedTuple):
    """Cosine and sine of every position, ``[batch, n, 1, 1, head_dim]``; sine carries the rotation's sign."""

    cos: Tensor
    sin: Tensor

    def rows(self, start: int, stop: int) -> Rotary:
        """Return the part for rows `start` to `stop`."""
        return Rotary(self.cos[:, start:stop], self.sin[:, start:stop])


def rotary(positions: Tensor, head_dim: int, dtype: torch.dtype) -> Rotary:
    """Return the rotation for `positions` ``[batch, parts, n]``.

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


class Piece(NamedTuple):
    """Rows that go through a layer together."""

    start: int
    stop: int
    columns: int
    """How many keys they see, counted from the first..."""
    mask: Tensor | None
    """...of these, bool, broadcastable to ``[batch, heads, rows, columns]``; None: all."""
    turn: Rotary


class Attention(nn.Module):
    """Self-attention with queries, keys and values of a head side by side in one projection."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        parts = 2 if config.position_encoding_2d else 1
        self.turn = Turn(config.head_dim // parts // 2)
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.core_attention = CoreAttention()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys and values, each ``[batch, heads, n, head_dim]``."""
        batch, n, _hidden = x.shape
        qkv = self.query_key_value(x).view(batch, n, self.heads, 3, self.head_dim)
        qk = self.turn(qkv[:, :, :, :2], rotary.cos, rotary.sin).transpose(1, 2)
        return qk[..., 0, :], qk[..., 1, :], qkv[..., 2, :].transpose(1, 2)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Return ``[batch, n, hidden]`` for `q` over `k` and `v`, as far as `mask` (bool) lets see."""
        # The published code divides and multiplies by layer + 1 around the softmax, which cancels.
        attended = self.core_attention(q, k, v, mask)
        out: Tensor = self.dense(attended.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    """Two linear layers around a tanh-approximated GELU."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.activation = nn.GELU(approximate="tanh")
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, n, hidden]`` to the same."""
        out: Tensor = self.dense_4h_to_h(self.activation(self.dense_h_to_4h(x)))
        return out


class Block(nn.Module):
    """One layer. Its residual is the LayerNorm's *output* times `ALPHA`, not the stream that came in."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.attention = Attention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        pieces: Sequence[Piece],
        cache: KVCache | Slots | None = None,
        layer: int = 0,
        meter: Meter | None = None,
        *,
        last_only: bool = False,
    ) -> Tensor:
        """Run `x` ``[batch, n, hidden]`` through the layer.

        A context sees itself in both directions: every row's keys must be there before the first attends.

        Args:
            x: the stream.
            pieces: its rows.
            cache: takes and gives the layer's keys and values; None: there are only those of `x` (training).
            layer: which one this is.
            meter: stepped twice for each piece.
            last_only: return the last row alone, which sees everything: ``[batch, 1, hidden]``.
        """
        step = meter or Meter()
        pending = []
        for piece in pieces:
            step()
            a = self.input_layernorm(x[:, piece.start : piece.stop])
            q, keys, values = self.attention.project(a, piece.turn)
            if cache is not None:
                keys, values = cache.append(layer, keys, values, piece.start)
            pending.append((piece, a, q))
        if last_only:
            pending = [(piece._replace(columns=keys.shape[2], mask=None), a[:, -1:], q[:, :, -1:])]
        outputs = []
        for piece, a, q in pending:
            step()
            seen = slice(piece.columns)
            attended = self.attention.attend(q, keys[:, :, seen], values[:, :, seen], piece.mask)
            m = self.post_attention_layernorm(torch.add(attended, a, alpha=ALPHA))
            outputs.append(torch.add(self.mlp(m), m, alpha=ALPHA))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


class Transformer(nn.Module):
    """Everything but the output layer, under its published name."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = Layers(Block(config) for _ in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.prefix_encoder: PrefixEncoder | None = None
        if config.pre_seq_len is not None:
            width = 2 * config.num_layers * config.hidden_size
            if config.prefix_projection:
                self.prefix_encoder = PrefixEncoder(
                    config.pre_seq_len, width, table=config.hidden_size, hidden=config.hidden_size
                )
            else:
                self.prefix_encoder = PrefixEncoder(config.pre_seq_len, width, table=width, hidden=None)


class ChatGLMCache(KVCache):
    """A cache that knows where its context ends, which every later position is counted from."""

    context_length = 0
    """Tokens before ``<sop>``."""
    mask_position = 0
    """Index of ``[gMASK]`` or ``[MASK]``."""
    uses_gmask = True

    def truncate(self, length: int) -> None:
        """Forget all tokens after the first `length`.

        The context sees itself in both directions, so it can be kept whole or not at all.
        """
        if 0 < length < self.context_length:
            raise ValueError(
                f"a bidirectional context of {self.context_length} tokens cannot be cut to {length}"
            )
        super().truncate(length)

    def read_layout(self, ids: Sequence[int], config: ChatGLMConfig) -> None:
        """Find the context's end and the mask token in a prompt.

        Without ``<sop>`` the whole prompt is context; without a mask token its last token stands for it.
        """
        self.context_length = _index(ids, config.bos_token_id, default=len(ids))
        self.uses_gmask = config.gmask_token_id in ids
        self.mask_position = _index(
            ids,
            config.gmask_token_id if self.uses_gmask else config.mask_token_id,
            default=max(self.context_length - 1, 0),
        )


class ChatGLM(nn.Module):
    """ChatGLM-6B of any size: token ids to logits. See `glmtui.models.base.LanguageModel`."""

    cache_dtype: torch.dtype | None = None
    """Of keys and values in the cache; None: that of the products."""
    TIED: Mapping[str, str] = {}
    """Weights that are another one's: the output layer's, where the config says so (as published)."""

    def __init__(self, config: ChatGLMConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.TIED = {"lm_head.weight": "transformer.word_embeddings.weight"}
        self.tie_weights()

    def tie_weights(self) -> None:
        """Make the output layer share the embedding's weight, where the config says so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.word_embeddings.weight

    def new_cache(self, capacity: int = 0) -> ChatGLMCache:
        """Return an empty cache with room for `capacity` tokens, and the P-tuning prefix if there is one."""
        config, encoder = self.config, self.transformer.prefix_encoder
        prefix = None
        if encoder is not None:
            dtype = self.transformer.final_layernorm.weight.dtype
            prefix = encoder.keys_values(
                config.num_layers, config.num_attention_heads, config.head_dim, dtype
            )
        return ChatGLMCache(config.num_layers, capacity, prefix, self.cache_dtype)

    @torch.inference_mode()
    def forward(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        *,
        last_only: bool = False,
        check: Check | None = None,
    ) -> Tensor:
        """Return float32 logits ``[n, vocab]`` (``[1, vocab]`` with `last_only`) for token `ids` ``[n]``.

        The context is bidirectional, so a prompt cannot be cut into shorter prompts: it goes through layer by
        layer, and long ones by `ROWS` rows inside a layer. `check` is called before each such piece.
        """
        cache = self.new_cache() if cache is None else cache
        assert isinstance(cache, ChatGLMCache)
        n, layers = ids.shape[0], self.transformer.layers
        if cache.length == 0:
            cache.read_layout(ids.tolist(), self.config)
        x = self.transformer.word_embeddings(ids)[None]
        index = torch.arange(cache.length, cache.length + n, device=ids.device)
        turns = self.turns(cache, index, x.dtype)
        stepped = layers.step(x, turns, cache) if n == 1 else None
        if stepped is not None:
            x = stepped
        else:
            pieces = list(_pieces(cache, turns))
            meter = Meter(check, 2 * len(pieces) * len(layers))
            for layer, block in enumerate(layers):
                x = block(x, pieces, cache, layer, meter, last_only=last_only and layer == len(layers) - 1)
        cache.advance(n)
        logits: Tensor = self.lm_head(self.transformer.final_layernorm(x[0]))
        return logits.float()

    @torch.inference_mode()
    def step(self, token: Tensor, slots: Slots) -> Tensor:
        """Return float32 logits ``[1, vocab]`` for `token` ``[1]`` in fixed shapes, where `slots` stand."""
        assert isinstance(slots.cache, ChatGLMCache)
        x = self.transformer.word_embeddings(token)[None]
        turn = self.turns(slots.cache, slots.position, x.dtype)
        pieces = [Piece(0, 1, slots.capacity, slots.mask, turn)]
        for layer, block in enumerate(self.transformer.layers):
            x = block(x, pieces, slots, layer)
        logits: Tensor = self.lm_head(self.transformer.final_layernorm(x[0]))
        return logits.float()

    def turns(self, cache: ChatGLMCache, index: Tensor, dtype: torch.dtype) -> Rotary:
        """Return the rotation of the tokens at `index` ``[n]`` of the sequence."""
        return rotary(self.positions(cache, index)[None], self.config.head_dim, dtype)

    def positions(self, cache: ChatGLMCache, index: Tensor) -> Tensor:
        """Return the positions ``[parts, n]`` of the tokens at `index` ``[n]`` of the sequence.

        Context: its index, and 0. From ``<sop>`` on: the mask token's index, and 1, 2, 3, …
        """
        context = index < cache.context_length
        if not self.config.position_encoding_2d:
            constant = index if cache.uses_gmask else torch.full_like(index, cache.mask_position)
            return torch.where(context, index, constant)[None]
        block = (index - cache.context_length + 1).clamp(min=0)
        return torch.stack((torch.where(context, index, cache.mask_position), block))


def _pieces(cache: ChatGLMCache, turns: Rotary) -> Iterator[Piece]:
    """Cut new rows, turned by `turns`. Those of the context see all of it, later ones what comes before."""
    before = cache.prefix_length + cache.length
    context = cache.prefix_length + cache.context_length
    n, device = turns.cos.shape[1], turns.cos.device
    for start in range(0, n, ROWS):
        stop = min(start + ROWS, n)
        columns = max(before + stop, context)
        mask = None
        if before + stop > context:
            mask = causal_mask(before + start, stop - start, columns, device)
            if mask is not None and before + start < context:
                mask[:, :context] = True
        yield Piece(start, stop, columns, mask, turns.rows(start, stop))


def _index(ids: Sequence[int], token: int, default: int) -> int:
    return ids.index(token) if token in ids else default

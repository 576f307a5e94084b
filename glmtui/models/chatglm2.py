"""ChatGLM2-6B, ChatGLM3-6B and CodeGeeX2-6B: pre-norm, grouped queries, rotary on half of every head, SwiGLU.

Attention is causal, so a prompt goes through in chunks and its keys and values serve the next question.
Module names are those of the published state dict, so that loading maps nothing. All large products are
plain `nn.Linear` and `nn.Embedding`: quantisation replaces them from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui.errors import BadFileError
from glmtui.models import layers
from glmtui.models.base import LanguageModel, Projection, Rotary, State
from glmtui.models.prefix import PrefixEncoder
from glmtui.protocol.phrases import _

_FIXED = {
    "rmsnorm": True,
    "post_layer_norm": True,
    "original_rope": True,
    "apply_residual_connection_post_layernorm": False,
}
"""Switches of the published code that every published model has in the same position."""


@dataclass(frozen=True)
class ChatGLM2Config:
    """Sizes and token ids, as ``config.json`` names them."""

    hidden_size: int
    num_layers: int
    num_attention_heads: int
    ffn_hidden_size: int
    kv_channels: int
    """Width of one attention head."""
    padded_vocab_size: int
    seq_length: int = 8192
    multi_query_attention: bool = True
    multi_query_group_num: int = 2
    """Heads of keys and values; each serves an equal share of the query heads in turn."""
    layernorm_epsilon: float = 1e-5
    add_bias_linear: bool = False
    add_qkv_bias: bool = True
    rope_ratio: float = 1.0
    """Stretches the rotary base for long contexts."""
    eos_token_id: int | tuple[int, ...] = 2
    pre_seq_len: int | None = None
    """Rows of the P-tuning prefix; None without one."""
    prefix_projection: bool = False
    tie_word_embeddings: bool = False

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ChatGLM2Config:
        """Read a ``config.json``.

        Raises:
            UserError: a size is missing or does not fit the others, or a switch stands as in no published
                model.
        """
        for name, value in _FIXED.items():
            if config.get(name, value) != value:
                message = _("config.json: {name} is {value}, which no published ChatGLM has")
                raise BadFileError(message.format(name=name, value=config[name]))
        known = {name: config[name] for name in cls.__dataclass_fields__ if config.get(name) is not None}
        if isinstance(known.get("eos_token_id"), list):
            known["eos_token_id"] = tuple(known["eos_token_id"])
        try:
            result = cls(**known)
        except TypeError as error:
            message = _("config.json is not complete for ChatGLM2-6B: {error}")
            raise BadFileError(message.format(error=error)) from None
        if result.num_attention_heads % result.groups or result.kv_channels % 4:
            message = _("config.json: {heads} attention heads cannot be shared among {groups} groups")
            raise BadFileError(message.format(heads=result.num_attention_heads, groups=result.groups))
        return result

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.kv_channels

    @property
    def groups(self) -> int:
        return self.multi_query_group_num if self.multi_query_attention else self.num_attention_heads

    @property
    def vocab_size(self) -> int:
        return self.padded_vocab_size

    @property
    def max_length(self) -> int:
        return self.seq_length

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``</s>``; the role tokens that end ChatGLM3's answers are the tokenizer's to know."""
        return (self.eos_token_id,) if isinstance(self.eos_token_id, int) else self.eos_token_id


def rotary(positions: Tensor, head_dim: int, base: float, dtype: torch.dtype) -> Rotary:
    """Return the rotation for `positions` ``[batch, n]``, as ``[batch, n, 1, head_dim]``.

    Neighbouring pairs in the first half of every head are rotated; the second half is left alone (cosine 1,
    sine 0). Angles are float32: the published ChatGLM2 computes them in half precision, which blurs positions
    beyond 2,048; ChatGLM3 mended that.
    """
    size = head_dim // 2
    exponents = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size
    angles = positions[..., None] * base**-exponents  # [batch, n, head_dim / 4]
    angles = F.pad(angles, (0, angles.shape[-1]))[:, :, None]
    cos, sin = angles.cos(), angles.sin()
    return Rotary(
        torch.stack((cos, cos), dim=-1).flatten(-2).to(dtype),
        torch.stack((-sin, sin), dim=-1).flatten(-2).to(dtype),
    )


class Attention(nn.Module):
    """The products of self-attention, with fewer heads of keys and values than of queries."""

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.heads, self.groups, self.head_dim = config.num_attention_heads, config.groups, config.kv_channels
        width = self.heads * self.head_dim
        self.query_key_value = nn.Linear(
            config.hidden_size,
            width + 2 * self.groups * self.head_dim,
            bias=config.add_bias_linear or config.add_qkv_bias,
        )
        self.rotary_embedding = layers.RotaryEmbedding(1)
        self.dense = nn.Linear(width, config.hidden_size, bias=config.add_bias_linear)

    def forward(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries ``[batch, heads, n, head_dim]``, rotated keys and values (of the groups)."""
        qkv = self.query_key_value(x).view(*x.shape[:2], -1, self.head_dim)
        qk = self.rotary_embedding(qkv[:, :, : -self.groups], rotary).transpose(1, 2)
        return qk[:, : self.heads], qk[:, self.heads :], qkv[:, :, -self.groups :].transpose(1, 2)


class MLP(nn.Module):
    """SwiGLU; the gate's rows come first in the projection."""

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        bias = config.add_bias_linear
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * config.ffn_hidden_size, bias=bias)
        self.activation = layers.SwiGLU()
        self.dense_4h_to_h = nn.Linear(config.ffn_hidden_size, config.hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dense_4h_to_h(self.activation(self.dense_h_to_4h(x)))
        return out


class Block(layers.Block):
    """One layer: each half adds to the stream what it makes of its norm."""

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.self_attention = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.layernorm_epsilon)
        self.mlp = MLP(config)

    def project(self, x: Tensor, rotary: Rotary) -> Projection:
        return Projection(x, *self.self_attention(self.input_layernorm(x), rotary))

    def finish(self, residual: Tensor, attended: Tensor) -> Tensor:
        x = residual + self.self_attention.dense(attended.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Embedding(nn.Module):
    """The embedding, under its published name."""

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)


class Encoder(nn.Module):
    """The layers and the last norm, under their published names."""

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.layers = layers.Layers(Block(config) for _ in range(config.num_layers))
        self.final_layernorm = nn.RMSNorm(config.hidden_size, eps=config.layernorm_epsilon)


class Transformer(nn.Module):
    """All of the model, under its published name."""

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.embedding = Embedding(config)
        self.encoder = Encoder(config)
        self.output_layer = nn.Linear(config.hidden_size, config.vocab_size, bias=config.add_bias_linear)
        self.prefix_encoder: PrefixEncoder | None = None
        if config.pre_seq_len is not None:
            self.prefix_encoder = new_prefix(config, config.pre_seq_len, projection=config.prefix_projection)


def new_prefix(config: ChatGLM2Config, rows: int, *, projection: bool) -> PrefixEncoder:
    """Return a prefix of that many rows for a network of these sizes."""
    width = 2 * config.num_layers * config.groups * config.kv_channels
    return PrefixEncoder(rows, width, width, config.hidden_size if projection else None)


class ChatGLM2(LanguageModel):
    """ChatGLM2-6B of any size: token ids to logits."""

    config: ChatGLM2Config
    EMBEDDING = "transformer.embedding.word_embeddings"
    OUTPUT = "transformer.output_layer"

    def __init__(self, config: ChatGLM2Config) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.tie_weights()

    def embed(self, ids: Tensor) -> Tensor:
        x: Tensor = self.transformer.embedding.word_embeddings(ids)
        return x

    def hidden(self, x: Tensor, positions: Tensor, mask: Tensor | None, state: State) -> Tensor:
        """``[batch, n, hidden]`` to the same, at `positions` ``[batch, n]``; see `LanguageModel`."""
        rotation = rotary(positions, self.config.kv_channels, 10000.0 * self.config.rope_ratio, x.dtype)
        encoder = self.transformer.encoder
        out: Tensor = encoder.final_layernorm(encoder.layers(x, rotation, mask, state))
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.transformer.output_layer(hidden)
        return logits.float()

    def prefix(self) -> Tensor | None:
        config, encoder = self.config, self.transformer.prefix_encoder
        if encoder is None:
            return None
        dtype = self.transformer.encoder.final_layernorm.weight.dtype
        return encoder.keys_values(config.num_layers, config.groups, config.kv_channels, dtype)

    def new_prefix(self, rows: int, *, projection: bool) -> PrefixEncoder:
        return new_prefix(self.config, rows, projection=projection)

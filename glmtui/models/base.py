"""What the engine asks of every architecture: one forward pass over a growing key/value cache."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing_extensions import Self

Check = Callable[[float], None]
"""Called between pieces of a prompt with the fraction done (0 to 1); raises to cancel."""
ROWS = 256
"""Rows of a prompt that go through a layer at once: bounds the memory and the wait for a cancel."""


class ModelConfig(Protocol):
    """The sizes that do not depend on the architecture."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, which may be more than the tokenizer has tokens."""

    @property
    def num_layers(self) -> int:
        """Transformer blocks."""

    @property
    def max_length(self) -> int:
        """Prompt and answer together that the model was made for, in tokens."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Any of these ends an answer."""


class KVCache:
    """Keys and values of one sequence: a tensor ``[1, heads, capacity, head_dim]`` each per layer.

    The buffers grow by whole steps, so a token costs no copy of what is there. A forward pass `append`s in
    every layer and then says `advance`; when it is cancelled in between, the cache is as it was before.

    Args:
        num_layers: layers of the model.
        capacity: tokens to make room for at once; more come as they are needed.
        prefix: P-tuning keys and values ``[num_layers, 2, heads, rows, head_dim]`` that lie before the first
            token. They count in no length.
        dtype: of the buffers; None takes that of the first keys.

    Every layer's buffer is where its keys come from: layers may lie on several devices.
    """

    STEP = 256

    def __init__(
        self,
        num_layers: int,
        capacity: int = 0,
        prefix: Tensor | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.dtype = dtype
        self.length = 0
        self.prefix_length = 0 if prefix is None else prefix.shape[3]
        self._prefix = prefix
        self._reserve = capacity
        self._buffers: list[Tensor | None] = [None] * num_layers  # each [2, 1, heads, capacity, head_dim]

    def append(self, layer: int, keys: Tensor, values: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Write `keys` and `values` ``[1, heads, n, head_dim]`` of one layer behind what it holds.

        `offset` is how many tokens of the same forward pass the layer has already been given. Returns views
        of all keys and all values, prefix first.
        """
        start = self.prefix_length + self.length + offset
        stop = start + keys.shape[2]
        buffer = self._buffers[layer]
        if buffer is None or buffer.shape[3] < stop:
            buffer = self._grow(layer, start, stop, keys)
        buffer[0, :, :, start:stop] = keys
        buffer[1, :, :, start:stop] = values
        both = buffer[:, :, :, :stop]
        return both[0], both[1]

    def advance(self, count: int) -> None:
        """Count `count` tokens as there, once every layer has been given them."""
        self.length += count

    def truncate(self, length: int) -> None:
        """Forget all tokens after the first `length`; the prefix stays."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate {self.length} tokens to {length}")
        self.length = length

    def reserve(self, count: int) -> None:
        """Make room for `count` more tokens in every layer."""
        start = self.prefix_length + self.length
        for layer, buffer in enumerate(self._buffers):
            if buffer is not None and buffer.shape[3] < start + count:
                self._grow(layer, start, start + count, buffer[0])

    def copy(self) -> Self:
        """Return another cache that holds the same and goes on by itself."""
        other = copy.copy(self)
        other._buffers = [buffer if buffer is None else buffer.clone() for buffer in self._buffers]
        return other

    def buffers(self, count: int) -> list[Tensor]:
        """Return each layer's ``[2, 1, heads, capacity, head_dim]``, with room for `count` more tokens.

        There are none before the first `append`.
        """
        self.reserve(count)
        return [buffer for buffer in self._buffers if buffer is not None]

    @property
    def nbytes(self) -> int:
        """Bytes that the buffers take."""
        return sum(buffer.nbytes for buffer in self._buffers if buffer is not None)

    def _grow(self, layer: int, start: int, stop: int, like: Tensor) -> Tensor:
        needed = max(stop, self._reserve + self.prefix_length)
        capacity = -(-needed // self.STEP) * self.STEP
        _batch, heads, _n, head_dim = like.shape
        grown = like.new_empty(2, 1, heads, capacity, head_dim, dtype=self.dtype)
        old = self._buffers[layer]
        if old is not None:
            grown[:, :, :, :start] = old[:, :, :, :start]
        elif self._prefix is not None:
            grown[:, 0, :, : self.prefix_length] = self._prefix[layer]
        self._buffers[layer] = grown
        return grown


class Slots:
    """A cache for one token at a time in fixed shapes, with the token's place in a tensor.

    It writes into the buffers of `cache`, which must hold a prompt, and always shows the whole of them; what
    lies behind the token is masked. `cache` does not count the token: its owner says `advance`.
    """

    def __init__(self, cache: KVCache) -> None:
        cache.reserve(1)
        self.cache = cache
        self._buffers = [buffer for buffer in cache._buffers if buffer is not None]
        first = self._buffers[0]
        self.capacity = first.shape[3]
        used = cache.prefix_length + cache.length
        for buffer in self._buffers:
            buffer[:, :, :, used:] = 0  # masked, but 0 times what is no number is none
        self._column = torch.zeros(1, dtype=torch.long, device=first.device)
        self._columns = torch.arange(self.capacity, device=first.device)

    def stand_at(self, index: int) -> None:
        """Let the next token be the one at `index`, the prefix not counted."""
        self._column.fill_(self.cache.prefix_length + index)

    def has_room(self) -> bool:
        """Whether the cache can take one more token without new buffers."""
        return self.cache.prefix_length + self.cache.length < self.capacity

    @property
    def position(self) -> Tensor:
        """Index of the token, int64 ``[1]``."""
        return self._column - self.cache.prefix_length

    @property
    def mask(self) -> Tensor:
        """What the token may see, bool ``[1, capacity]``."""
        return (self._columns <= self._column)[None]

    def append(self, layer: int, keys: Tensor, values: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Write `keys` and `values` ``[1, heads, 1, head_dim]``; return all of the layer's."""
        both = self._buffers[layer]
        both[0].index_copy_(2, self._column, keys.to(both.dtype))
        both[1].index_copy_(2, self._column, values.to(both.dtype))
        return both[0], both[1]


class CoreAttention(nn.Module):
    """Softmax attention of rotated queries over cached keys; heads may share keys in groups.

    Without parameters of its own, so that what is faster on some device can take its place.
    """

    def forward(self, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend as far as `mask` lets see.

        Args:
            q: ``[batch, heads, n, head_dim]``; the heads of a group lie side by side.
            keys: ``[batch, groups, columns, head_dim]``.
            values: the same.
            mask: bool, broadcastable to ``[batch, heads, n, columns]``.

        Returns:
            ``[batch, heads, n, head_dim]``.
        """
        if q.shape[1] == keys.shape[1]:
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        grouped = q.view(
            q.shape[0], keys.shape[1], -1, *q.shape[2:]
        )  # [batch, groups, heads of a group, n, head_dim]
        if q.shape[2] == 1:  # the heads of a group are the rows that read its keys once
            attended = F.scaled_dot_product_attention(grouped[..., 0, :], keys, values, attn_mask=mask)
            return attended.view_as(q)
        share = (-1, -1, grouped.shape[2], -1, -1)  # a group's keys are not copied
        keys, values = keys[:, :, None].expand(share), values[:, :, None].expand(share)
        assert q.shape[0] == 1, "heads that share keys are for inference, one sequence at a time"
        attended = F.scaled_dot_product_attention(grouped[0], keys[0], values[0], attn_mask=mask)
        return attended.reshape(q.shape)


class Turn(nn.Module):
    """Rotates the pairs of columns that rotary positions turn, `apart` columns from each other."""

    def __init__(self, apart: int) -> None:
        super().__init__()
        self.apart = apart

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return ``x cos + partner sin`` for `x` ``[..., head_dim]``; sine carries the sign."""
        partner = torch.unflatten(x, -1, (-1, 2, self.apart)).flip(-2).flatten(-3)
        return torch.addcmul(x * cos, partner, sin)


class SwiGLU(nn.Module):
    """``SiLU(gate) * up`` of ``[..., gate and up side by side]``."""

    def forward(self, x: Tensor) -> Tensor:
        """``[..., 2 width]`` to ``[..., width]``."""
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up


class Layers(nn.ModuleList):
    """The blocks of a network, in order.

    What is faster for one token than to call them one after another can take its place.
    """

    def step(self, x: Tensor, rotary: tuple[Tensor, Tensor], cache: KVCache) -> Tensor | None:
        """Run one token through all blocks at once; None where they have to be called, which nothing forbids.

        Args:
            x: the token, ``[..., hidden]``.
            rotary: cosine and sine of its position, ``head_dim`` elements; sine carries the rotation's sign.
            cache: is given the token's keys and values, which it does not count yet.

        Returns:
            The shape of `x`.
        """
        return None


class LanguageModel(Protocol):
    """One architecture with its weights."""

    @property
    def config(self) -> ModelConfig:
        """The sizes."""

    def __call__(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        *,
        last_only: bool = False,
        check: Check | None = None,
    ) -> Tensor:
        """Return float32 logits ``[n, vocab]`` (``[1, vocab]`` with `last_only`) for token `ids` ``[n]``.

        With an empty `cache` the ids are a prompt; with a filled one they continue it. Either way the cache
        then holds them. `check` is called between pieces of work; what it raises leaves the cache unchanged.
        """

    def new_cache(self, capacity: int = 0) -> KVCache:
        """Return an empty cache, holding the P-tuning prefix where the model has one."""

    def parameters(self, recurse: bool = True) -> Any:
        """The weights, as `torch.nn.Module` gives them."""


def causal_mask(first_row: int, rows: int, columns: int, device: torch.device) -> Tensor | None:
    """Return what each row may see, ``[rows, columns]`` bool: all columns up to its own place.

    Row ``i`` stands at column ``first_row + i``. None when every row sees everything.
    """
    if first_row >= columns - 1:
        return None
    places = torch.arange(first_row, first_row + rows, device=device)
    return torch.arange(columns, device=device) <= places[:, None]


class Meter:
    """Tells `check` before each of `steps` pieces of work how much is done."""

    def __init__(self, check: Check | None = None, steps: int = 1) -> None:
        self._check, self._steps, self._done = check, steps, 0

    def __call__(self) -> None:
        """Begin the next piece; raises what `check` raises."""
        if self._check is not None:
            self._check(self._done / self._steps)
        self._done += 1


class Chunk(NamedTuple):
    """Tokens that go through a causal network at once."""

    ids: Tensor
    """``[rows]``."""
    start: int
    """How many tokens of the same pass come before."""
    positions: Tensor
    """Places in the sequence, ``[rows]``."""
    mask: Tensor | None
    """What they see of all that the cache then holds, bool ``[rows, columns]``; None: everything."""


def in_chunks(
    run: Callable[[Chunk, Meter], Tensor],
    ids: Tensor,
    cache: KVCache,
    *,
    layers: int,
    last_only: bool = False,
    check: Check | None = None,
) -> Tensor:
    """Give a causal network the token `ids` ``[n]``, `ROWS` at a time, behind what `cache` holds.

    Args:
        run: takes a chunk through the layers, which append to `cache`, to hidden states ``[rows, hidden]``;
            it steps the meter in each of its `layers`.
        ids: at least one.
        cache: counts the tokens when all are through.
        layers: of the network.
        last_only: return the last row alone.
        check: see `LanguageModel`.

    Returns:
        ``[n, hidden]``, or ``[1, hidden]`` with `last_only`.
    """
    n, outputs = ids.shape[0], []
    meter = Meter(check, layers * -(-n // ROWS))
    for start in range(0, n, ROWS):
        part, first = ids[start : start + ROWS], cache.length + start
        rows, column = part.shape[0], cache.prefix_length + first
        positions = torch.arange(first, first + rows, device=ids.device)
        mask = causal_mask(column, rows, column + rows, ids.device)
        x = run(Chunk(part, start, positions, mask), meter)
        outputs.append(x[-1:] if last_only else x)
    cache.advance(n)
    return outputs[-1] if last_only or len(outputs) == 1 else torch.cat(outputs)

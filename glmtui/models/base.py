"""What the engine asks of every architecture, and the keys and values that a forward pass works on.

A forward pass is ``model.logits(model.hidden(model.embed(ids), positions, mask, state))``, all tensors of the
shape ``[batch, n, ...]``. The model says what a layer computes; the `State` says over which keys. Chunks,
progress and cancelling are `glmtui.engine.prefill`'s, CUDA graphs are `glmtui.engine.cuda_graph`'s.
"""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from typing_extensions import Self

Attend = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]
"""Attention of queries over keys and values under a mask: `glmtui.models.layers.CoreAttention`."""


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

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the output layer shares the embedding's weight."""


class ImageRows(NamedTuple):
    """A picture as a language model is given it: embeddings in the places of filler tokens."""

    rows: Tensor
    """Float32 ``[count, hidden]``."""
    grid: tuple[int, int] = (1, 0)
    """Of the rows: how many lie below and next to each other, for models whose positions tell (GLM-4.1V)."""


class PlacedImage(NamedTuple):
    """A picture in a sequence."""

    at: int
    """Index of its first token, the prefix not counted."""
    image: ImageRows


class LanguageModel(nn.Module, ABC):
    """One architecture with its weights."""

    sees_images: ClassVar[bool] = False
    """Whether there are `image_rows`, `image_blocks` and `encode_image`."""
    VISION: re.Pattern[str] | None = None
    """Names of the tensors that look at pictures. They are not quantised: of the rows of a picture (of the
    golden ``visualglm-tiny``) INT8 changes 3 % and INT4 32 %, bfloat16 0.9 %. So next to quantised weights
    they have 16 bits."""

    takes_any_state: ClassVar[bool] = True
    """Whether `hidden` takes every kind of `State`; else only those of one sequence whose length is known."""
    EMBEDDING: ClassVar[str]
    OUTPUT: ClassVar[str] = "lm_head"
    """Names of the modules that may share a weight."""
    TIED: Mapping[str, str] = {}
    """Weights that are another one's: the output layer's, where the config says so."""
    cache_storage: Storage
    """How keys and values lie in the cache; a class's is `Storage()`, in the dtype of the products."""
    exact_rows: int = 1
    """Tokens that a pass may take together, behind what their caches hold, so that each gets the very logits
    that it would get alone, to the bit."""
    config: ModelConfig

    def __init__(self) -> None:
        super().__init__()
        self.cache_storage = Storage()

    def tie_weights(self) -> None:
        """Make the output layer share the embedding's weight, where the config says so."""
        if self.config.tie_word_embeddings:
            self.TIED = {f"{self.OUTPUT}.weight": f"{self.EMBEDDING}.weight"}
            self.get_submodule(self.OUTPUT).weight = self.get_submodule(self.EMBEDDING).weight

    @abstractmethod
    def embed(self, ids: Tensor) -> Tensor:
        """Token `ids` ``[batch, n]`` to ``[batch, n, hidden]``."""

    @abstractmethod
    def hidden(self, x: Tensor, positions: Tensor, mask: Tensor | None, state: State) -> Tensor:
        """Run `x` ``[batch, n, hidden]`` through all layers and the last norm.

        Args:
            x: embedded tokens.
            positions: as `KVCache.positions` gives them, ``[batch, ..., n]``.
            mask: what each token sees of all keys that `state` then has, bool, broadcastable to
                ``[batch, heads, n, columns]``; None: everything.
            state: is given the tokens' keys and values.

        Returns:
            ``[batch, n, hidden]``.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """``[batch, n, hidden]`` to float32 ``[batch, n, vocab]``."""

    def image_rows(self, width: int, height: int) -> int:
        """Return how many tokens a picture of `width` times `height` pixels takes."""
        raise NotImplementedError

    @property
    def image_blocks(self) -> Iterable[nn.Module]:
        """What a look at a picture goes through one after another, and may be given up between."""
        raise NotImplementedError

    def encode_image(self, picture: Picture) -> ImageRows:
        """Look at a picture in RGB, as `glmtui.images.decode` returns it."""
        raise NotImplementedError

    def prefix(self) -> Tensor | None:
        """Return the P-tuning prefix ``[num_layers, 2, groups, rows, head_dim]``; None without one."""
        return None

    def checkpoint_layers(self, on: bool) -> None:
        """Compute layers again for the gradient, where their `State` cannot see to it."""

    def new_cache(self, capacity: int = 0) -> KVCache:
        """Return an empty cache with room for `capacity` tokens, and the P-tuning prefix if there is one."""
        prefix = self.prefix()
        prefix = None if prefix is None else prefix.detach()
        return KVCache(self.config.num_layers, capacity, prefix, self.cache_storage)


class Rotary(NamedTuple):
    """Cosine and sine of every token's position, ``[batch, n, 1, ..., head_dim]``."""

    cos: Tensor
    sin: Tensor
    """It carries the rotation's sign."""

    def rows(self, rows: slice) -> Rotary:
        """Return those of some of the tokens."""
        return Rotary(self.cos[:, rows], self.sin[:, rows])


class Projection(NamedTuple):
    """What a block makes of the stream before tokens see each other."""

    residual: Tensor
    """``[batch, n, hidden]``, what the attention is added to."""
    q: Tensor
    """``[batch, heads, n, head_dim]``, rotated as the keys are."""
    k: Tensor
    """``[batch, groups, n, head_dim]``."""
    v: Tensor
    """The same."""


class Block(Protocol):
    """One layer, in the two halves between which tokens see each other."""

    def project(self, x: Tensor, rotary: Rotary) -> Projection:
        """Make queries, keys and values of `x` ``[batch, n, hidden]``."""

    @property
    def core_attention(self) -> Attend:
        """What lets the tokens see each other."""

    def finish(self, residual: Tensor, attended: Tensor) -> Tensor:
        """Make the next layer's stream of what was `attended` ``[batch, heads, n, head_dim]``."""


class Place(NamedTuple):
    """Where a token's keys and values go: behind all that it sees."""

    cache: KVCache
    column: int
    """As many keys, those of a prefix too, are before it."""


class State:
    """Where a forward pass puts new keys and values, and finds those to attend to."""

    length = 0
    """Tokens before those of the pass."""

    def places(self, count: int) -> list[Place] | None:
        """Return where the `count` tokens of the pass go, if that tells all about who sees what.

        It does where every token sees all before it in its sequence and none behind.
        """
        return None

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in `keys` and `values` ``[batch, groups, n, head_dim]`` of one layer; return all of its."""
        raise NotImplementedError

    def attend(
        self, layer: int, attend: Attend, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Take in `keys` and `values` as `append` does; return what `q` attends to, in its shape."""
        return attend(q, *self.append(layer, keys, values), mask)

    def run(self, layer: int, block: Block, x: Tensor, rotary: Rotary, mask: Tensor | None) -> Tensor:
        """Run `x` ``[batch, n, hidden]`` through `block`."""
        residual, q, k, v = block.project(x, rotary)
        return block.finish(residual, self.attend(layer, block.core_attention, q, k, v, mask))


class PrefixState(State):
    """No cache: the tokens of the pass see each other alone, behind a P-tuning prefix. This is for training.

    Args:
        prefix: ``[num_layers, 2, groups, rows, head_dim]``, which may have gradients; None: there is none.
            A mask counts its rows as the first columns.
    """

    def __init__(self, prefix: Tensor | None = None) -> None:
        self.prefix = prefix

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return `keys` and `values` behind those of the prefix."""
        if self.prefix is None:
            return keys, values
        prefix = self.prefix[layer][:, None].expand(-1, len(keys), -1, -1, -1)
        return torch.cat((prefix[0], keys), dim=2), torch.cat((prefix[1], values), dim=2)


class Storage:
    """How keys and values lie in a `KVCache`: as they are, ``[2, 1, groups, capacity, head_dim]`` per layer.

    Args:
        dtype: of the buffers; None takes that of the first keys.
    """

    unit = 1
    """How many tokens share a place in the fourth dimension of a buffer."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype

    def new(self, keys: Tensor, capacity: int) -> Tensor:
        """Return a buffer for `capacity` tokens, a multiple of `unit`, with keys such as these
        ``[1, groups, n, head_dim]``, on their device."""
        _batch, groups, _n, head_dim = keys.shape
        return keys.new_empty(2, 1, groups, capacity, head_dim, dtype=self.dtype)

    def larger(self, buffer: Tensor, capacity: int) -> Tensor:
        """Return an empty one like `buffer` for `capacity` tokens."""
        return buffer.new_empty(*buffer.shape[:3], capacity // self.unit, *buffer.shape[4:])

    def put(self, buffer: Tensor, start: int, keys: Tensor, values: Tensor) -> None:
        """Write `keys` and `values` ``[1, groups, n, head_dim]`` behind `start` tokens."""
        stop = start + keys.shape[2]
        buffer[0, :, :, start:stop] = keys
        buffer[1, :, :, start:stop] = values

    def attend(self, attend: Attend, q: Tensor, buffer: Tensor, columns: int, mask: Tensor | None) -> Tensor:
        """Return what `q` ``[1, heads, n, head_dim]`` attends to among the first `columns` tokens."""
        both = buffer[:, :, :, :columns]
        return attend(q, both[0], both[1], mask)


class KVCache(State):
    """Keys and values of one sequence, in a buffer per layer as `Storage` has it.

    The buffers grow by whole steps, so a token costs no copy of what is there. A forward pass `append`s in
    every layer and its owner then says `advance`; when it is cancelled in between, the cache is as it was.

    Args:
        num_layers: layers of the model.
        capacity: tokens to make room for at once; more come as they are needed.
        prefix: P-tuning keys and values ``[num_layers, 2, groups, rows, head_dim]`` that lie before the first
            token. They count in no length.
        storage: how the buffers are laid out.

    Every layer's buffer is where its keys come from: layers may lie on several devices.
    """

    STEP = 256

    def __init__(
        self,
        num_layers: int,
        capacity: int = 0,
        prefix: Tensor | None = None,
        storage: Storage | None = None,
    ) -> None:
        self.storage = storage or Storage()
        self.length = 0
        self.prefix_length = 0 if prefix is None else prefix.shape[3]
        self._prefix = prefix
        self._reserve = capacity
        self._buffers: list[Tensor | None] = [None] * num_layers

    # --- what the architecture says of its tokens ---

    def begin(self, ids: Tensor) -> None:
        """Tell the cache which `ids` ``[n]`` come next. Empty, it takes them for the prompt."""

    def see(self, images: Sequence[PlacedImage]) -> None:
        """Tell the cache of pictures among the tokens that come next, before `begin`."""

    @property
    def indivisible(self) -> int:
        """How many of the next tokens must go through a layer before any of them attends; 0 if none must."""
        return 0

    def positions(self, index: Tensor) -> Tensor:
        """Return the positions ``[1, ..., n]`` of the tokens at `index` ``[n]`` of the sequence."""
        return index[None]

    def mask(self, start: int, rows: int, device: torch.device) -> Tensor | None:
        """Return what `rows` tokens see, `start` tokens after the last one, bool ``[rows, columns]``.

        The columns are those of the prefix, the cache and the tokens; None: all see everything.
        """
        first = self.prefix_length + self.length + start
        return causal_mask(first, rows, first + rows, device)

    def reusable(self, ids: Sequence[int], common: int) -> int:
        """Return how many tokens serve the prompt `ids`, whose first `common` ones are those of this."""
        return min(common, self.length)

    # --- keys and values ---

    def places(self, count: int, offset: int = 0) -> list[Place] | None:
        """Return where the next `count` tokens go, `offset` tokens after the last one. See `State.places`.

        The first tokens of a cache have no places: they make the buffers.
        """
        if self.indivisible > offset or any(buffer is None for buffer in self._buffers):
            return None
        first = self.prefix_length + self.length + offset
        return [Place(self, column) for column in range(first, first + count)]

    def put(self, layer: int, keys: Tensor, values: Tensor, offset: int = 0) -> int:
        """Write `keys` and `values` ``[1, groups, n, head_dim]`` of one layer after those it has.

        `offset` is how many tokens of the same forward pass the layer has already been given. Returns how
        many it then has, the prefix with them.
        """
        start = self.prefix_length + self.length + offset
        stop = start + keys.shape[2]
        buffer = self._buffers[layer]
        if buffer is None or self._capacity(buffer) < stop:
            buffer = self._grow(layer, start, stop, buffer, keys)
        self.storage.put(buffer, start, keys, values)
        return stop

    def look(self, layer: int, attend: Attend, q: Tensor, columns: int, mask: Tensor | None) -> Tensor:
        """Return what `q` ``[1, heads, n, head_dim]`` attends to among a layer's first `columns` tokens."""
        buffer = self._buffers[layer]
        assert buffer is not None
        return self.storage.attend(attend, q, buffer, columns, mask)

    def attend(
        self, layer: int, attend: Attend, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        return self.look(layer, attend, q, self.put(layer, keys, values), mask)

    def append(self, layer: int, keys: Tensor, values: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Do as `put`; return views of all keys and all values, prefix first. Only for those that lie as they
        are."""
        stop = self.put(layer, keys, values, offset)
        buffer = self._buffers[layer]
        assert buffer is not None
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

    def reserve(self, count: int, offset: int = 0) -> None:
        """Make room for `count` more tokens in every layer, behind `offset` tokens of the same pass."""
        start = self.prefix_length + self.length + offset
        for layer, buffer in enumerate(self._buffers):
            if buffer is not None and self._capacity(buffer) < start + count:
                self._grow(layer, start, start + count, buffer)

    def copy(self, length: int | None = None) -> Self:
        """Return another cache with the first `length` tokens (by default all), independent of this one."""
        other = copy.copy(self)
        other.truncate(self.length if length is None else length)
        used = self.prefix_length + other.length
        other._reserve = 0
        other._buffers = [None] * len(self._buffers)
        for layer, buffer in enumerate(self._buffers):
            if buffer is not None:
                other._grow(layer, used, used, buffer)
        return other

    def buffers(self, count: int, offset: int = 0) -> list[Tensor]:
        """Return each layer's buffer (see `Storage`), with room as `reserve` makes it.

        There are none before the first `put`.
        """
        self.reserve(count, offset)
        return [buffer for buffer in self._buffers if buffer is not None]

    @property
    def capacity(self) -> int:
        """Columns that the buffers have, those of the prefix included; 0 before the first `put`."""
        return max((self._capacity(buffer) for buffer in self._buffers if buffer is not None), default=0)

    @property
    def nbytes(self) -> int:
        """Bytes that the buffers take."""
        return sum(buffer.nbytes for buffer in self._buffers if buffer is not None)

    def _capacity(self, buffer: Tensor) -> int:
        return buffer.shape[3] * self.storage.unit

    def _grow(
        self, layer: int, start: int, stop: int, old: Tensor | None, keys: Tensor | None = None
    ) -> Tensor:
        """Give a layer room for `stop` tokens, of which the first `start` lie in `old`; the first `keys` say
        what they are like."""
        needed = max(stop, self._reserve + self.prefix_length)
        capacity = -(-needed // self.STEP) * self.STEP
        if old is not None:
            used = -(-start // self.storage.unit)
            grown = self.storage.larger(old, capacity)
            grown[:, :, :, :used] = old[:, :, :, :used]
        else:
            assert keys is not None
            grown = self.storage.new(keys, capacity)
            if self._prefix is not None:
                prefix = self._prefix[layer][:, None]  # [2, 1, groups, rows, head_dim]
                self.storage.put(grown, 0, prefix[0], prefix[1])
        self._buffers[layer] = grown
        return grown


class StaticCache(State):
    """A cache for some tokens at a time in fixed shapes, with the first one's index in a tensor.

    It writes into the buffers of `cache`, which must hold a prompt, and always shows them to their full
    capacity; what lies after a token is masked. `cache` does not count the tokens: its owner `advance`s it.

    Args:
        cache: of one sequence, with room for the tokens.
        width: how many tokens.
    """

    def __init__(self, cache: KVCache, width: int = 1) -> None:
        self.cache = cache
        self._buffers = cache.buffers(width)
        first = self._buffers[0]
        self.capacity = cache.capacity
        used = cache.prefix_length + cache.length
        for buffer in self._buffers:
            buffer[:, :, :, used:] = 0  # masked, but 0 times what is no number is none
        self._offsets = torch.arange(width, device=first.device) + cache.prefix_length
        self._places = self._offsets.clone()  # columns of the tokens
        self._columns = torch.arange(self.capacity, device=first.device)

    def move_to(self, index: int) -> None:
        """Let the next tokens be those from `index` on, the prefix not counted."""
        torch.add(self._offsets, index, out=self._places)

    def has_room(self) -> bool:
        """Whether the cache has the same buffers still, and room in them for as many tokens."""
        used = self.cache.prefix_length + self.cache.length
        return self.cache.capacity == self.capacity and used + len(self._offsets) <= self.capacity

    @property
    def positions(self) -> Tensor:
        """The tokens' positions, as `KVCache.positions` gives them."""
        return self.cache.positions(self._places - self.cache.prefix_length)

    @property
    def mask(self) -> Tensor:
        """What the tokens see, bool ``[width, capacity]``."""
        return self._columns <= self._places[:, None]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write `keys` and `values` ``[1, groups, width, head_dim]``; return all of the layer's."""
        both = self._buffers[layer]
        both[0].index_copy_(2, self._places, keys.to(both.dtype))
        both[1].index_copy_(2, self._places, values.to(both.dtype))
        return both[0], both[1]


class CacheBatch(State):
    """Several sequences one behind another, each with its own cache: products are shared, attention is not.

    So every sequence gets what it would get alone, and none waits for, or is padded to, a longer one's keys.

    Args:
        caches: one of each sequence, all different.
        counts: how many of the pass's tokens are each sequence's, in this order.
        device: the tokens'.
        begin_layer: called before each layer; raises to cancel.
    """

    def __init__(
        self,
        caches: Sequence[KVCache],
        counts: Sequence[int],
        device: torch.device,
        begin_layer: Callable[[], None] | None = None,
    ) -> None:
        self.caches, self.counts, self._begin_layer = caches, counts, begin_layer
        self._masks = [cache.mask(0, count, device) for cache, count in zip(caches, counts, strict=True)]

    def places(self, count: int) -> list[Place] | None:
        each = [cache.places(own) for cache, own in zip(self.caches, self.counts, strict=True)]
        if None in each:
            return None
        if self._begin_layer is not None:
            self._begin_layer()
        return [place for places in each for place in places or ()]

    def run(self, layer: int, block: Block, x: Tensor, rotary: Rotary, mask: Tensor | None) -> Tensor:
        """Let each sequence attend to its own keys, as its own mask says."""
        if self._begin_layer is not None:
            self._begin_layer()
        residual, *projected = block.project(x, rotary)
        parts = zip(*(torch.split(each, list(self.counts), dim=2) for each in projected), strict=True)
        attended = [
            cache.attend(layer, block.core_attention, q, k, v, seen)  # [1, heads, count, head_dim]
            for cache, seen, (q, k, v) in zip(self.caches, self._masks, parts, strict=True)
        ]
        return block.finish(residual, torch.cat(attended, dim=2))


def causal_mask(first_row: int, rows: int, columns: int, device: torch.device) -> Tensor | None:
    """Return what each row may see, ``[rows, columns]`` bool: all columns up to its own place.

    Row ``i`` stands at column ``first_row + i``. None when every row sees everything.
    """
    if first_row >= columns - 1:
        return None
    places = torch.arange(first_row, first_row + rows, device=device)
    return torch.arange(columns, device=device) <= places[:, None]

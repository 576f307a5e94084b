"""Reads tokens into caches: in chunks that bound the memory and the wait for a cancel, with progress.

In a causal network a chunk goes through all layers before the next one does. A context that sees itself in
both directions cannot be cut like that: there all chunks go through a layer, and only then through the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmtui.models.base import Block, CacheBatch, KVCache, LanguageModel, Place, PlacedImage, Rotary, State

Check = Callable[[float], None]
"""Called between pieces of work with the fraction done (0 to 1); raises to cancel."""
ROWS = 256
"""Tokens that go through a layer at once."""


@torch.inference_mode()
def read(
    model: LanguageModel,
    ids: Tensor,
    cache: KVCache | None = None,
    *,
    last_only: bool = False,
    check: Check | None = None,
    images: Sequence[PlacedImage] = (),
) -> Tensor:
    """Return float32 logits ``[n, vocab]`` (``[1, vocab]`` with `last_only`) for token `ids` ``[n]``.

    With an empty `cache` the ids are a prompt; with a filled one they continue it. Either way the cache then
    holds them. `check` is called before every chunk in every layer; what it raises leaves the cache alone.
    The rows of `images` go in the places of their tokens, as far as those are among `ids`.
    """
    cache = model.new_cache() if cache is None else cache
    if images:
        cache.see(images)
    cache.begin(ids)
    n = len(ids)
    if n == 1:  # most tokens: without any bookkeeping
        found = _run(model, ids, cache, 0, cache.mask(0, 1, ids.device), cache, images)
    else:
        hidden = _read_chunks(model, ids, cache, last_only, check, images)
        found = hidden[-1][:, -1:] if last_only else torch.cat(hidden, dim=1)
    cache.advance(n)
    return model.logits(found)[0]


def _read_chunks(
    model: LanguageModel,
    ids: Tensor,
    cache: KVCache,
    last_only: bool,
    check: Check | None,
    images: Sequence[PlacedImage],
) -> list[Tensor]:
    """Return the hidden states ``[1, n, hidden]`` of each pass."""
    n, layers = len(ids), model.config.num_layers
    first = max(-(-cache.indivisible // ROWS), 1) * ROWS  # tokens of the first pass
    ends = [*range(first, n, ROWS), n]
    passes = list(zip([0, *ends], ends, strict=False))
    progress = Progress(check, layers * sum(_steps(stop - start) for start, stop in passes))
    hidden: list[Tensor] = []
    for start, stop in passes:
        mask = cache.mask(start, stop - start, ids.device)
        needed = None if not last_only else 1 if stop == n else 0
        chunks = _chunks(stop - start, mask)
        state = Reading(cache, start, chunks, progress, layers - 1, needed)
        hidden.append(_run(model, ids[start:stop], cache, start, mask, state, images))
    return hidden


def _run(
    model: LanguageModel,
    ids: Tensor,
    cache: KVCache,
    start: int,
    mask: Tensor | None,
    state: State,
    images: Sequence[PlacedImage] = (),
) -> Tensor:
    """Run `ids` ``[n]``, which come `start` tokens after those in `cache`; return ``[1, n, hidden]``."""
    first = cache.length + start
    index = torch.arange(first, first + len(ids), device=ids.device)
    x = model.embed(ids[None])
    for at, image in images:
        low, high = max(at, first), min(at + len(image.rows), first + len(ids))
        if low < high:
            x[0, low - first : high - first] = image.rows[low - at : high - at].to(x)
    return model.hidden(x, cache.positions(index), mask, state)


@torch.inference_mode()
def read_batch(
    model: LanguageModel,
    ids: Sequence[Tensor],
    caches: Sequence[KVCache],
    *,
    last_only: bool = False,
    check: Check | None = None,
) -> list[Tensor]:
    """Read each of `ids` ``[n]`` into its own cache; return the logits of each as `read` does.

    What is short goes through together, so that the weights are read once for all; a long prompt fills a
    chunk by itself. Few tokens behind a filled cache get, to the bit, what `read` would give them
    (`LanguageModel.exact_rows`). What `check` raises leaves all caches as they were.
    """
    lengths = [cache.length for cache in caches]
    found: dict[int, Tensor] = {}
    try:
        for group in _groups(model, ids, caches):
            own, into = [ids[i] for i in group], [caches[i] for i in group]
            if len(group) == 1:
                logits = [read(model, own[0], into[0], last_only=last_only, check=check)]
            else:
                logits = _read_together(model, own, into, last_only, check)
            found |= zip(group, logits, strict=True)
    except BaseException:
        for cache, length in zip(caches, lengths, strict=True):
            cache.truncate(min(length, cache.length))
        raise
    return [found[i] for i in range(len(ids))]


def _groups(model: LanguageModel, ids: Sequence[Tensor], caches: Sequence[KVCache]) -> list[list[int]]:
    """Return which sequences go together: few tokens whose logits stay exact, and what else is short."""
    groups: list[list[int]] = []
    open_groups: dict[int, tuple[list[int], int]] = {}  # of each limit the last group, and its tokens
    for i, (each, cache) in enumerate(zip(ids, caches, strict=True)):
        is_exact = 1 < model.exact_rows >= len(each) and cache.length > 0
        limit = model.exact_rows if is_exact else ROWS
        group, count = open_groups.get(limit, ([], limit))
        if not model.takes_any_state or count + len(each) > limit:
            group, count = [], 0
            groups.append(group)
        group.append(i)
        open_groups[limit] = group, count + len(each)
    return groups


def _read_together(
    model: LanguageModel,
    ids: Sequence[Tensor],
    caches: Sequence[KVCache],
    last_only: bool,
    check: Check | None,
) -> list[Tensor]:
    """Return the logits ``[n, vocab]`` or ``[1, vocab]`` of each sequence."""
    counts = [len(each) for each in ids]
    for each, cache in zip(ids, caches, strict=True):
        cache.begin(each)
    tokens = torch.cat(list(ids))
    index = torch.arange(max(counts), device=tokens.device)
    each_own = [cache.positions(index[:n] + cache.length) for cache, n in zip(caches, counts, strict=True)]
    positions = torch.cat(each_own, dim=-1)  # [1, ..., n of all]
    progress = Progress(check, model.config.num_layers)
    state = CacheBatch(caches, counts, tokens.device, progress.step)
    hidden = model.hidden(model.embed(tokens[None]), positions, None, state)  # [1, n of all, hidden]
    for cache, n in zip(caches, counts, strict=True):
        cache.advance(n)
    if last_only:
        ends = torch.tensor(counts, device=tokens.device).cumsum(0) - 1
        return list(torch.split(model.logits(hidden[:, ends])[0], 1))
    return list(torch.split(model.logits(hidden)[0], counts))


class Progress:
    """Tells `check` before each of `steps` pieces of work how much is done."""

    def __init__(self, check: Check | None, steps: int) -> None:
        self._check, self._steps, self._done = check, steps, 0

    def step(self) -> None:
        """Begin the next piece; raises what `check` raises."""
        if self._check is not None:
            self._check(self._done / self._steps)
        self._done += 1


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens that go through a layer at once."""

    rows: slice
    """Which of the pass."""
    columns: int | None = None
    """They see no keys behind so many; None: the mask says it."""
    sees_all: bool = False
    """They see all of these columns."""

    def mask(self, mask: Tensor | None) -> Tensor | None:
        """Return the part for this chunk of the pass's `mask` ``[rows, columns]``."""
        return None if mask is None or self.sees_all else mask[self.rows, : self.columns]


def _steps(n: int) -> int:
    chunks = -(-n // ROWS)
    return 1 if chunks == 1 else 2 * chunks


def _chunks(n: int, mask: Tensor | None) -> list[Chunk]:
    """Cut a pass of `n` tokens, which `mask` ``[n, columns]`` lets see."""
    if n <= ROWS:
        return [Chunk(slice(0, n))]
    rows = [slice(start, min(start + ROWS, n)) for start in range(0, n, ROWS)]
    if mask is None:
        return [Chunk(each) for each in rows]
    ends = [int(mask[each].any(0).nonzero()[-1]) + 1 for each in rows]
    return [Chunk(each, end, bool(mask[each, :end].all())) for each, end in zip(rows, ends, strict=True)]


class Reading(State):
    """One pass of `read`, which puts keys and values into a cache chunk by chunk.

    Args:
        cache: counts the tokens when all passes are through.
        start: tokens of earlier passes.
        chunks: those of this one.
        progress: stepped twice for every chunk in every layer, or once where there is only one.
        last_layer: its number.
        needed: how many hidden states of the last tokens are asked for, which is all that the last layer then
            computes; None: of all tokens.
    """

    def __init__(
        self,
        cache: KVCache,
        start: int,
        chunks: Sequence[Chunk],
        progress: Progress,
        last_layer: int,
        needed: int | None,
    ) -> None:
        self.length = cache.length + start
        self._cache, self._start, self._chunks, self._progress = cache, start, chunks, progress
        self._last_layer, self._needed = last_layer, needed

    def places(self, count: int) -> list[Place] | None:
        """Return where the tokens go, if they all go at once. See `State.places`."""
        places = self._cache.places(count, self._start)
        if places is not None:
            self._progress.step()
        return places

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the keys and values of the only chunk."""
        self._progress.step()
        return self._cache.append(layer, keys, values, self._start)

    def run(self, layer: int, block: Block, x: Tensor, rotary: Rotary, mask: Tensor | None) -> Tensor:
        """Run `x` through `block`: no chunk attends before the keys of all are there."""
        projected = []
        for chunk in self._chunks:
            self._progress.step()
            residual, q, k, v = block.project(x[:, chunk.rows], rotary.rows(chunk.rows))
            columns = self._cache.put(layer, k, v, self._start + chunk.rows.start)
            projected.append((chunk, residual, q))
        if layer == self._last_layer and self._needed is not None:
            if not self._needed:
                return x[:, :0]
            last = Chunk(slice(-1, None), sees_all=True)
            projected = [(last, residual[:, -1:], q[:, :, -1:])]
        outputs = []
        for chunk, residual, q in projected:
            if len(self._chunks) > 1:
                self._progress.step()
            seen = chunk.columns or columns
            attended = self._cache.look(layer, block.core_attention, q, seen, chunk.mask(mask))
            outputs.append(block.finish(residual, attended))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

"""Reads tokens into caches: in chunks that bound the memory and the wait for a cancel, with progress.

In a causal network a chunk goes through all layers before the next one does. A context that sees itself in
both directions cannot be cut like that: there all chunks go through a layer, and only then through the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from glmtui.models.base import Block, CacheBatch, KVCache, LanguageModel, Rotary, State

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
) -> Tensor:
    """Return float32 logits ``[n, vocab]`` (``[1, vocab]`` with `last_only`) for token `ids` ``[n]``.

    With an empty `cache` the ids are a prompt; with a filled one they continue it. Either way the cache then
    holds them. `check` is called before every chunk in every layer; what it raises leaves the cache alone.
    """
    cache = model.new_cache() if cache is None else cache
    cache.begin(ids)
    n = len(ids)
    if n == 1:  # most tokens: without any bookkeeping
        found = _run(model, ids, cache, 0, cache.mask(0, 1, ids.device), cache)
    else:
        hidden = _read_chunks(model, ids, cache, last_only, check)
        found = hidden[-1][:, -1:] if last_only else torch.cat(hidden, dim=1)
    cache.advance(n)
    return model.logits(found)[0]


def _read_chunks(
    model: LanguageModel, ids: Tensor, cache: KVCache, last_only: bool, check: Check | None
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
        hidden.append(_run(model, ids[start:stop], cache, start, mask, state))
    return hidden


def _run(
    model: LanguageModel, ids: Tensor, cache: KVCache, start: int, mask: Tensor | None, state: State
) -> Tensor:
    """Run `ids` ``[n]``, which come `start` tokens after those in `cache`; return ``[1, n, hidden]``."""
    first = cache.length + start
    index = torch.arange(first, first + len(ids), device=ids.device)
    return model.hidden(model.embed(ids[None]), cache.positions(index), mask, state)


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
    chunk by itself. What `check` raises leaves all caches as they were.
    """
    lengths = [cache.length for cache in caches]
    together = [i for i, each in enumerate(ids) if len(each) * len(ids) <= ROWS]
    together = together if len(together) > 1 and model.takes_any_state else []
    found: dict[int, Tensor] = {}
    try:
        for i, each in enumerate(ids):
            if i not in together:
                found[i] = read(model, each, caches[i], last_only=last_only, check=check)
        if together:
            rows = _read_together(model, [ids[i] for i in together], [caches[i] for i in together], check)
            for i, row in zip(together, rows, strict=True):
                found[i] = model.logits(row[:, -1:] if last_only else row)[0]
    except BaseException:
        for cache, length in zip(caches, lengths, strict=True):
            cache.truncate(min(length, cache.length))
        raise
    return [found[i] for i in range(len(ids))]


def _read_together(
    model: LanguageModel, ids: Sequence[Tensor], caches: Sequence[KVCache], check: Check | None
) -> list[Tensor]:
    """Return the hidden states ``[1, n, hidden]`` of each sequence."""
    counts = [len(each) for each in ids]
    for each, cache in zip(ids, caches, strict=True):
        cache.begin(each)
    padded = pad_sequence(list(ids), batch_first=True)  # [batch, longest]
    index = torch.arange(padded.shape[1], device=padded.device)
    positions = torch.cat([cache.positions(index + cache.length) for cache in caches])
    mask = None
    if max(counts) > 1:
        columns = [cache.prefix_length + cache.length + n for cache, n in zip(caches, counts, strict=True)]
        mask = padded.new_zeros(len(ids), 1, max(counts), max(columns), dtype=torch.bool)
        for i, (cache, n) in enumerate(zip(caches, counts, strict=True)):
            seen = cache.mask(0, n, padded.device)
            mask[i, 0, :n, : columns[i]] = True if seen is None else seen
    state = CacheBatch(caches, counts, Progress(check, model.config.num_layers).step)
    hidden = model.hidden(model.embed(padded), positions, mask, state)
    for cache, n in zip(caches, counts, strict=True):
        cache.advance(n)
    return [hidden[i : i + 1, :n] for i, n in enumerate(counts)]


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

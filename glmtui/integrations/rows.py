"""The forward pass of a padded batch as transformers has it: every sequence is read without its padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glmtui.engine.prefill import read_batch
from glmtui.models.base import Attend, Block, KVCache, LanguageModel, PrefixState, Rotary, State


@dataclass
class Row:
    """One sequence of a batch, and what is computed for it."""

    real: Tensor
    """Which of the batch's columns are its tokens, bool ``[columns]``; the others are padding."""
    cache: KVCache
    ids: Tensor
    """``[n]``, without padding, behind those of the cache."""
    embeds: Tensor | None = None
    """``[n, hidden]`` in place of `ids`."""
    opening: int = 0
    """How many of its tokens were put before those of the batch."""
    logits: Tensor = field(init=False)
    """``[n, vocab]``, or ``[1, vocab]`` of the last token."""
    hidden: list[Tensor] = field(default_factory=list)
    """What each layer was given, and what the last norm returned, ``[n, hidden]`` each."""

    @property
    def positions(self) -> Tensor:
        """Where the network takes the tokens to be, ``[..., n]``, without the opening."""
        index = torch.arange(len(self.ids), device=self.ids.device) + self.cache.length
        return self.cache.positions(index)[0, ..., self.opening :]

    def spread(self, values: Tensor) -> Tensor:
        """Put `values` ``[n, width]`` in the batch's columns ``[columns, width]``; padding is zeros."""
        columns = values.new_zeros(len(self.real), values.shape[-1], device=self.real.device)
        columns[self.real] = values[self.opening :].to(self.real.device)
        return columns

    def last(self) -> Tensor:
        """Return the logits of the last token ``[1, vocab]``."""
        return self.logits[-1:].to(self.real.device)


def read_rows(network: LanguageModel, rows: Iterable[Row], *, last_only: bool) -> None:
    """Compute the logits of `rows` as an answer is generated: in chunks, and without gradients."""
    busy = [row for row in rows if len(row.ids)]
    found = read_batch(network, [row.ids for row in busy], [row.cache for row in busy], last_only=last_only)
    for row, logits in zip(busy, found, strict=True):
        row.logits = logits


def run_rows(network: LanguageModel, rows: Iterable[Row], *, trains: bool) -> None:
    """Compute the logits and hidden states of `rows`, each at once, with gradients where they are enabled.

    What `trains` also has gradients for the P-tuning prefix, and puts nothing in the cache.
    """
    for row in rows:
        cache = row.cache
        cache.begin(row.ids)
        device = row.ids.device
        x = network.embed(row.ids[None]) if row.embeds is None else row.embeds[None]
        positions = cache.positions(torch.arange(len(row.ids), device=device) + cache.length)
        state = _Recorder(PrefixState(network.prefix()) if trains else cache)
        hidden = network.hidden(x, positions, cache.mask(0, len(row.ids), device), state)
        if not trains:
            cache.advance(len(row.ids))
        row.hidden = [*state.inputs, hidden[0]]
        row.logits = network.logits(hidden)[0]


def batched(values: Sequence[Tensor]) -> Tensor:
    """Put the rows' values together, ``[batch, ...]``."""
    return torch.stack(list(values))


class _Recorder(State):
    """Keeps what every layer is given; keys and values are another state's.

    Args:
        state: where those go.
    """

    def __init__(self, state: State) -> None:
        self.length = state.length
        self.inputs: list[Tensor] = []
        self._state = state

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return self._state.append(layer, keys, values)

    def attend(
        self, layer: int, attend: Attend, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        return self._state.attend(layer, attend, q, keys, values, mask)

    def run(self, layer: int, block: Block, x: Tensor, rotary: Rotary, mask: Tensor | None) -> Tensor:
        self.inputs.append(x[0])
        return super().run(layer, block, x, rotary, mask)

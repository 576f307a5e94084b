"""The loss of a micro-batch: positions and masks of whole sequences, layers that are computed again for the
gradient, cross entropy over the labelled tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from glmtui.models.base import Block, LanguageModel, PrefixState, Rotary

IGNORED = -100
"""A label that counts in no loss."""
Check = Callable[[], None]
"""Called before every layer; raises to cancel."""


class Layout(NamedTuple):
    """Where the tokens of a batch stand, and what each sees."""

    positions: Tensor
    """``[batch, ..., n]``."""
    mask: Tensor
    """bool ``[batch, 1, n, rows + n]``: the columns of the prefix come first, and all see them."""


def layout_of(network: LanguageModel, ids: Tensor, rows: int) -> Layout:
    """Ask `network`'s own caches how each of the sequences `ids` ``[batch, n]`` lies, behind a prefix of
    `rows`."""
    n = ids.shape[1]
    index = torch.arange(n, device=ids.device)
    positions, masks = [], []
    for row in ids:
        cache = network.new_cache()
        cache.prefix_length = 0
        cache.begin(row)
        positions.append(cache.positions(index))
        seen = cache.mask(0, n, ids.device)
        everything = torch.ones(n, n, dtype=torch.bool, device=ids.device)
        masks.append(F.pad(everything if seen is None else seen, (rows, 0), value=True))
    return Layout(torch.cat(positions), torch.stack(masks)[:, None])


class TrainingState(PrefixState):
    """No cache, a prefix for each sequence of the batch, and layers whose activations are not kept.

    Args:
        prefix: ``[num_layers, 2, batch, groups, rows, head_dim]``; None: there is none.
        checkpointing: keep only what goes into each layer, and compute the rest again for the gradient.
        check: see `Check`.
    """

    def __init__(self, prefix: Tensor | None, *, checkpointing: bool, check: Check | None = None) -> None:
        super().__init__()
        # All at once: the gradient of one layer's part alone would be as large as that of all.
        self._layers = () if prefix is None else tuple(each.unbind(0) for each in prefix.unbind(0))
        self._checkpointing, self._check = checkpointing, check

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return `keys` and `values` behind those of the prefix."""
        if not self._layers:
            return keys, values
        before, content = (each.to(keys) for each in self._layers[layer])
        return torch.cat((before, keys), dim=2), torch.cat((content, values), dim=2)

    def run(self, layer: int, block: Block, x: Tensor, rotary: Rotary, mask: Tensor | None) -> Tensor:
        """Run `x` ``[batch, n, hidden]`` through `block`."""

        def compute(x: Tensor, rotary: Rotary, mask: Tensor | None) -> Tensor:
            if self._check is not None:
                self._check()
            return super(TrainingState, self).run(layer, block, x, rotary, mask)

        if not (self._checkpointing and torch.is_grad_enabled()):
            return compute(x, rotary, mask)
        out: Tensor = checkpoint(compute, x, rotary, mask, use_reentrant=False)
        return out


def loss_of(
    network: LanguageModel, ids: Tensor, labels: Tensor, state: TrainingState, rows: int
) -> tuple[Tensor, int]:
    """Return the mean cross entropy of predicting each label from the tokens before it, and how many there
    are.

    Args:
        network: any architecture.
        ids: ``[batch, n]``, padded on the right.
        labels: the same shape; `IGNORED` where nothing is to be learned.
        state: of this batch.
        rows: length of its prefix.
    """
    positions, mask = layout_of(network, ids, rows)
    hidden = network.hidden(network.embed(ids), positions, mask, state)[:, :-1]
    targets = labels[:, 1:]
    learned = targets != IGNORED
    chosen, count = hidden[learned], int(learned.sum())
    if (
        count == 1
    ):  # one token's product with an output layer in two planes is exact for the likeliest words only
        chosen = chosen.expand(2, -1)
    logits = network.logits(chosen[None])[0, :count]
    return F.cross_entropy(logits.float(), targets[learned].to(logits.device)), count

"""What a run will take, before it does."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from glmtui import host
from glmtui.engine.bench import peak_rss
from glmtui.errors import OutOfMemoryError
from glmtui.hub.model_dir import Sizes
from glmtui.models.base import LanguageModel
from glmtui.protocol.phrases import NOTHING, Phrase, _, sentences
from glmtui.text.units import size

OPTIMIZER_BYTES = 16
"""Of a trained parameter: itself, its gradient and the two means of AdamW, float32 each."""
LONG = 24 * 3600.0
"""Seconds after which a run is called a long one."""
HOPELESS = 30 * LONG
RESERVE = 256 << 20
"""Bytes for all that is small."""


def extra_memory(
    network: LanguageModel,
    sizes: Sizes,
    trained: Iterable[nn.Parameter],
    tokens: int,
    learned: int,
    *,
    checkpointing: bool = True,
) -> int:
    """Return the bytes that a step takes next to the weights.

    Args:
        network: whose activations and logits there are.
        sizes: of its weights.
        trained: parameters with gradient and optimizer.
        tokens: of the largest micro-batch, padding and all.
        learned: of them with a label: only these have logits.
        checkpointing: whether layers are computed again, so that one of them is in memory at a time.
    """
    dtype = next(network.parameters()).dtype
    fused = network.cache_storage.dtype is not None
    item = 4 if fused else dtype.itemsize  # the kernels of the CPU compute in float32
    layers, vocabulary = network.config.num_layers, network.config.vocab_size
    # A layer's weights are read once for each of its columns, so their number tells its width.
    width = max(int((sizes.linear / layers / 12) ** 0.5), 1)
    kept = tokens * width * item * layers
    inside = 24 * tokens * width * item * (1 if checkpointing else layers)
    logits = 3 * learned * vocabulary * 4
    parameters = list(trained)
    made = 2 * sum(each.numel() for each in parameters) * item  # the prefix as it is used, and its gradient
    return (
        OPTIMIZER_BYTES * sum(each.numel() for each in parameters) + made + kept + inside + logits + RESERVE
    )


def free_memory(device: torch.device) -> int:
    """Return the bytes that `device` has left now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return host.memory().free


def used_memory(device: torch.device) -> int:
    """Return the most bytes used so far: of `device`, or of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_rss()


def check_memory(needed: int, free: int) -> None:
    """Raise OutOfMemoryError, saying what helps, where a step would not fit."""
    if needed > free:
        message = _("A step needs about {needed} next to the model, and {free} are free.")
        advice = _(
            "Give shorter lengths, a smaller batch, a shorter prefix or a lower rank; or load it with 4 bits."
        )
        raise OutOfMemoryError(sentences(message.format(needed=size(needed), free=size(free)), advice))


def warning_of(seconds: float) -> Phrase:
    """Say it where so many seconds are more than one waits for."""
    days = f"{seconds / LONG:.0f}"
    if seconds >= HOPELESS:
        return _(
            "That would be {days} days: there is no hope on this machine. Take a GPU, a smaller model, or a "
            "few "
            "hundred steps at most."
        ).format(days=days)
    if seconds >= LONG:
        return _("That is {days} days. It can be ended at any time and goes on with --resume.").format(
            days=days
        )
    return NOTHING

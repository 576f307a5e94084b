"""How much memory a model takes, estimated from its sizes alone; imports no torch."""

from __future__ import annotations

from glmtui.engine.device import SMALL
from glmtui.engine.events import Quant
from glmtui.models.folder import Sizes

RESERVE = 256 << 20
"""Bytes kept free for what is computed between the weights."""
ESTIMATED_CONTEXT = 2048
"""Tokens of keys and values that a model must have room for, next to its weights, to be loaded."""


def needed(sizes: Sizes, quant: Quant, item_bytes: int, cached_bytes: int) -> int:
    """Return the bytes of the weights, of the keys and values of a conversation, and some to compute with.

    Args:
        item_bytes: of a weight that is not quantised.
        cached_bytes: of a number in the cache of keys and values.
    """
    return (
        sizes.memory_bytes(quant, item_bytes)
        + sizes.kv_per_token * ESTIMATED_CONTEXT * cached_bytes
        + RESERVE
    )


def usual(sizes: Sizes, quant: Quant, device: str) -> int:
    """Return `needed` with the number formats that a model is loaded in unless told otherwise.

    On the CPU embeddings have 8 bits next to quantised weights, and keys and values 16; a large model that is
    not quantised has 16-bit weights there where 32-bit ones would have no room.
    """
    if device != "cpu":
        return needed(sizes, quant, 2, 2)
    if quant != "none":
        return needed(sizes, quant, 1, 2)
    item_bytes = 4 if 4 * sizes.parameters <= SMALL else 2
    return needed(sizes, quant, item_bytes, item_bytes)

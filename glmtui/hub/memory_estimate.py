"""How much memory a model takes, estimated from its sizes alone; imports no torch."""

from __future__ import annotations

from glmtui.hub.model_dir import Sizes
from glmtui.protocol.models import Quant
from glmtui.protocol.phrases import Option, Phrase, _
from glmtui.text.units import size

SMALL = 2 << 30
"""Weights up to this many bytes in float32 stay float32 on the CPU: exact, and no slower."""
RESERVE = 256 << 20
"""Bytes kept free for what is computed between the weights."""
SHORTEST = 256
"""The shortest context, in tokens, that is proposed where memory ran out."""
ESTIMATED_CONTEXT = 2048
"""Tokens of keys and values that a model must have room for, next to its weights, to be loaded."""


INT8_CACHED = 1 + 4 / 128
"""Bytes that a number in the cache of keys and values takes with 8 bits: a head's 128 share a scale."""


def needed(sizes: Sizes, quant: Quant, item_bytes: int, cached_bytes: float) -> int:
    """Return the bytes of the weights, of the keys and values of a conversation, and some to compute with.

    Args:
        item_bytes: of a weight that is not quantised.
        cached_bytes: of a number in the cache of keys and values.
    """
    return (
        sizes.memory_bytes(quant, item_bytes)
        + int(sizes.kv_per_token * ESTIMATED_CONTEXT * cached_bytes)
        + RESERVE
    )


def usual(sizes: Sizes, quant: Quant, device: str) -> int:
    """Return `needed` with the number formats that a model is loaded in unless told otherwise.

    On the CPU embeddings, keys and values have 8 bits next to quantised weights; a large model that is not
    quantised has 16-bit weights there where 32-bit ones would have no room.
    """
    if device != "cpu":
        return needed(sizes, quant, 2, 2)
    if quant != "none":
        return needed(sizes, quant, 1, INT8_CACHED)
    item_bytes = 4 if 4 * sizes.parameters <= SMALL else 2
    return needed(sizes, quant, item_bytes, item_bytes)


def smaller_quants(quant: Quant) -> tuple[Quant, ...]:
    """Return the quantisations that need less memory than `quant`."""
    order: tuple[Quant, ...] = ("none", "8", "4")
    return order[order.index(quant) + 1 :]


def context_advice(sizes: Sizes, quant: Quant, dtype_bytes: int, tokens: int) -> Phrase:
    """Say what to do where memory ran out with a conversation of `tokens` on top of a model that was loaded.

    Args:
        dtype_bytes: of a weight that is not quantised.
    """
    taken = sizes.memory_bytes(quant, dtype_bytes)
    parts = [
        _("{option} frees {size}").format(
            option=Option("quant", smaller), size=size(taken - sizes.memory_bytes(smaller, dtype_bytes))
        )
        for smaller in smaller_quants(quant)
    ]
    if tokens >= 2 * SHORTEST:
        shorter = max(tokens // 2 // SHORTEST, 1) * SHORTEST
        parts.append(_("{option} keeps conversations shorter").format(option=Option("max-length", shorter)))
    parts.append(_("/new begins without the earlier rounds"))
    advice, *more = parts
    for part in more:
        advice = _("{first}; {second}").format(first=advice, second=part)
    return advice

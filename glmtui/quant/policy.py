"""Which layers of a network are quantised, and how a quantised one takes the place of the float one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from glmtui.quant.formats import MAX_FACTOR, Bits, Packed, empty
from glmtui.quant.linear import Activations, QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from glmtui.quant.mps import MpsWeight

EMBEDDING_BITS: Bits = 8
"""Of embeddings and output layer, whatever the rest has.

In two planes (`in_planes`) these 8 cost a token of ChatGLM-6B no more bytes than 4 would, and 4 would lose
twice as much: on an earlier nano +0.15 % of perplexity instead of +0.07 %, and a mean KL of 0.00122 instead
of 0.00061. That is no better than the published INT4 (+0.13 %, 0.00123).
"""


def bits_of(network: nn.Module, name: str, bits: Bits) -> Bits | None:
    """Return the bits of the tensor `name` when `network` is quantised to `bits`; None: it stays float."""
    owner, _dot, leaf = name.rpartition(".")
    vision = getattr(network, "VISION", None)
    if leaf != "weight" or (vision is not None and vision.search(name)):
        return None
    module = network.get_submodule(owner)
    if isinstance(module, nn.Embedding | QuantizedEmbedding):
        return None if "prefix_encoder" in owner else EMBEDDING_BITS
    if isinstance(module, nn.Linear | QuantizedLinear):
        if "prefix_encoder" in owner:
            return None
        return bits if ".layers." in owner else EMBEDDING_BITS
    return None


def in_planes(network: nn.Module, name: str, bits: Bits) -> bool:
    """Whether the tensor `name`, quantised to `bits` as `network` is, lies in two planes: the output layer's.

    Also the embedding's, if that is the output layer's too.
    """
    tied: Mapping[str, str] = getattr(network, "TIED", {}) if _is_tied(network) else {}
    module = network.get_submodule(name.rpartition(".")[0])
    is_output = isinstance(module, nn.Linear | QuantizedLinear) and ".layers." not in name
    return bits_of(network, name, bits) == 8 and (is_output or name in tied.values())


def install(
    network: nn.Module,
    name: str,
    packed: Packed,
    activations: Activations = "int8",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Put a quantised layer in the place of the one whose weight is `name`, and of those tied to it.

    The bias stays, wherever it is at the moment (it may still be on the meta device).
    """
    owner, _dot, _leaf = name.rpartition(".")
    on_mps = packed.values.device.type == "mps"
    weight = MpsWeight.of(packed, dtype) if on_mps else QuantizedWeight(packed)
    tied: Mapping[str, str] = getattr(network, "TIED", {}) if _is_tied(network) else {}
    for path in (owner, *(other.rpartition(".")[0] for other, source in tied.items() if source == name)):
        module = network.get_submodule(path)
        replacement: nn.Module
        if isinstance(module, nn.Embedding | QuantizedEmbedding):
            replacement = QuantizedEmbedding(weight, dtype)
        else:
            bias = module.bias
            replacement = QuantizedLinear(weight, bias if isinstance(bias, Tensor) else None, activations)
        parent, _dot, leaf = path.rpartition(".")
        setattr(network.get_submodule(parent), leaf, replacement)


def _is_tied(network: nn.Module) -> bool:
    return bool(getattr(getattr(network, "config", None), "tie_word_embeddings", False))


def random_packed(
    bits: Bits, rows: int, columns: int, generator: torch.Generator | None = None, *, planes: bool = False
) -> Packed:
    """Return random weights with a standard deviation of about ``columns ** -0.5``: for measuring."""
    packed = empty(bits, rows, columns, planes=planes)
    for values in (packed.values, packed.low):
        if values is None:
            continue
        # Drawn as whole words, a piece at a time: 8 times faster.
        for block in torch.split(values, max((1 << 24) // values[0].numel(), 1)):
            block.view(torch.int64).random_(-(1 << 63), (1 << 63) - 1, generator=generator)
    assert packed.scales is not None
    packed.scales.fill_(columns**-0.5 / (73.0 if bits == 8 else 4.6 * MAX_FACTOR))
    if packed.factors is not None:
        packed.factors.fill_(0xFF)
    return packed

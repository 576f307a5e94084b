"""A network on several devices: which part lies where, and how a forward pass goes from one to the next.

The networks written here say themselves where they cross a border, and what all layers share is copied once.
For transformers' own, accelerate's hooks do it, which look through the arguments of every layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Shared = TypeVar("Shared")


@dataclass(frozen=True, slots=True)
class Spread:
    """Where the parts of a network lie."""

    home: torch.device
    """Of embeddings, last norm, output layer and a P-tuning prefix: of all that is no layer."""
    layers: tuple[torch.device, ...]


def spread_out(network: Any, spread: Spread) -> None:
    """Let `network`, whose tensors lie as `spread` says, compute there."""
    if hasattr(network, "spread"):
        network.spread = spread
        return
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    model = network.model
    for layer, device in zip(model.layers, spread.layers, strict=True):
        add_hook_to_module(layer, AlignDevicesHook(execution_device=device))
    for module in (model.embed_tokens, model.norm):
        add_hook_to_module(module, AlignDevicesHook(execution_device=spread.home))


class Trip(Generic[Shared]):
    """One forward pass through the layers; without a `spread` it moves nothing.

    Args:
        spread: where the layers lie.
        shared: what all of them need, such as masks and rotations, in any nesting of tuples and lists. It is
            copied once to each device.
    """

    def __init__(self, spread: Spread | None, shared: Shared) -> None:
        self._spread = spread
        self._here = shared
        self._copies = {} if spread is None else {spread.home: shared}

    def to(self, layer: int, x: Tensor) -> tuple[Tensor, Shared]:
        """Return `x` and what is shared on the device of `layer`."""
        if self._spread is None:
            return x, self._here
        device = self._spread.layers[layer]
        if device not in self._copies:
            from accelerate.utils import send_to_device

            self._copies[device] = send_to_device(self._here, device)
        return x.to(device), self._copies[device]

    def home(self, x: Tensor) -> Tensor:
        """Return `x` where the last norm and the output layer are."""
        return x if self._spread is None else x.to(self._spread.home)

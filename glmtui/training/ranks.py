"""Several processes that train one thing, each on a GPU of its own: started by ``accelerate launch`` or
``torchrun``.

Each takes a share of a step's micro-batches; gradients and losses are added up, so that all stay the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone unless told otherwise."""

    rank: int = 0
    count: int = 1

    @classmethod
    def of_environment(cls, device: str) -> Ranks:
        """Meet the processes that this one was started with, if it was; each has its own GPU from then on.

        Args:
            device: that the model is to be on.
        """
        if int(os.environ.get("WORLD_SIZE") or 1) == 1:
            return cls()
        from accelerate import PartialState

        state = PartialState(cpu=device == "cpu")
        return cls(state.process_index, state.num_processes)

    @property
    def leads(self) -> bool:
        """Whether it is this one that writes files and tells how it goes."""
        return self.rank == 0

    def takes(self, index: int) -> bool:
        """Whether the micro-batch number `index` of a step is this one's."""
        return index % self.count == self.rank

    def add_up(self, tensor: Tensor) -> Tensor:
        """Add to `tensor` those of all the others, in place; return it."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def add_up_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the others' gradients to those here; a parameter without one had a share of nothing."""
        if self.count > 1:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether it is so in one process at least."""
        if self.count == 1:
            return here
        return bool(self.add_up(torch.tensor([float(here)], device=device)).item())


ALONE = Ranks()

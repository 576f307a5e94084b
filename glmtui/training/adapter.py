"""What is trained on top of a network whose own weights stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import _


class Adapter(Protocol):
    """P-tuning's prefix, or LoRA's products. What trains is float32 whatever the network computes in."""

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return what is trained, by the names under which it is saved."""

    def prefix(self, batch: int, *, training: bool) -> Tensor | None:
        """Return the keys and values that stand before each of `batch` sequences; None: there are none.

        Returns:
            ``[num_layers, 2, batch, groups, rows, head_dim]``, with dropout in `training`.
        """

    @property
    def rows(self) -> int:
        """Length of that prefix."""

    def train(self, training: bool) -> None:
        """Switch dropout inside the network on or off."""

    def switched_off(self) -> AbstractContextManager[None]:
        """Give the network as it is without what was trained."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over saved tensors under the names of `parameters`.

        Raises:
            UserError: one is missing or has another shape.
        """

    def save(self, folder: Path) -> None:
        """Write into `folder` what the chat loads. Raises OSError where that fails."""


@torch.no_grad()
def take_over(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Fill `parameters` with what was saved of others.

    Raises:
        BadFileError: it was trained by another method, or has other sizes.
    """
    if not parameters.keys() & tensors.keys():
        raise BadFileError(_("What was saved was trained by the other method, or for another model."))
    for name, parameter in parameters.items():
        found = tensors.get(name)
        if found is None:
            raise BadFileError(_("What was saved lacks {name}.").format(name=name))
        if found.shape != parameter.shape:
            message = _(
                "{name} was saved in the shape {found} and is {expected} here: length, projection, rank and "
                "targets are to be those it was saved with."
            )
            expected = list(parameter.shape)
            raise BadFileError(message.format(name=name, found=list(found.shape), expected=expected))
        parameter.copy_(found)

"""LoRA: small products next to chosen linear layers are trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from glmtui.models import lora
from glmtui.models.lora import Shape
from glmtui.training.adapter import take_over


class LoraTuning:
    """The products of a LoRA that is trained, in their place in `network`. See
    `glmtui.training.adapter.Adapter`.

    Args:
        network: its weights stay as they are.
        base: what the model is called in the saved adapter.
        shape: of the products.
        dropout: share of each product's input that is dropped.
        targets: see `glmtui.models.lora.new_lora`.
        seed: of the first values.
    """

    rows = 0

    def __init__(
        self,
        network: nn.Module,
        base: str,
        *,
        shape: Shape,
        dropout: float = 0.0,
        targets: tuple[str, ...] = (),
        seed: int = 42,
    ) -> None:
        self._network, self._base, self._shape, self._dropout = network, base, shape, dropout
        self._lora = lora.new_lora(network, shape, targets, dropout, seed)
        self._lora.requires_grad_()
        self._lora.attach(network)

    def parameters(self) -> Mapping[str, nn.Parameter]:
        return {
            f"base_model.model.{name}.lora_{letter}.weight": matrix
            for name, product in self._lora.named()
            for letter, matrix in (("A", product.a), ("B", product.b))
        }

    def prefix(self, batch: int, *, training: bool) -> Tensor | None:
        return None

    def train(self, training: bool) -> None:
        self._lora.train(training)

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        self._lora.detach()
        try:
            yield
        finally:
            self._lora.attach(self._network)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        take_over(self.parameters(), tensors)

    def save(self, folder: Path) -> None:
        """Write what PEFT writes."""
        lora.save_lora(self._lora, folder, self._shape, self._dropout, self._base)

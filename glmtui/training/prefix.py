"""P-tuning v2: the prefix is trained, with dropout of its keys and values for every sample, as published."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from glmtui.errors import BadValueError
from glmtui.models.chatglm import ChatGLM
from glmtui.models.chatglm2 import ChatGLM2
from glmtui.models.prefix import KEYS, PrefixEncoder
from glmtui.models.weight_files import write_pickle
from glmtui.protocol.phrases import _
from glmtui.training.adapter import take_over

_QUANTIZATION = (
    "quantization_bit",
    "quantization_embeddings",
    "quantization_published",
    "quantization_format",
)


class PrefixTuning:
    """A prefix that is trained, in its place in `network`. See `glmtui.training.adapter.Adapter`.

    Args:
        network: its weights stay as they are.
        config: the ``config.json`` of the model, which the saved prefix carries with its own two fields.
        rows: length of the prefix.
        projection: whether two trained layers make it of a smaller table.
        dropout: share of the keys and values that each sample goes without.
        seed: of its first values, which are drawn as torch does by default.
    """

    def __init__(
        self,
        network: nn.Module,
        config: Mapping[str, Any],
        *,
        rows: int,
        projection: bool = False,
        dropout: float = 0.0,
        seed: int = 42,
    ) -> None:
        if not isinstance(network, ChatGLM | ChatGLM2):
            message = _(
                "P-tuning is for ChatGLM-6B, ChatGLM2-6B and ChatGLM3-6B. Teach newer ones with LoRA."
            )
            raise BadValueError(message)
        self._network, self._config, self._dropout = network, config, dropout
        self._projection, self.rows = projection, rows
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            encoder = network.new_prefix(rows, projection=projection)
        self._encoder: PrefixEncoder = encoder.to(next(network.parameters()).device)
        network.transformer.prefix_encoder = self._encoder

    def parameters(self) -> Mapping[str, nn.Parameter]:
        return {f"{KEYS}{name}": parameter for name, parameter in self._encoder.named_parameters()}

    def prefix(self, batch: int, *, training: bool) -> Tensor | None:
        found = self._network.prefix()
        assert found is not None
        each = found[:, :, None].expand(-1, -1, batch, -1, -1, -1)
        return F.dropout(each, self._dropout) if training and self._dropout else each

    def train(self, training: bool) -> None:
        """Nothing in the network itself is dropped."""

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        self._network.transformer.prefix_encoder = None
        try:
            yield
        finally:
            self._network.transformer.prefix_encoder = self._encoder

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        take_over(self.parameters(), tensors)

    def save(self, folder: Path) -> None:
        """Write ``pytorch_model.bin`` and ``config.json`` as the published trainers do."""
        state = {name: parameter.detach().cpu() for name, parameter in self.parameters().items()}
        write_pickle(state, folder / "pytorch_model.bin")
        config = {name: value for name, value in self._config.items() if name not in _QUANTIZATION}
        config |= {"pre_seq_len": self.rows, "prefix_projection": self._projection}
        text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")

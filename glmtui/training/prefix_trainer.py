"""P-tuning as a plain object for Python: a model's folder and arrays of ids go in, losses and a prefix
come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from glmtui.engine import loader
from glmtui.engine.preflight import Prepared
from glmtui.errors import BadValueError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.prefix import without_prefix
from glmtui.protocol.models import LocalModel, Quant
from glmtui.protocol.phrases import _
from glmtui.training.checkpoints import put_files
from glmtui.training.options import Optimizer
from glmtui.training.prefix import PrefixTuning
from glmtui.training.trainer import Trainer

_NO_BATCHES = _("A step takes pairs of ids and labels, integers of the same shape: [batch, n].")


class PrefixTrainer:
    """Trains a P-tuning v2 prefix on a frozen model as the published trainers do.

    Args:
        folder: a model; it needs no tokenizer.
        pre_seq_len: rows of the prefix.
        prefix_projection: see `PrefixTuning`.
        initial: what the prefix begins with, by the published names; None draws it by `seed`.
        learning_rate: falls linearly to 0 over `max_steps`.
        max_steps: of the schedule.
        optimizer: ``published`` is AdamW of transformers 4.27, ``adamw`` torch's.
        max_grad_norm: to which gradients are clipped.
        dropout: of the prefix; 0.1 as published.
        quant: bits per weight of the frozen model; None keeps what the files are.
        dtype: of its products; None lets the kernels of the CPU round activations to 8 bits.
        device: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        seed: of the prefix and of dropout.

    Raises:
        UserError: the model cannot be read or takes no prefix, or `initial` does not fit.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        pre_seq_len: int,
        prefix_projection: bool = False,
        initial: Mapping[str, Any] | None = None,
        learning_rate: float,
        max_steps: int,
        optimizer: Optimizer = "published",
        max_grad_norm: float = 1.0,
        dropout: float = 0.0,
        quant: Quant | Literal[4, 8] | None = None,
        dtype: str | torch.dtype | None = "float32",
        device: str = "cpu",
        seed: int = 42,
    ) -> None:
        if optimizer not in ("published", "adamw"):
            raise BadValueError(_("{name} cannot be {value}.").format(name="optimizer", value=optimizer))
        for name, number in (("pre_seq_len", pre_seq_len), ("max_steps", max_steps)):
            if number < 1:
                raise BadValueError(_("{name} cannot be {value}.").format(name=name, value=number))
        spec = LocalModel(
            source=str(folder),
            device=device,
            quant=None if quant is None else cast("Quant", str(quant)),
            dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        )
        opened = without_prefix(ModelFolder.open(folder))
        network = loader.load(spec, prepared=Prepared(spec, opened)).network
        self._model_folder = opened.path
        self.adapter = PrefixTuning(
            network, opened.config, rows=pre_seq_len, projection=prefix_projection, dropout=dropout, seed=seed
        )
        if initial is not None:
            self.adapter.load({name: torch.as_tensor(np.asarray(value)) for name, value in initial.items()})
        self.trainer = Trainer(
            network,
            self.adapter,
            learning_rate=learning_rate,
            steps=max_steps,
            optimizer=optimizer,
            max_grad_norm=max_grad_norm,
            seed=seed,
        )

    def step(self, micro_batches: Sequence[tuple[Any, Any]]) -> list[float]:
        """Take one step of the optimizer; return the loss of each micro-batch.

        Args:
            micro_batches: token ids and labels, integer arrays ``[batch, n]`` each; -100 is no label.

        Raises:
            BadValueError: there is none, or one holds something else.
            NotFiniteError: a loss or gradient is not finite; the prefix is as it was.
        """
        batches = [(_integers(ids), _integers(labels)) for ids, labels in micro_batches]
        if not batches or any(ids.shape != labels.shape for ids, labels in batches):
            raise BadValueError(_NO_BATCHES)
        return self.trainer.step(batches)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the prefix, float32 on the CPU, by the published names."""
        return {name: each.detach().cpu().clone() for name, each in self.adapter.parameters().items()}

    def save(self, folder: str | Path) -> None:
        """Write ``pytorch_model.bin`` and ``config.json`` into `folder`, which is made where it is
        missing.

        Raises:
            BadValueError: it is the model's own, whose files have the same names.
            StorageError: they cannot be written.
        """
        if Path(folder).resolve() == self._model_folder.resolve():
            message = _("{path} is the folder of the model itself. Give another folder.")
            raise BadValueError(message.format(path=folder))
        put_files(Path(folder), self.adapter.save)


def _integers(values: Any) -> Tensor:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.ndim != 2 or not array.size:
        raise BadValueError(_NO_BATCHES)
    return torch.as_tensor(array).long()

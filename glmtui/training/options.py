"""What a person may choose of a run. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from glmtui.errors import BadValueError
from glmtui.protocol.models import LocalModel
from glmtui.protocol.phrases import _, listing

Method = Literal["ptuning", "lora"]
Optimizer = Literal["published", "adamw"]
"""``published`` is the AdamW of transformers 4.27, whose epsilon is not divided by the bias correction."""
Schedule = Literal["linear", "cosine", "constant"]

LEARNING_RATES: Mapping[Method, float] = {"ptuning": 2e-2, "lora": 3e-4}
"""Of ``train.sh`` as published; of LoRA what is usual for this rank."""
PUBLISHED_WIDTH = 4096
"""Of the models they are for. A narrower one takes more: a LoRA's matrices by how much narrower it is, a
prefix by the root of that."""
ROWS_OF_A_STEP, OF_A_SMALL_MODEL = 16, 8
"""As published; and of a small model, which learns more from as many rows in smaller steps."""
LEAST_STEPS, LEAST_OF_A_SMALL_MODEL = 200, 600
"""A small file is gone through more often than a large one: fewer steps teach nothing. Those of a small model
take moments."""
PREFIX_DROPOUT, LORA_DROPOUT = 0.1, 0.05
"""As published, and as is usual. A small model learns less with it: nano 17 of 20 facts, without it all."""
SMALL = 200_000_000
"""Weights below which a model is small: a batch's rows are computed together."""
SMALLEST_BETWEEN_SAVES = 10.0
"""Seconds: saving more often than that would be most of the work."""


@dataclass(frozen=True)
class TuneOptions:
    """One run. The defaults are those of the published ``train.sh`` where it has them."""

    data: tuple[str, ...]
    """Files, or folders of files."""
    out: str
    """The folder of the result; the run's checkpoints and its log are below it."""
    model: LocalModel = field(default_factory=LocalModel)
    """Which model learns, and how it is loaded; its `ptuning` and `lora` are not used."""
    method: Method = "ptuning"
    columns: Mapping[str, str] = field(default_factory=dict)
    """What the columns ``prompt``, ``response`` and ``history`` are called in the data, where not that."""
    max_source_length: int = 512
    """Tokens of a question with its earlier rounds; what is longer loses its oldest rounds."""
    max_target_length: int = 256
    """Tokens of an answer."""
    validation: float = 0.05
    """The share of the rows that is kept apart."""
    max_rows: int | None = None
    """Only so many of the first rows are used."""

    # P-tuning
    pre_seq_len: int = 128
    prefix_projection: bool = False
    prefix_dropout: float | None = None
    """None: `PREFIX_DROPOUT`, and 0 for a small model."""

    # LoRA
    lora_rank: int = 8
    lora_alpha: float = 32.0
    lora_dropout: float | None = None
    """None: `LORA_DROPOUT`, and 0 for a small model."""
    lora_targets: tuple[str, ...] = ()
    """Names of linear layers, or ``all``; none are the attention's first product, all of a small model."""

    # the loop
    learning_rate: float | None = None
    """None: that of `LEARNING_RATES`, and more for narrower models."""
    steps: int | None = None
    """None: as many as `epochs` make, and at least `LEAST_STEPS`, or `LEAST_OF_A_SMALL_MODEL`."""
    epochs: float = 3.0
    batch: int | None = None
    """Rows that are computed together; None: all of a step where the model is small, else one."""
    accumulate: int | None = None
    """Such micro-batches that make one step; None: as many as make `ROWS_OF_A_STEP`, or
    `OF_A_SMALL_MODEL`."""
    optimizer: Optimizer = "published"
    schedule: Schedule = "linear"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    checkpointing: bool | None = None
    """Layers are computed again for the gradient, so that memory holds the activations of one; None: where
    the model is not small."""
    seed: int = 42

    # what is kept
    log_steps: int = 10
    save_steps: int = 500
    save_seconds: float = 600.0
    """Time after which a checkpoint is written, whatever the step."""
    keep: int = 2
    """Checkpoints that stay; the older ones go."""
    validate_steps: int | None = None
    """Steps between two looks at the validation rows; None: ten in a run."""
    patience: int | None = None
    """So many validations in a row without a better loss end the run; None: none do."""
    resume: bool = False
    """Go on from the last checkpoint in `out`, exactly as if nothing had ended it."""
    start_from: str | None = None
    """A folder with a prefix or a LoRA to begin with, under a new schedule."""
    samples: int = 3
    """Validation questions that are answered before and after."""
    tensorboard: bool = True
    """Events for TensorBoard, where it is installed."""

    def rate_for(self, width: int) -> float:
        """Return the rate that the schedule begins with, for a model of that width."""
        if self.learning_rate is not None:
            return self.learning_rate
        narrower = max(PUBLISHED_WIDTH / width, 1)
        return LEARNING_RATES[self.method] * (narrower if self.method == "lora" else math.sqrt(narrower))

    def dropout_for(self, parameters: int) -> float:
        """Return the share of the prefix, or of a LoRA's input, that is dropped, for a model of so many
        weights."""
        own, usual = (
            (self.prefix_dropout, PREFIX_DROPOUT)
            if self.method == "ptuning"
            else (self.lora_dropout, LORA_DROPOUT)
        )
        return own if own is not None else 0.0 if parameters < SMALL else usual

    def targets_for(self, parameters: int) -> tuple[str, ...]:
        """Return which layers get a LoRA; see `glmtui.models.lora.new_lora`."""
        return self.lora_targets or (("all",) if parameters < SMALL else ())

    def checkpoints(self, parameters: int) -> bool:
        """Return whether layers are computed again for the gradient."""
        return parameters >= SMALL if self.checkpointing is None else self.checkpointing

    def rows_of_a_step(self, parameters: int) -> tuple[int, int]:
        """Return the rows of a micro-batch and how many make a step, for a model of so many weights."""
        rows = OF_A_SMALL_MODEL if parameters < SMALL else ROWS_OF_A_STEP
        batch = self.batch or (rows if parameters < SMALL and self.accumulate is None else 1)
        return batch, self.accumulate or max(rows // batch, 1)

    def steps_for(self, rows: int, rows_of_a_step: int, parameters: int) -> int:
        """Return the steps of the run, for a model of so many weights."""
        least = LEAST_OF_A_SMALL_MODEL if parameters < SMALL else LEAST_STEPS
        return self.steps or max(round(self.epochs * rows / rows_of_a_step), least)

    def check(self) -> None:
        """Raise BadValueError where a value is out of its range."""
        choices: tuple[tuple[str, object, tuple[object, ...]], ...] = (
            ("method", self.method, get_args(Method)),
            ("optimizer", self.optimizer, get_args(Optimizer)),
            ("schedule", self.schedule, get_args(Schedule)),
        )
        if self.resume and self.start_from is not None:
            message = _("Either go on with the run (resume), or begin another with its weights (start_from).")
            raise BadValueError(message)
        for name, value, allowed in choices:
            if value not in allowed:
                message = _("{name} cannot be {value}. Choose one of: {choices}")
                raise BadValueError(message.format(name=name, value=value, choices=listing(allowed)))
        ranges = {
            "max_source_length": (4, 1 << 20),
            "max_target_length": (3, 1 << 20),
            "validation": (0, 0.9),
            "pre_seq_len": (1, 1 << 16),
            "prefix_dropout": (0, 0.99),
            "lora_rank": (1, 1 << 12),
            "lora_alpha": (1e-6, 1e6),
            "lora_dropout": (0, 0.99),
            "learning_rate": (1e-12, 10),
            "epochs": (1e-6, 1e6),
            "batch": (1, 1 << 16),
            "accumulate": (1, 1 << 16),
            "warmup_steps": (0, 1 << 30),
            "weight_decay": (0, 1),
            "max_grad_norm": (1e-9, 1e9),
            "log_steps": (1, 1 << 30),
            "save_steps": (1, 1 << 30),
            "save_seconds": (SMALLEST_BETWEEN_SAVES, float("inf")),
            "keep": (1, 1 << 16),
            "seed": (-(1 << 62), 1 << 62),
            "samples": (0, 100),
            **dict.fromkeys(("steps", "validate_steps", "patience", "max_rows"), (1, 1 << 30)),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise BadValueError(
                    _("{name} cannot be {value}: it is from {least} to {most}.").format(
                        name=name, value=value, least=_written(least), most=_written(most)
                    )
                )


def _written(limit: float) -> str:
    """Write a limit in full where that is a number that people read."""
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"

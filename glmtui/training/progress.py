"""What a run tells of itself, in this order: `Preparing` and `DataRead`, `Began`, then `Step`,
`Validated`, `Sampled` and `Saved` as they come, then `Ended`. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from glmtui.protocol.phrases import NOTHING, Phrase

if TYPE_CHECKING:
    from glmtui.training.data import DataReport

SMOOTHING = 0.9
"""Share that the smoothed loss keeps of itself at every step."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take, told before it begins."""

    memory: int
    """Bytes at the most."""
    free_memory: int
    """Bytes that there are for it."""
    seconds: float
    """For all steps that are left."""
    trained: int
    """Parameters that are trained."""
    warning: Phrase = NOTHING
    """What speaks against it."""


@dataclass(frozen=True, slots=True)
class Preparing:
    """The model is being read, or the work of a step measured: what comes before `Began`."""

    what: Literal["data", "read", "quantize", "compile", "measure"]
    fraction: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class DataRead:
    """The rows are read and encoded."""

    report: DataReport


@dataclass(frozen=True, slots=True)
class Began:
    """Everything is read and the first step comes."""

    estimate: Estimate
    rows: int
    validation_rows: int
    first_step: int
    """0, or where the run goes on."""
    steps: int
    """Of the whole run."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the optimizer is done."""

    step: int
    """Counted from 1."""
    steps: int
    loss: float
    """Mean over the step's micro-batches."""
    smoothed: float
    learning_rate: float
    """That this step was taken with."""
    tokens_per_second: float
    """All tokens that went through, in this process's time on the step."""
    memory: int
    """Bytes at the most so far, of the device or the process."""
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Validated:
    """The rows kept apart were looked at."""

    step: int
    loss: float
    """Mean over their labelled tokens."""
    best: bool
    """Whether it is the lowest so far; that state is what the run leaves."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A validation question and the model's answer to it."""

    question: str
    expected: str
    answer: str


@dataclass(frozen=True, slots=True)
class Sampled:
    """The model answered a few validation questions, greedily."""

    when: Literal["before", "after"]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is on disk."""

    step: int
    path: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The run is over, and what it taught lies in `path`."""

    reason: Literal["done", "early", "cancelled"]
    """All steps; no better validation loss for long enough; given up on purpose."""
    step: int
    path: str


Event: TypeAlias = Preparing | DataRead | Began | Step | Validated | Sampled | Saved | Ended
Listener: TypeAlias = Callable[[Event], None]
"""Is told every event, in the thread of the run. It must not wait."""

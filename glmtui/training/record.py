"""A run as it is looked at: what it has told so far, the figures of now, and its curves. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.text.plot import Cell, Curve, plot
from glmtui.text.units import duration, parameters, size
from glmtui.training.progress import (
    Began,
    DataRead,
    Ended,
    Estimate,
    Event,
    Preparing,
    Sample,
    Sampled,
    Saved,
    Step,
    Validated,
)

if TYPE_CHECKING:
    from glmtui.training.data import DataReport

RAW, SMOOTHED, VALIDATION = range(3)
"""The curves of `RunRecord.plot`, by their numbers."""
MOST_POINTS = 4000
"""Kept of a curve: more than any terminal has dots across. Then every second one goes."""


@dataclass
class RunRecord:
    """Takes the events of one run, in its thread or another's: whoever reads it sees whole events."""

    preparing: Preparing | None = None
    """What comes before the first step."""
    report: DataReport | None = None
    began: Began | None = None
    step: Step | None = None
    """The last."""
    steps: list[Step] = field(default_factory=list)
    """All of them, or evenly fewer of a long run."""
    validated: list[Validated] = field(default_factory=list)
    before: tuple[Sample, ...] = ()
    after: tuple[Sample, ...] = ()
    """What the model answered to the same questions."""
    saved: Saved | None = None
    ended: Ended | None = None
    _every: int = 1

    def take(self, event: Event) -> None:
        """Add what a run tells; it is a `Listener`."""
        match event:
            case Preparing():
                self.preparing = event
            case DataRead():
                self.report = event.report
            case Began():
                self.began = event
            case Step():
                self._add(event)
            case Validated():
                self.validated = [*self.validated, event]
            case Sampled(when="before"):
                self.before = event.samples
            case Sampled():
                self.after = event.samples
            case Saved():
                self.saved = event
            case Ended():
                self.ended = event

    def _add(self, step: Step) -> None:
        self.step = step
        if not self.steps or step.step >= self.steps[-1].step + self._every:
            self.steps.append(step)
            if len(self.steps) >= MOST_POINTS:
                self.steps, self._every = self.steps[::2], self._every * 2

    @property
    def fraction(self) -> float:
        """How much of it is done, 0 to 1."""
        return self.step.step / self.step.steps if self.step and self.step.steps else 0.0

    @property
    def best(self) -> Validated | None:
        """The validation with the lowest loss."""
        return min(self.validated, key=lambda each: each.loss, default=None)

    def plot(self, width: int, height: int) -> list[list[Cell]]:
        """Draw the loss over the steps as `glmtui.text.plot.plot` does: raw, smoothed, validation."""
        steps = [*self.steps, *([self.step] if self.step else [])]
        curves = (
            Curve([(each.step, each.loss) for each in steps], "dots"),
            Curve([(each.step, each.smoothed) for each in steps]),
            Curve([(each.step, each.loss) for each in self.validated], "marks"),
        )
        return plot(curves, width, height)

    def figures(self) -> list[tuple[Phrase, str]]:
        """Return what is so now: names and values, the most wanted first."""
        found: list[tuple[Phrase, str]] = []
        if (step := self.step) is not None:
            found += [
                (_("step"), f"{step.step:,} / {step.steps:,}"),
                (_("loss"), f"{step.smoothed:.4f} ({step.loss:.4f})"),
            ]
        if self.validated:
            best = self.best
            assert best is not None
            found.append((_("validation"), f"{self.validated[-1].loss:.4f}"))
            if best is not self.validated[-1]:
                found.append((_("best"), f"{best.loss:.4f}"))
        if step is not None:
            found += [
                (_("learning rate"), f"{step.learning_rate:.3g}"),
                (_("tokens/s"), f"{step.tokens_per_second:,.1f}"),
                (_("time left"), time_of(step.seconds_left)),
                (_("memory"), size(step.memory)),
            ]
        return found

    def beginning(self) -> Phrase:
        """Say what is done before the first step; false afterwards."""
        if self.step is not None or self.ended is not None:
            return NOTHING
        if self.began is not None:
            return _("The first step is being taken …")
        if self.preparing is None:
            return _("Beginning …")
        said = {
            "data": _("Reading the data …"),
            "read": _("Reading the model: {percent} %"),
            "quantize": _("Quantising the model: {percent} %"),
            "compile": _("Preparing the model: {percent} %"),
            "measure": _("Measuring a step …"),
        }[self.preparing.what]
        return said.format(percent=round(100 * self.preparing.fraction))

    def ending(self) -> Phrase:
        """Say how it ended; false while it goes on."""
        if self.ended is None:
            return NOTHING
        said = {
            "done": _("Done after {step} steps: {path}"),
            "early": _("Ended at step {step}, as the validation loss got no better: {path}"),
            "cancelled": _("Stopped at step {step}; what was learned until then is in {path}"),
        }[self.ended.reason]
        return said.format(step=f"{self.ended.step:,}", path=self.ended.path)


def estimate_lines(estimate: Estimate) -> list[Phrase]:
    """Say what a run will take, and what speaks against it."""
    lines = [
        _("Trains {count} parameters; needs about {memory} of {free} free; takes about {time}").format(
            count=parameters(estimate.trained) if estimate.trained >= 1e6 else f"{estimate.trained:,}",
            memory=size(estimate.memory),
            free=size(estimate.free_memory),
            time=time_of(estimate.seconds),
        )
    ]
    return [*lines, estimate.warning] if estimate.warning else lines


def time_of(seconds: float) -> str:
    """Write a time as ``m:ss``, a longer one as ``h:mm:ss``."""
    if seconds < 3600:
        return duration(seconds)
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"

"""A run that tells what a test says, without a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from glmtui.protocol.cancellation import CancelToken
from glmtui.training.options import TuneOptions
from glmtui.training.progress import (
    Began,
    Ended,
    Estimate,
    Event,
    Listener,
    Sample,
    Sampled,
    Saved,
    Step,
    Validated,
)

ESTIMATE = Estimate(memory=5_800_000_000, free_memory=12_000_000_000, seconds=9000, trained=29_360_128)
QUESTIONS = ("衬衫怎么搭配？", "How is this dress cut?")


def story(steps: int = 40) -> Iterator[Event]:
    """A run that goes well."""
    yield Began(ESTIMATE, rows=190, validation_rows=10, first_step=0, steps=steps)
    yield Sampled("before", tuple(Sample(each, "宽松的款式。", "我不知道。") for each in QUESTIONS))
    smoothed = 0.0
    for step in range(1, steps + 1):
        loss = 1 + 3 / step + 0.3 * ((step * 7919) % 13) / 13
        smoothed = loss if step == 1 else 0.9 * smoothed + 0.1 * loss
        yield Step(
            step,
            steps,
            loss,
            smoothed,
            2e-2 * (steps - step) / steps,
            431.5,
            5_600_000_000,
            9.0 * (steps - step),
        )
        if step % 10 == 0:
            yield Validated(step, 1.1 + 3 / step, best=True)
            yield Saved(step, f"/out/checkpoint-{step}")
    yield Sampled("after", tuple(Sample(each, "宽松的款式。", "款式宽松，很显瘦。") for each in QUESTIONS))
    yield Ended("done", steps, "/out")


class ScriptedRun:
    """Tells `events`; after `hold` of them it waits until it is let go on or cancelled."""

    def __init__(self, events: list[Event], hold: int | None = None, error: Exception | None = None) -> None:
        self.events, self.hold, self.error = events, hold, error
        self.go_on = threading.Event()
        self.options: TuneOptions | None = None

    def __call__(self, options: TuneOptions) -> ScriptedRun:
        self.options = options
        return self

    def run(self, listener: Listener, cancel: CancelToken) -> None:
        for number, event in enumerate(self.events):
            if number == self.hold:
                while not self.go_on.wait(0.005):
                    if cancel.cancelled:
                        listener(Ended("cancelled", 7, "/out"))
                        return
            listener(event)
        if self.error is not None:
            raise self.error

"""The app's end of the worker: what is loaded, what is being loaded, and the events, coalesced."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from glmtui.session.stats import model_title

if TYPE_CHECKING:
    from glmtui.protocol.events import Event, Loaded, LoadProgress
    from glmtui.protocol.models import ModelInfo
    from glmtui.protocol.requests import Load, Request

Activity = Literal["starting", "loading", "none", "ready", "reading", "answering"]


class WorkerLike(Protocol):
    """What the app needs of `glmtui.engine.local.Worker`."""

    @property
    def events(self) -> queue.SimpleQueue[Event]:
        """What the worker says, in order."""
        ...

    def start(self) -> None:
        """Begin to work."""

    def submit(self, request: Request) -> None:
        """Queue a request."""

    def cancel(self, request_id: int | None = None) -> None:
        """Give up that request, or whatever runs or waits."""

    def close(self) -> None:
        """Give up everything; returns at once."""


@dataclass(slots=True)
class ChatStatus:
    """What the status line shows."""

    activity: Activity = "starting"
    info: ModelInfo | None = None
    loading: str = ""
    """Name of the model that is being loaded."""
    stage: Literal["prepare", "read", "quantize", "compile"] = "prepare"
    """Of a load; it begins with what has no measure, such as importing torch."""
    done: int = 0
    total: int = 0
    """Bytes of the checkpoint."""
    since: float = 0.0
    """`time.monotonic` when the activity began; of a load, the stage..."""
    begun: int = 0
    """...and what was done of it then."""
    fraction: float = 0.0
    """Of the prompt that has been read."""
    tokens_per_second: float | None = None
    used: int = 0
    draft: int = 0
    """Tokens that what is being written would add."""
    limit: int = 0
    """Context in tokens."""

    @property
    def busy(self) -> bool:
        """Whether an answer is being made."""
        return self.activity in ("reading", "answering")


class SpeedMeter:
    """Tokens per second over the last few seconds of one answer."""

    WINDOW = 3.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: list[tuple[float, int]] = []
        self.tokens = 0

    def add(self, count: int) -> None:
        """Note that `count` tokens came now."""
        self.tokens += count
        now = self._clock()
        self._samples.append((now, self.tokens))
        while len(self._samples) > 2 and now - self._samples[1][0] > self.WINDOW:
            del self._samples[0]

    @property
    def rate(self) -> float | None:
        """Tokens per second; None while there is too little to tell."""
        if len(self._samples) < 2:
            return None
        (first_time, first), (last_time, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_time - first_time) if last_time > first_time else None


def coalesce(events: Iterable[Event]) -> list[Event]:
    """Join what can be joined without losing anything: text of one answer, and only the latest progress."""
    from glmtui.protocol.events import LoadProgress, PromptProgress, Tokens

    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Tokens) and isinstance(last, Tokens) and last.request_id == event.request_id:
            joined[-1] = replace(last, text=last.text + event.text, count=last.count + event.count)
        elif isinstance(event, LoadProgress | PromptProgress) and type(last) is type(event):
            joined[-1] = event
        else:
            joined.append(event)
    return joined


def _drain(events: queue.SimpleQueue[Event]) -> Iterator[Event]:
    with suppress(queue.Empty):
        while True:
            yield events.get_nowait()


class ModelLink:
    """Owns the worker, which is made when it is first needed (after the first paint)."""

    MOST_EVENTS = 500
    """Taken from the queue in one go, so that the screen stays alive whatever the worker says."""

    def __init__(self, make_worker: Callable[[], WorkerLike]) -> None:
        self._make_worker = make_worker
        self._worker: WorkerLike | None = None
        self._load_id: int | None = None
        self._request: Load | None = None
        self._loaded: tuple[Load, ModelInfo] | None = None
        """What was loaded last, to go back to."""
        self._replaced: tuple[Load, str] | None = None
        """What was on its way, with its name, when another load took its place."""
        self.status = ChatStatus()

    @property
    def worker(self) -> WorkerLike:
        """The worker, started."""
        if self._worker is None:
            self._worker = self._make_worker()
            self._worker.start()
        return self._worker

    @property
    def loading(self) -> bool:
        """Whether a model is on its way."""
        return self._load_id is not None

    def load(self, request: Load, name: str) -> None:
        """Load another model; what waits for the old one is given up."""
        self.worker.cancel()
        if self._load_id is not None and self._request is not None:
            self._replaced = (self._request, self.status.loading)
        self._load_id, self._request = request.request_id, request
        self.status = ChatStatus("loading", loading=name, since=time.monotonic())
        self.worker.submit(request)

    def is_load(self, request_id: int) -> bool:
        """Whether this is the load that counts (and not one replaced since)."""
        return request_id == self._load_id

    def loaded(self, event: Loaded) -> None:
        """Note that the model is there."""
        self._load_id = self._replaced = None
        if self._request is not None:
            self._loaded = (self._request, event.info)
        self.status = ChatStatus("ready", info=event.info)

    def load_ended(self, *, kept: bool = False) -> tuple[Load, str] | None:
        """Note that the load came to nothing; `kept`: the model before it is in memory still.

        Returns what had been loaded before, or was on its way, with its name; None where there was nothing.
        It is given once: should it fail too, there is no model.
        """
        self._load_id = None
        self.status = ChatStatus("none")
        former, self._replaced = self._replaced, None
        if self._loaded is None:
            return former
        request, info = self._loaded
        if kept:
            self.status = ChatStatus("ready", info=info)
        else:
            self._loaded = None
        return former if former and not kept else (request, model_title(info))

    def progress(self, event: LoadProgress) -> None:
        """Note how far the load is. The time that is left is reckoned for each stage from its first bytes on:
        what comes before them, such as importing torch, says nothing about it."""
        if (event.stage, event.total) != (self.status.stage, self.status.total):
            self.status.since, self.status.begun = time.monotonic(), event.done
        self.status.stage, self.status.done, self.status.total = event.stage, event.done, event.total

    def cancel(self, request_id: int | None = None) -> None:
        """Give up `request_id`, or everything; does nothing when no worker was started."""
        if self._worker is not None:
            self._worker.cancel(request_id)

    def take_events(self) -> list[Event]:
        """Return what the worker has said since the last call, coalesced."""
        if self._worker is None:
            return []
        return coalesce(itertools.islice(_drain(self._worker.events), self.MOST_EVENTS))

    def close(self) -> None:
        """Let the worker go, at once."""
        if self._worker is not None:
            self._worker.close()

"""Loading models through the engine, one at a time, and the way back from a load that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmtui.protocol.engine import Engine, Stream
from glmtui.protocol.events import Cancelled, Failed, Loaded
from glmtui.protocol.requests import Load

if TYPE_CHECKING:
    from glmtui.protocol.events import Event
    from glmtui.protocol.models import ModelInfo, ModelSpec


@dataclass(frozen=True)
class WayBack:
    """What a load that came to nothing leaves."""

    spec: ModelSpec | None = None
    """What to go back to."""
    info: ModelInfo | None = None
    """Of the model in memory, if it still is the one of `spec`; else that is to be loaded."""


@dataclass(frozen=True, slots=True)
class _Load:
    """A load that was asked for."""

    spec: ModelSpec
    stream: Stream


class ModelLoader:
    """Owns the engine, which is made when it is first needed (after the first paint).

    A load that fails is undone: what was on its way when it was asked for comes next, and in the end what
    worked last: settings that follow each other while a model is loaded end as if each had been waited for.

    Args:
        make_engine: makes it.
    """

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        self._make_engine = make_engine
        self._engine: Engine | None = None
        self._running: _Load | None = None
        self._latest: ModelSpec | None = None
        """What was asked for last."""
        self._replaced: list[_Load] = []
        """What was given up for another while it was on its way, the latest last."""
        self._untried: list[ModelSpec] = []
        """Those of them that nothing is known against."""
        self._base: ModelSpec | None = None
        """What to go back to in the end: what worked last, and before that what was asked for first."""
        self._info: ModelInfo | None = None
        """Of the model in memory, which is then that of `_base`."""

    @property
    def engine(self) -> Engine:
        """What runs models."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    @property
    def loading(self) -> bool:
        """Whether a model is on its way."""
        return self._running is not None

    def load(self, spec: ModelSpec) -> None:
        """Begin to load; a load that runs is given up."""
        if self._running is not None:
            self._running.stream.cancel()
            self._replaced.append(self._running)
        if self._latest is None:
            self._base = spec
        self._latest = spec
        self._running = _Load(spec, self.engine.submit(Load(spec)))

    def cancel(self) -> None:
        """Give up the load."""
        if self._running is not None:
            self._running.stream.cancel()

    def drain(self) -> list[Event]:
        """Return what the load that counts (not one replaced since) has published."""
        running = self._running
        events = running.stream.drain() if running is not None else []
        if running is not None and running.stream.ended:
            self._running = None
        return events

    def loaded(self, info: ModelInfo) -> None:
        """Note that the model is there."""
        self._base, self._info = self._latest, info
        self._replaced, self._untried = [], []

    def ended(self, event: Failed | Cancelled) -> WayBack:
        """Note that the load came to nothing; return what there is to go back to.

        Each is given once: should it fail too, what was before that is next. After a cancel it is what worked
        last, and nothing if that is what was cancelled.
        """
        self._take_in_replaced()
        self._info = self._info if event.model_kept else None
        ended = self._latest
        if isinstance(event, Cancelled):
            self._untried = []
        while self._untried:
            if (spec := self._untried.pop()) not in (ended, self._base):
                return WayBack(spec)
        if self._info is not None or ended != self._base:
            return WayBack(self._base, self._info)
        if isinstance(event, Failed):  # it works no more: what is set from now on stands on its own
            self._base = None
        return WayBack()

    def close(self) -> None:
        """Let the engine go, at once."""
        if self._engine is not None:
            self._engine.close()

    def _take_in_replaced(self) -> None:
        """See how the replaced loads ended: one may have been complete before it heard of the other."""
        for load in self._replaced:
            while events := load.stream.drain():
                match events[-1]:
                    case Loaded(info=info):
                        self._base, self._info, self._untried = load.spec, info, []
                    case Failed(model_kept=kept):
                        self._info = self._info if kept else None
                    case Cancelled(model_kept=kept):
                        self._info = self._info if kept else None
                        self._untried.append(load.spec)
        self._replaced = []

"""Loading models through the engine, one at a time, and the way back from a load that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmtui.protocol.engine import Engine, Stream
from glmtui.protocol.requests import Load

if TYPE_CHECKING:
    from glmtui.protocol.events import Cancelled, Event, Failed
    from glmtui.protocol.models import ModelInfo, ModelSpec


@dataclass(frozen=True)
class Former:
    """What there was before a load that came to nothing."""

    spec: ModelSpec | None = None
    """What had been loaded, or was on its way, to go back to."""
    info: ModelInfo | None = None
    """The model that is in memory still."""


class ModelLoader:
    """Owns the engine, which is made when it is first needed (after the first paint).

    Args:
        make_engine: makes it.
    """

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        self._make_engine = make_engine
        self._engine: Engine | None = None
        self._stream: Stream | None = None
        self._spec: ModelSpec | None = None
        """What is on its way."""
        self._loaded: tuple[ModelSpec, ModelInfo] | None = None
        """What was loaded last, to go back to."""
        self._former: list[ModelSpec] = []
        """What to go back to, the latest last: what was loaded, what was on its way when replaced."""

    @property
    def engine(self) -> Engine:
        """What runs models."""
        if self._engine is None:
            self._engine = self._make_engine()
        return self._engine

    @property
    def loading(self) -> bool:
        """Whether a model is on its way."""
        return self._stream is not None

    def load(self, spec: ModelSpec) -> None:
        """Begin to load; a load that runs is given up."""
        if self._stream is not None:
            self._stream.cancel()
            if self._spec is not None:
                self._former.append(self._spec)
        self._spec, self._stream = spec, self.engine.submit(Load(spec))

    def cancel(self) -> None:
        """Give up the load."""
        if self._stream is not None:
            self._stream.cancel()

    def drain(self) -> list[Event]:
        """Return what the load that counts (not one replaced since) has published."""
        stream = self._stream
        events = stream.drain() if stream is not None else []
        if stream is not None and stream.ended:
            self._stream = None
        return events

    def loaded(self, info: ModelInfo) -> None:
        """Note that the model is there."""
        if self._spec is not None:
            self._loaded, self._former = (self._spec, info), [self._spec]

    def ended(self, event: Failed | Cancelled) -> Former:
        """Note that the load came to nothing; return what was there before it.

        Each is given once: should it fail too, what was before that is next.
        """
        if event.model_kept and self._loaded is not None:
            spec, info = self._loaded
            self._former = [spec]
            return Former(spec, info)
        self._loaded = None
        return Former(self._former.pop() if self._former else None)

    def close(self) -> None:
        """Let the engine go, at once."""
        if self._engine is not None:
            self._engine.close()

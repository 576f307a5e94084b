"""What a server serves: an engine with the model in it, and what is known of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from glmtui.protocol.engine import Engine
from glmtui.protocol.models import ModelInfo
from glmtui.protocol.sampling import Sampling
from glmtui.server.errors import ApiError
from glmtui.server.library import Library


class Embedder(Protocol):
    """A model that turns texts into vectors."""

    name: str

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return a vector of each text, and how many tokens were read. It takes a while."""


@dataclass
class Service:
    """The engine of a process, which others may use besides the server.

    Its functions are called in the server's thread, and must not wait.
    """

    engine: Engine
    info: Callable[[], ModelInfo | None]
    """The model in memory; None while there is none."""
    sampling: Callable[[], Sampling]
    """How tokens are chosen where a request leaves it open."""
    busy: Callable[[], bool] = lambda: False
    """Whether the engine works for somebody else who comes first, such as the app that it belongs to."""
    library: Library | None = None
    """Where the page's conversations are kept; None: in the browser."""
    embedder: Embedder | None = None
    """For ``/v1/embeddings``."""
    since: int = field(default_factory=lambda: int(time.time()))

    @property
    def model(self) -> ModelInfo:
        """The model in memory.

        Raises:
            ApiError: there is none yet.
        """
        info = self.info()
        if info is None:
            raise ApiError(503, "No model is loaded yet.", code="no_model", retry_after=5)
        return info

    def named(self, name: object) -> ModelInfo:
        """Return the model in memory, which a request may leave unnamed.

        Raises:
            ApiError: there is none, or it is not called `name`.
        """
        info = self.model
        if name is None or name in (info.name, info.source):
            return info
        raise ApiError(
            404,
            f"There is no model {str(name)[:100]!r} here; there is {info.name!r}.",
            param="model",
            code="model_not_found",
        )

"""What a server serves: an engine with the model in it, and what is known of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from glmtui.protocol.engine import Engine
from glmtui.protocol.models import ModelInfo
from glmtui.protocol.sampling import Sampling
from glmtui.server.errors import ApiError, bad_request
from glmtui.server.library import Library


class Embedder(Protocol):
    """A model that turns texts into vectors."""

    name: str

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return a vector of each text, and how many tokens were read. It takes a while."""


@dataclass(frozen=True, slots=True)
class Program:
    """What is started for a tab, in a terminal of its own."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


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
    program: Callable[[ModelInfo], Program] | None = None
    """Returns what shows the app in a tab, with this model; None: nothing does."""
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
        check_name(name, info.name, info.source or info.name)
        return info


def check_name(name: object, *names: str) -> None:
    """Check which model a request means.

    One that names none means the one that is there, as with vLLM and llama-server: the published api.py knew
    no names, and OpenAI's refusal of such a request helps nobody where there is no choice.

    Raises:
        ApiError: it is none of `names`.
    """
    if name is None or name in names:
        return
    if not isinstance(name, str):
        raise bad_request("model must be a string.", "model")
    message = f"There is no model {name[:100]!r} here; there is {names[0]!r}."
    raise ApiError(404, message, param="model", code="model_not_found")

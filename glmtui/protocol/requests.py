"""What can be asked of an engine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import ModelEntry, Quant
from glmtui.protocol.sampling import Sampling

_request_ids = itertools.count(1)


def _next_id() -> int:
    return next(_request_ids)


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model, replacing the one in memory (which is let go first)."""

    source: str | None = None
    """A folder, a hub id or a short name; None: the built-in model."""
    device: str = "auto"
    gpus: str | None = None
    """A number of GPUs to spread it over, or a file that says what goes where."""
    quant: Quant | None = None
    """None keeps what the files are."""
    dtype: str | None = None
    threads: int | None = None
    ptuning: str | None = None
    request_id: int = field(default_factory=_next_id)


@dataclass(frozen=True, slots=True)
class Unload:
    """Let the model go and free its memory."""

    request_id: int = field(default_factory=_next_id)


@dataclass(frozen=True, slots=True)
class Generate:
    """Answer `turns`, whose last is the user's (or, with `continue_answer`, the cut-off assistant's)."""

    turns: tuple[ChatMessage, ...]
    sampling: Sampling = Sampling()  # noqa: RUF009 (frozen)
    continue_answer: bool = False
    request_id: int = field(default_factory=_next_id)


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Ask how many tokens the prompt of `turns` has; answered by `TokenCount`."""

    turns: tuple[ChatMessage, ...]
    request_id: int = field(default_factory=_next_id)


@dataclass(frozen=True, slots=True)
class ListModels:
    """Ask which models there are; answered by `ModelList`."""

    add: str | None = None
    """A folder to remember first: a model, or a folder of models."""
    device: str = "auto"
    """Where a model would be loaded."""
    request_id: int = field(default_factory=_next_id)


@dataclass(frozen=True, slots=True)
class RemoveModel:
    """Delete a model from the hub cache, or forget a folder that was added (nothing in it is deleted).

    Answered by `ModelList`.
    """

    entry: ModelEntry
    device: str = "auto"
    request_id: int = field(default_factory=_next_id)


@dataclass(frozen=True, slots=True)
class Download:
    """Fetch a model into the hub cache, beside whatever the model in memory does."""

    source: str
    """A short name or a hub id, with ``@revision`` to pin one."""
    request_id: int = field(default_factory=_next_id)


ModelRequest = Load | Unload | Generate | CountTokens
"""One after another, in the order of their coming."""
InventoryRequest = ListModels | RemoveModel | Download
"""At once, each in a thread of its own."""
Request = ModelRequest | InventoryRequest

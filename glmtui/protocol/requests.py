"""What can be asked of an engine (`glmtui.protocol.engine.Engine.submit`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import LocalModel, ModelEntry, ModelSpec
from glmtui.protocol.sampling import DEFAULT_SAMPLING, Sampling


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model, replacing the one in memory (which is let go first). Ends with `Loaded`."""

    spec: ModelSpec = field(default_factory=LocalModel)


@dataclass(frozen=True, slots=True)
class Unload:
    """Let the model go and free its memory. Ends with `Unloaded`."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask to be called."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """A JSON schema."""


@dataclass(frozen=True, slots=True)
class Generate:
    """Answer `messages`, whose last is the user's (or, with `continue_answer`, the assistant's own, cut off).

    Ends with `Done`.
    """

    messages: tuple[ChatMessage, ...]
    sampling: Sampling = DEFAULT_SAMPLING
    continue_answer: bool = False
    stop: tuple[str, ...] = ()
    """The answer (not the thought before it) ends before the first of these texts."""
    tools: tuple[Tool, ...] = ()
    """What the model may call; it fails with ``unavailable`` where the model was not trained to."""
    leave_out_rounds: bool = True
    """Whether the oldest rounds may be left out of a prompt that is too long; else it fails with
    ``too_long``."""


@dataclass(frozen=True, slots=True)
class Complete:
    """Go on with `text` as it stands, which no form of a conversation is put around. Ends with `Done`.

    What follows is told as it is: thoughts are not taken apart. A text that is too long fails with
    ``too_long``.
    """

    text: str
    sampling: Sampling = DEFAULT_SAMPLING
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Ask for the tokens of the prompt of `messages`, or of a bare `text`. Ends with `TokenCount`."""

    messages: tuple[ChatMessage, ...] = ()
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Prefill:
    """Read the prompt of `messages` ahead of the `Generate` that may come. Ends with `Prefilled`.

    Whatever else is asked of the model comes first, and ends it as a cancel does, but for what it `serves`:
    that waits for it, as it would have to read the same.
    """

    messages: tuple[ChatMessage, ...]
    sampling: Sampling = DEFAULT_SAMPLING
    """Its lengths say how much of the conversation fits."""

    def serves(self, request: object) -> bool:
        """Whether `request` wants the same prompt."""
        return (
            isinstance(request, Generate)
            and (request.messages, request.sampling) == (self.messages, self.sampling)
            and not (request.continue_answer or request.tools)
        )


@dataclass(frozen=True, slots=True)
class ListModels:
    """Ask which models there are. Ends with `ModelList`."""

    add: str | None = None
    """A folder to remember first: a model, or a folder of models."""
    device: str = "auto"
    """Where a model would be loaded."""


@dataclass(frozen=True, slots=True)
class RemoveModel:
    """Delete a model from the hub cache, or forget a folder that was added (nothing in it is deleted).

    Ends with `ModelList`.
    """

    entry: ModelEntry
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Download:
    """Fetch a model into the hub cache. Ends with `Downloaded`."""

    source: str
    """A short name or a hub id, with ``@revision`` to pin one."""


ModelRequest: TypeAlias = Load | Unload | Generate | Complete | CountTokens | Prefill
"""To the model in memory: one after another, in the order of their coming."""
InventoryRequest: TypeAlias = ListModels | RemoveModel | Download
"""About the models there are: at once, next to whatever the model in memory does."""
Request: TypeAlias = ModelRequest | InventoryRequest

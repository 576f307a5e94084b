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
    json_schema: Mapping[str, Any] | None = None
    """The answer is JSON of this schema, as far as it gets; an empty one takes any JSON."""
    leave_out_rounds: bool = True
    """Whether the oldest rounds may be left out of a prompt that is too long; else it fails with
    ``too_long``."""
    images: Mapping[str, bytes] = field(default_factory=dict)
    """The files of the `Image` parts of `messages`, by their SHA-256, for a model that sees
    (`ModelInfo.sees_images`). It fails with ``unavailable`` where the model does not, with ``not_found``
    where one is missing and with ``bad_file`` where one is no picture (`glmtui.images`)."""
    adapters: bool = True
    """Whether the prefix or LoRA that the model was loaded with is used; else it answers as it was before."""


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
    images: Mapping[str, bytes] = field(default_factory=dict)
    """As in `Generate`."""


@dataclass(frozen=True, slots=True)
class Prefill:
    """Read the prompt of `messages` ahead of the `Generate` that may come; not of pictures. Ends with
    `Prefilled`.

    Whatever else is asked of the model comes first, and ends it as a cancel does, but for what it `serves`:
    that waits for it, as it would have to read the same.
    """

    messages: tuple[ChatMessage, ...]
    sampling: Sampling = DEFAULT_SAMPLING
    """Its lengths say how much of the conversation fits."""
    adapters: bool = True
    """As in `Generate`."""

    def serves(self, request: object) -> bool:
        """Whether `request` wants the same prompt."""
        mine = (self.messages, self.sampling, self.adapters)
        return (
            isinstance(request, Generate)
            and (request.messages, request.sampling, request.adapters) == mine
            and not (request.continue_answer or request.tools or request.images)
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
"""To the model in memory: they are begun in the order of their coming. Answers are made next to each other,
as many as `Capabilities.slots` says; a load, or letting the model go, waits for all that came before."""
InventoryRequest: TypeAlias = ListModels | RemoveModel | Download
"""About the models there are: at once, next to whatever the model in memory does."""
Request: TypeAlias = ModelRequest | InventoryRequest

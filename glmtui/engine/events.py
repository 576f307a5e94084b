"""What the app asks of the worker, and what the worker answers: plain data, no torch, no textual.

Requests go in by `Worker.submit`; events come out of `Worker.events` in order. Every request ends with
exactly one of `Loaded`, `Unloaded`, `Done`, `TokenCount`, `ModelList`, `Downloaded`, `Cancelled` or `Failed`
that carries its `request_id`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

from glmtui.engine.choices import DEFAULT_SAMPLING
from glmtui.engine.choices import Quant as Quant
from glmtui.engine.choices import Role as Role
from glmtui.engine.choices import Sampling as Sampling
from glmtui.i18n import _

_request_ids = itertools.count(1)


def _next_id() -> int:
    return next(_request_ids)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation as the model is to see it."""

    role: Role
    text: str


Place = Literal["builtin", "hub", "folder", "absent"]
"""Where a model is: part of glmtui, in the hub cache, in a folder, or nowhere on this machine yet."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as the list of models shows it."""

    source: str | None
    """What `Load` and `Download` take; None: the built-in model."""
    name: str
    place: Place
    path: str = ""
    """Its folder; empty where it is absent."""
    hub_id: str = ""
    parameters: int = 0
    quant: Quant = "none"
    """How its files store the weights."""
    format: str = ""
    """``FP16``, ``INT4`` …, and for files that are here also of which kind they are."""
    max_length: int = 0
    file_bytes: int = 0
    """Size of its files; of an absent one, about."""
    part_bytes: int = 0
    """What has come of a download that is not finished."""
    needs: tuple[tuple[Quant, int], ...] = ()
    """Bytes of memory with each quantisation it can be loaded with, for the device of `ModelList`."""
    licence: str = ""
    """For people, in the interface's language."""
    chats: bool = True
    """False: a base model that only goes on with a text."""
    problem: str = ""
    """Why it cannot be loaded, for people."""


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How much of a file has come, in bytes."""

    name: str
    done: int
    size: int


# --- requests ---


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

    turns: tuple[Turn, ...]
    sampling: Sampling = Sampling()  # noqa: RUF009 (frozen)
    continue_answer: bool = False
    request_id: int = field(default_factory=_next_id)


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Ask how many tokens the prompt of `turns` has; answered by `TokenCount`."""

    turns: tuple[Turn, ...]
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
ShelfRequest = ListModels | RemoveModel | Download
"""At once, each in a thread of its own."""
Request = ModelRequest | ShelfRequest


# --- events ---


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded, for the status line, the messages' own record and `doctor`."""

    name: str
    """Short and the same in every language, as answers keep it: ``nano``, ``chatglm-6b``."""
    source: str | None
    architecture: str
    parameters: int
    device: str
    device_name: str
    quant: Quant
    dtype: str
    memory_bytes: int
    """Weights as they lie in memory."""
    max_length: int
    """The longest prompt and answer together that the model was made for, in tokens."""
    supports_system: bool
    sampling: Sampling = DEFAULT_SAMPLING
    """What its makers chose, and how long conversations may be unless told otherwise."""
    builtin: bool = False
    note: str = ""
    """Something the person should know (already translated), such as why the CPU kernels are not used."""

    @property
    def title(self) -> str:
        """The name for people."""
        return _("nano (built in)") if self.builtin else self.name


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Bytes of the checkpoint read (and quantised) so far."""

    request_id: int
    stage: Literal["read", "quantize", "compile"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is ready."""

    request_id: int
    info: ModelInfo
    seconds: float


@dataclass(frozen=True, slots=True)
class Unloaded:
    """No model is in memory."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is built and being read."""

    request_id: int
    prompt_tokens: int
    limit: int
    """Prompt and answer together may not pass this, in tokens."""
    dropped_rounds: int
    """How many of the oldest rounds were left out so that the rest fits."""


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How much of the prompt has been read, 0 to 1."""

    request_id: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """New text of the answer. Appending every `text` gives the whole answer; none is ever taken back."""

    request_id: int
    text: str
    count: int
    """Tokens generated since the last event (text may lag: half a character is held back)."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The measure of one answer."""

    prompt_tokens: int
    answer_tokens: int
    prompt_seconds: float
    answer_seconds: float

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, without the prompt."""
        return self.answer_tokens / self.answer_seconds if self.answer_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete (``stop``) or the length limit was reached (``length``)."""

    request_id: int
    stats: Stats
    reason: Literal["stop", "length"]
    text: str
    """The whole answer, equal to all `Tokens.text` joined."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The person stopped it; what came until then stands."""

    request_id: int
    stats: Stats | None
    text: str


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of the prompt asked about."""

    request_id: int
    tokens: int


@dataclass(frozen=True, slots=True)
class ModelList:
    """The models there are: the built-in one, those on this machine, then those that can be downloaded."""

    request_id: int
    entries: tuple[ModelEntry, ...]
    device: str
    device_name: str
    free_memory: int
    """Bytes on that device, beside the model in memory."""
    free_disk: int
    """Bytes where downloads go."""
    cache: str
    """That folder."""


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a download is; sent about ten times a second."""

    request_id: int
    files: tuple[FileProgress, ...]

    @property
    def done(self) -> int:
        """Bytes that have come, those of earlier attempts included."""
        return sum(file.done for file in self.files)

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The model is here, whole and verified."""

    request_id: int
    source: str
    path: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not work; `message` is for people: what, with which file or value, and what to do."""

    request_id: int
    message: str
    absent: str | None = None
    """The model to be loaded is not on this machine, but `Download` may get it under this name."""
    model_kept: bool = False
    """The model that was in memory before is there still."""


Event = (
    LoadProgress
    | Loaded
    | Unloaded
    | Started
    | PromptProgress
    | Tokens
    | Done
    | Cancelled
    | TokenCount
    | ModelList
    | DownloadProgress
    | Downloaded
    | Failed
)

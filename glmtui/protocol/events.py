"""What an engine tells of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from glmtui.protocol.models import FileProgress, ModelEntry, ModelInfo
from glmtui.protocol.phrases import Phrase


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
    phrase: Phrase
    absent: str | None = None
    """The model to be loaded is not on this machine, but `Download` may get it under this name."""
    code: str = "failed"
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

"""What an engine tells of one request, in order. The last is one of `End`, of the kind the request names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from glmtui.protocol.messages import ToolCall
from glmtui.protocol.models import FileProgress, ModelEntry, ModelInfo
from glmtui.protocol.phrases import NOTHING, Phrase


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Bytes of the checkpoint read (and quantised) so far."""

    stage: Literal["read", "quantize", "compile"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is built and being read."""

    prompt_tokens: int
    limit: int
    """Prompt and answer together may not pass this, in tokens."""
    dropped_rounds: int
    """How many of the oldest rounds (question and answer) were left out so that the rest fits."""


@dataclass(frozen=True, slots=True)
class PromptProgress:
    """How much of the prompt has been read, 0 to 1."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """New text of the answer, or of the thought before it. Appending every `text` gives all of each;
    none is ever taken back."""

    text: str
    count: int
    """Tokens generated since the last event (text may lag: half a character is held back)."""
    thought: bool = False
    """Whether it is the thought that grows."""


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The answer was, or ended with, a call of one of the tools of `Generate`; it is no part of the text."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """How far a download is; sent about ten times a second."""

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


# --- ends ---


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is ready."""

    info: ModelInfo
    seconds: float


@dataclass(frozen=True, slots=True)
class Unloaded:
    """No model is in memory."""


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete (``stop``) or the length limit was reached (``length``)."""

    stats: Stats
    reason: Literal["stop", "length"]
    note: Phrase = NOTHING
    """What the person should know, such as that a server cut the prompt."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of the prompt asked about."""

    tokens: int
    ids: tuple[int, ...] = ()
    """The tokens themselves, where the engine has them."""


@dataclass(frozen=True, slots=True)
class Prefilled:
    """The prompt is read, as far as that can be done ahead."""

    tokens: int
    """Of the prompt that need not be read again."""


@dataclass(frozen=True, slots=True)
class ModelList:
    """The models there are: the built-in one, those on this machine, then those that can be downloaded."""

    entries: tuple[ModelEntry, ...]
    device: str
    device_name: str
    free_memory: int
    """Bytes on that device, next to the model in memory."""
    free_disk: int
    """Bytes where downloads go."""
    cache: str
    """That folder."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The model is here, complete and verified."""

    source: str
    path: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It was given up; what came until then stands."""

    stats: Stats | None = None
    """Of an answer that had begun."""
    model_kept: bool = False
    """Of a load: the model that was in memory before is there still."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not work."""

    code: str
    """Which kind of failure, for programs (`glmtui.errors`)."""
    phrase: Phrase
    """What went wrong, with which file or value, and what to do."""
    absent: str | None = None
    """The model to be loaded is not on this machine, but `Download` may get it under this name."""
    model_kept: bool = False
    """Of a load: the model that was in memory before is there still."""


Progress: TypeAlias = LoadProgress | Started | PromptProgress | Tokens | ToolCalled | DownloadProgress
End: TypeAlias = (
    Loaded | Unloaded | Done | TokenCount | Prefilled | ModelList | Downloaded | Cancelled | Failed
)
Event: TypeAlias = Progress | End
ENDS = (Loaded, Unloaded, Done, TokenCount, Prefilled, ModelList, Downloaded, Cancelled, Failed)
"""For `isinstance`."""

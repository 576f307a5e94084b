"""What a session publishes. Each event carries what a view needs; nothing is asked back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from glmtui.chat.tree import Message
    from glmtui.protocol.models import ModelInfo
    from glmtui.protocol.phrases import Sayable
    from glmtui.session.message_queue import QueuedMessage

Kind = Literal["info", "warning", "error"]
Activity = Literal["starting", "loading", "none", "ready", "searching", "reading", "answering"]
Versions: TypeAlias = Mapping[str, tuple[int, int]]
"""Which version a message is, of how many, by its id; only of messages that have several."""


@dataclass(frozen=True, slots=True)
class SessionState:
    """How things stand: what the status line, the hints and the queue show."""

    activity: Activity = "starting"
    info: ModelInfo | None = None
    loading: str = ""
    """Name of the model that is being loaded."""
    stage: Literal["prepare", "read", "quantize", "compile"] = "prepare"
    """Of a load; it begins with what has no measure, such as importing torch."""
    done: int = 0
    total: int = 0
    """Bytes of the checkpoint."""
    since: float = 0.0
    """`time.monotonic` when the activity began; of a load, the stage..."""
    begun: int = 0
    """...and what was done of it then."""
    fraction: float = 0.0
    """Of the prompt that has been read."""
    tokens_per_second: float | None = None
    used: int = 0
    """Tokens of the conversation."""
    draft: int = 0
    """Tokens that what is being written would add."""
    limit: int = 0
    """Context in tokens."""
    queued: tuple[QueuedMessage, ...] = ()
    """What is queued in the open conversation."""
    editing: str | None = None
    """Id of the message whose new version is being written."""
    documents: str = ""
    """The collection in use in the open conversation."""
    sources: tuple[int, int] | None = None
    """Of the last answer: how many passages it was given, of how many that were found."""
    indexing: tuple[str, int, int] | None = None
    """The collection whose documents are read, how many were looked at, and of how many."""
    download: tuple[str, float] | None = None
    """The model that is being downloaded, and how much of it is here, 0 to 1."""
    importing: tuple[str, float] | None = None
    """The file that is being imported, and how much of it was read, 0 to 1."""
    tuning: tuple[str, float] | None = None
    """What is being trained, and how much of the run is done, 0 to 1."""

    @property
    def busy(self) -> bool:
        """Whether an answer is being made."""
        return self.activity in ("searching", "reading", "answering")


@dataclass(frozen=True, slots=True)
class ConversationShown:
    """These messages are read now, instead of what was there."""

    messages: tuple[Message, ...]
    versions: Versions
    title: str = ""
    changed: bool = False
    """Most of them were there before: what the person reads stays where it is."""
    opened: bool = False
    """The person chose this conversation."""
    focus: str | None = None
    """The message because of which it was opened."""
    on_hold: int = 0
    """How many messages are queued in it that are not sent before the person says so."""


@dataclass(frozen=True, slots=True)
class MessageAdded:
    """One more message at the end."""

    message: Message
    versions: Versions


@dataclass(frozen=True, slots=True)
class AnswerBegun:
    """An answer that will grow, with what it has already."""

    message: Message
    versions: Versions


@dataclass(frozen=True, slots=True)
class AnswerGrew:
    """New text of the answer begun last, or of the thought before it."""

    text: str
    thought: bool = False


@dataclass(frozen=True, slots=True)
class AnswerCalled:
    """The model called a tool for the answer begun last, or has what came of it: `message` as it is now."""

    message: Message


@dataclass(frozen=True, slots=True)
class AnswerEnded:
    """The answer begun last, as it stays; `shown` is False where another conversation is open."""

    message: Message
    seconds: float
    shown: bool


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something of the program's own to say among the messages."""

    text: Sayable
    kind: Kind = "info"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """How things stand now."""

    state: SessionState


@dataclass(frozen=True, slots=True)
class ConversationChanged:
    """Another conversation is open, or a title or place in the list of conversations changed."""

    path: Path | None
    """Of the open one; None where it has no file yet."""
    title: str


@dataclass(frozen=True, slots=True)
class ModelChanged:
    """Another model is in memory, whose own values hold where the settings have none."""

    info: ModelInfo


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """These settings (by full key; ``keys`` and ``presets`` for the tables of these names) changed."""

    keys: frozenset[str]


@dataclass(frozen=True, slots=True)
class ModelsChanged:
    """What is known of the models there are changed, or how far the download is."""


@dataclass(frozen=True, slots=True)
class LoadRefused:
    """A model could not be loaded; the settings are as before."""

    absent: str | None
    """What can be downloaded instead, if anything."""


SessionEvent: TypeAlias = (
    ConversationShown | MessageAdded | AnswerBegun | AnswerGrew | AnswerCalled | AnswerEnded | Noticed
    | StateChanged | ConversationChanged | ModelChanged | SettingsChanged | ModelsChanged | LoadRefused
)  # fmt: skip
Listener: TypeAlias = Callable[[SessionEvent], None]
"""Called in the thread of the session, in order; it does not wait."""

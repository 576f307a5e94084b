"""What is said in a conversation: messages of parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Text:
    """What is meant for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """What a model thought before it answered; it is not sent back to it."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, by the digest of its file."""

    sha256: str
    """Empty where its bytes are not at hand: an import may only tell its name."""
    media_type: str
    """``image/png`` …"""
    name: str = ""
    """Where it came from, for people."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text file that belongs to a message, by the digest of its content."""

    name: str
    """As it was named, such as a path in the folder the person was in."""
    sha256: str
    """Empty where its content is not at hand: an import may only tell its name."""
    size: int
    """Of the content, in bytes of UTF-8."""
    origin: str = ""
    """The absolute path or the address it was read from; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that an answer may rest on."""

    number: int
    """How the answer cites it: ``[1]``."""
    title: str
    text: str
    origin: str = ""
    """A path or an address."""
    place: str = ""
    """Where in it: a page, a heading, lines."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model asks for a function to be called."""

    id: str
    name: str
    arguments: str
    """JSON, as the model wrote it: it may be wrong."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a function gave back."""

    call_id: str
    text: str
    name: str = ""


Part: TypeAlias = Text | Thought | Image | Attachment | Source | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as a model is to see it, or as a model wrote it."""

    role: Role
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, role: Role, text: str) -> ChatMessage:
        """Return a message of text alone."""
        return cls(role, (Text(text),))

    @property
    def text(self) -> str:
        """The text parts, joined; of tools what they gave back."""
        return "".join(part.text for part in self.parts if isinstance(part, Text | ToolResult))


def text_of(parts: Iterable[Part]) -> str:
    """Join the text in `parts` that is meant for the reader."""
    return "".join(part.text for part in parts if isinstance(part, Text))


def thought_of(parts: Iterable[Part]) -> str:
    """Join the thoughts in `parts`."""
    return "".join(part.text for part in parts if isinstance(part, Thought))

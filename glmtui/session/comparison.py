"""The same question answered with and without what was trained, next to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glmtui.errors import NotFoundError
from glmtui.protocol.events import Cancelled, Done, Failed, Started, Tokens
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.protocol.requests import Generate

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message
    from glmtui.protocol.engine import Engine, Stream
    from glmtui.protocol.sampling import Sampling

SEED = 1
"""Of both answers, so that chance makes no difference between them."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two answers."""

    adapters: bool
    """Whether it is the one with what was trained."""
    text: str = ""
    begun: bool = False
    ended: bool = False
    problem: Phrase = NOTHING


@dataclass(frozen=True, slots=True)
class Asked:
    """What two answers are compared to."""

    question: str
    """As it is shown."""
    messages: tuple[ChatMessage, ...]
    """The conversation up to and with the question."""
    known: Side | None = None
    """An answer there is already."""


def to_compare(branch: Sequence[Message], messages: Sequence[ChatMessage], question: str) -> Asked:
    """Return `question`, or the last one that was asked where it is empty, with what went before.

    Args:
        branch: the conversation as it is kept.
        messages: the same as the model reads it.
        question: what a person wants to know.

    Raises:
        NotFoundError: nothing was asked yet.
    """
    if question:
        return Asked(question, (*messages, ChatMessage.of("user", question)))
    asked = [message.text for message in branch if message.role == "user"]
    ends = [number for number, message in enumerate(messages, 1) if message.role == "user"]
    if not asked or not ends:
        raise NotFoundError(_("There is no question to compare answers to yet."))
    answer, known = branch[-1], None
    if answer.role == "assistant" and answer.state == "done":
        known = Side(bool(answer.meta.get("adapters")), answer.text, begun=True, ended=True)
    return Asked(asked[-1], tuple(messages[: ends[-1]]), known)


class Comparison:
    """Two answers to one question, in no conversation.

    Args:
        engine: answers.
        asked: the question.
        sampling: how tokens are chosen.
    """

    def __init__(self, engine: Callable[[], Engine], asked: Asked, sampling: Sampling) -> None:
        self.question = asked.question
        self.sides: list[Side] = []
        """With what was trained, then without."""
        self._streams: list[Stream | None] = []
        if sampling.seed is None:
            sampling = replace(sampling, seed=SEED)
        for adapters in (True, False):
            if asked.known is not None and asked.known.adapters == adapters:
                self.sides.append(asked.known)
                self._streams.append(None)
            else:
                self.sides.append(Side(adapters))
                request = Generate(asked.messages, sampling, adapters=adapters)
                self._streams.append(engine().submit(request))

    @property
    def ended(self) -> bool:
        """Whether both are complete."""
        return all(side.ended for side in self.sides)

    def poll(self) -> None:
        """Take in what came."""
        for at, stream in enumerate(self._streams):
            for event in stream.drain() if stream is not None else ():
                side = self.sides[at]
                match event:
                    case Started():
                        self.sides[at] = replace(side, begun=True)
                    case Tokens(thought=False):
                        self.sides[at] = replace(side, text=side.text + event.text)
                    case Failed():
                        self.sides[at] = replace(side, problem=event.phrase, ended=True)
                    case Done() | Cancelled():
                        self.sides[at] = replace(side, ended=True)

    def cancel(self) -> None:
        """Let both end."""
        for stream in self._streams:
            if stream is not None:
                stream.cancel()

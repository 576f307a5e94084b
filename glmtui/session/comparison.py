"""The same question answered with and without what was trained, next to each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glmtui.protocol.events import Cancelled, Done, Failed, Started, Tokens
from glmtui.protocol.phrases import NOTHING, Phrase
from glmtui.protocol.requests import Generate

if TYPE_CHECKING:
    from glmtui.protocol.engine import Engine, Stream
    from glmtui.protocol.messages import ChatMessage
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


class Comparison:
    """Two answers to one question, in no conversation.

    Args:
        engine: answers.
        question: as it is shown.
        messages: the conversation up to and with the question.
        sampling: how tokens are chosen.
        known: an answer there is already, and whether it was made with what was trained.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        question: str,
        messages: Sequence[ChatMessage],
        sampling: Sampling,
        known: tuple[str, bool] | None = None,
    ) -> None:
        self.question = question
        self.sides: list[Side] = []
        """With what was trained, then without."""
        self._streams: list[Stream | None] = []
        if sampling.seed is None:
            sampling = replace(sampling, seed=SEED)
        for adapters in (True, False):
            if known is not None and known[1] == adapters:
                self.sides.append(Side(adapters, known[0], begun=True, ended=True))
                self._streams.append(None)
            else:
                self.sides.append(Side(adapters))
                request = Generate(tuple(messages), sampling, adapters=adapters)
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

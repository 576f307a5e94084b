"""From the tokens of one answer to what it says: text, thought, tool call, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from glmtui.models.chat_formats.responses import ResponseStream
from glmtui.models.chat_formats.stops import StopStream
from glmtui.models.chat_formats.thoughts import Piece, ThoughtStream
from glmtui.models.chat_formats.tools import ToolCallStream
from glmtui.models.tokenizers.chatglm import TextStream
from glmtui.protocol.messages import ToolCall


class AnswerText:
    """What one answer says, token by token; nothing is ever taken back.

    Args:
        decoder: from token ids to characters.
        response: what the published code does to an answer; None leaves the text as it is.
        thoughts: takes the thought apart; None leaves it in the text.
        stop: the answer ends before the first of these texts, which are not looked for in its thought.
        tools: names of what may be called.
    """

    def __init__(
        self,
        decoder: TextStream,
        response: ResponseStream | None = None,
        thoughts: ThoughtStream | None = None,
        *,
        stop: Sequence[str] = (),
        tools: Sequence[str] = (),
    ) -> None:
        self._decoder, self._response, self._thoughts = decoder, response, thoughts
        self._stops, self._calls = StopStream(stop), ToolCallStream(tools)

    @property
    def stopped(self) -> bool:
        """Whether a stop string came: nothing follows."""
        return self._stops.found

    @property
    def call(self) -> ToolCall | None:
        """What the answer calls, once it is complete."""
        return self._calls.call

    @property
    def as_generated(self) -> bool:
        """Whether the text of the answer says all that its tokens do."""
        thought = self._thoughts is not None and self._thoughts.thought
        return not (thought or self.stopped or self.call)

    def push(self, token: int) -> list[Piece]:
        """Return what is decided once `token` has come."""
        text = self._decoder.push(token)
        return self._take(text if self._response is None else self._response.push(text))

    def finish(self, *, complete: bool) -> list[Piece]:
        """Return what was held back, as the answer ends here; it is `complete` if the model ended it."""
        text = self._decoder.finish()
        if self._response is not None:
            text = self._response.push(text) + self._response.finish()
        pieces = self._take(text)
        if self._thoughts is not None:
            pieces += self._limit(self._thoughts.finish(complete=complete))
        rest = self._calls.push(self._stops.finish()) + self._calls.finish()
        return [*pieces, *([Piece(rest, thought=False)] if rest else [])]

    def _take(self, text: str) -> list[Piece]:
        if self._thoughts is not None:
            return self._limit(self._thoughts.push(text))
        return self._limit([Piece(text, thought=False)])

    def _limit(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Take stop strings and calls out of the answer; the thought is as it is."""
        passed = [
            each if each.thought else Piece(self._calls.push(self._stops.push(each.text)), thought=False)
            for each in pieces
        ]
        return [each for each in passed if each.text]

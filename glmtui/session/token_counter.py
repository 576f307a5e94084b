"""How many tokens the open conversation and what is being written have, counted by the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING

from glmtui.errors import UserError
from glmtui.protocol.engine import Engine, Stream
from glmtui.protocol.events import ENDS, Failed, TokenCount
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.requests import CountTokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


PAUSE = 0.01
"""Seconds between two looks at whether something was counted."""
NO_IMAGES: Mapping[str, bytes] = MappingProxyType({})


class TokenCounter:
    """Asks, and takes in the answers when they have come; a new question replaces the one before.

    Args:
        engine: counts.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine
        self._used: Stream | None = None
        self._with_draft: Stream | None = None
        self.used = 0
        """Tokens of the conversation."""
        self.draft = 0
        """Tokens that what is being written would add."""

    def ask(
        self,
        messages: Sequence[ChatMessage],
        draft: ChatMessage | None,
        images: Mapping[str, bytes] = NO_IMAGES,
    ) -> None:
        """Count `messages`, and what `draft` would add as one more; `images` are those of both."""
        self.cancel()
        if messages:
            self._used = self._count(messages, images)
        else:
            self.used = 0
        if draft is not None:
            self._with_draft = self._count([*messages, draft], images)
        else:
            self.draft = 0

    async def count(self, messages: Sequence[ChatMessage], images: Mapping[str, bytes] = NO_IMAGES) -> int:
        """Return how many tokens the prompt of `messages` has.

        Raises:
            UserError: it cannot be counted: the model is gone.
        """
        stream = self._count(messages, images)
        try:
            while not (ends := [event for event in stream.drain() if isinstance(event, ENDS)]):
                await asyncio.sleep(PAUSE)
        finally:
            stream.cancel()
        if isinstance(end := ends[0], TokenCount):
            return end.tokens
        raise UserError(end.phrase) if isinstance(end, Failed) else asyncio.CancelledError

    def cancel(self) -> None:
        """Ask no longer: what was counted last stays."""
        for stream in (self._used, self._with_draft):
            if stream is not None:
                stream.cancel()
        self._used = self._with_draft = None

    def poll(self) -> bool:
        """Take in what was counted; return whether there was something."""
        used, both = _counted(self._used), _counted(self._with_draft)
        if used is not None:
            self.used, self._used = used, None
        if both is not None:
            self.draft, self._with_draft = max(both - self.used, 0), None
        return used is not None or both is not None

    def _count(self, messages: Sequence[ChatMessage], images: Mapping[str, bytes]) -> Stream:
        return self._engine().submit(CountTokens(tuple(messages), images=images))


def _counted(stream: Stream | None) -> int | None:
    events = stream.drain() if stream is not None else []
    return next((event.tokens for event in events if isinstance(event, TokenCount)), None)

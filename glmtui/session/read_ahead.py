"""The prompt of what is being written, read by the engine before it is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from glmtui.protocol.requests import Generate, Prefill

if TYPE_CHECKING:
    from glmtui.protocol.engine import Engine, Stream


class ReadAhead:
    """Has one prompt read at a time; another one takes its place.

    Args:
        engine: reads.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine
        self._request: Prefill | None = None
        self._stream: Stream | None = None

    def ask(self, request: Prefill) -> None:
        """Have the prompt of `request` read, unless it is or was just now."""
        given_up = self._stream is None or self._stream.token.cancelled  # by the engine, for something else
        if request == self._request and not given_up:
            return
        self.cancel()
        self._request, self._stream = request, self._engine().submit(request)

    def cancel(self) -> None:
        """Stop reading. What was read stays until another prompt is."""
        if self._stream is not None:
            self._stream.cancel()
        self._request = self._stream = None

    def take(self, request: Generate) -> Stream | None:
        """Return the stream of what is read for `request`, if that is not over; something else ends."""
        stream, ahead = self._stream, self._request
        if stream is None or ahead is None or not ahead.serves(request):
            self.cancel()
            return None
        self._request = self._stream = None
        stream.drain()
        return None if stream.ended else stream

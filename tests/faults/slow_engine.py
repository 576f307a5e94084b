"""An engine that takes its time: it says a word now and then by the clock, without a thread or torch."""

from __future__ import annotations

from time import monotonic

from scripted_engine import NANO

from glmtui.protocol.engine import Stream
from glmtui.protocol.events import Cancelled, Done, Event, Loaded, Started, Stats, TokenCount, Tokens
from glmtui.protocol.models import Capabilities
from glmtui.protocol.requests import CountTokens, Generate, Load, Request

WORDS, SECONDS = 40, 0.04
"""Of an answer, and between two of its words."""


class SlowStream(Stream):
    """An answer that grows with the time."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = monotonic()
        self._said = 0
        self.put(Started(10, 2048, 0))

    def cancel(self) -> None:
        super().cancel()
        if not self.ended:
            self.put(Cancelled(Stats(10, self._said, 0.1, 0.1)))

    def drain(self) -> list[Event]:
        due = min(WORDS, int((monotonic() - self._begun) / SECONDS))
        while self._said < due and not self.token.cancelled:
            self.put(Tokens(f"word-{self._said} ", 1, False))
            self._said += 1
            if self._said == WORDS:
                self.put(Done(Stats(10, WORDS, 0.1, 0.1), "stop"))
        return super().drain()


class SlowEngine:
    """Loads at once and answers slowly."""

    def __init__(self) -> None:
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def submit(self, request: Request) -> Stream:
        if isinstance(request, Generate) and not self._closed:
            return SlowStream()
        stream = Stream()
        if isinstance(request, Load):
            stream.put(Loaded(NANO, 0.0))
        elif isinstance(request, CountTokens):
            stream.put(TokenCount(10))
        else:
            stream.put(Cancelled())
        return stream

    def close(self) -> None:
        self._closed = True

    def join(self, timeout: float) -> bool:
        return True

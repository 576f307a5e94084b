"""Between what asks for answers and what makes them: requests in, one stream of events per request."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from glmtui.protocol.cancellation import CancelToken
from glmtui.protocol.events import ENDS, DownloadProgress, Event, LoadProgress, PromptProgress, Tokens
from glmtui.protocol.models import Capabilities
from glmtui.protocol.requests import Request


class Stream:
    """The events of one request.

    The engine `put`s them, from any thread; whoever asked takes them, either by `drain` (an event loop's
    poll) or by iterating (a program that has nothing else to do). The last is one of
    `glmtui.protocol.events.End`.
    """

    MOST = 500
    """Events that `drain` takes at once, so that a screen stays alive whatever an engine says."""

    def __init__(self) -> None:
        self.token = CancelToken()
        """Checked by the engine between pieces of its work."""
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._ended = False
        self._wake: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        """Whether the last event was taken."""
        return self._ended

    def cancel(self) -> None:
        """Give up this request and no other; it ends with `Cancelled`, unless it has ended. Never waits."""
        self.token.cancel()

    def put(self, event: Event) -> None:
        """Tell `event`: for engines."""
        self._events.put(event)
        if self._wake is not None:
            self._wake()

    def notify(self, wake: Callable[[], None]) -> None:
        """Call `wake` now, and then after every event from the thread that put it: for an event loop that
        would rather be woken than poll. It must not wait, nor raise."""
        self._wake = wake
        wake()

    def drain(self) -> list[Event]:
        """Return what came since the last call, joined as far as nothing is lost. Never waits."""
        joined: list[Event] = []
        for _count in range(self.MOST):
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                break
            _join(joined, event)
        self._note(joined)
        return joined

    def __iter__(self) -> Iterator[Event]:
        """Wait for every event until the last."""
        while not self._ended:
            event = self._events.get()
            self._note([event])
            yield event

    def _note(self, events: list[Event]) -> None:
        self._ended = self._ended or any(isinstance(event, ENDS) for event in events)


def _join(joined: list[Event], event: Event) -> None:
    """Add `event`: to the text before it, or in place of progress that it overtakes."""
    last = joined[-1] if joined else None
    if isinstance(event, Tokens) and isinstance(last, Tokens) and last.thought == event.thought:
        joined[-1] = replace(last, text=last.text + event.text, count=last.count + event.count)
    elif isinstance(event, LoadProgress | PromptProgress | DownloadProgress) and type(last) is type(event):
        joined[-1] = event
    else:
        joined.append(event)


class Engine(Protocol):
    """What runs models, here or elsewhere. Its methods never wait, but for `join`."""

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked for now; it may change with the model."""
        ...

    def submit(self, request: Request) -> Stream:
        """Take a request.

        Those to the model in memory (`ModelRequest`) are begun in the order of their coming, and but for
        answers, of which there may be several at once, done in it. What the engine cannot do ends with
        `Failed`, what comes after `close` with `Cancelled`.
        """
        ...

    def close(self) -> None:
        """Cancel everything and take no more; what runs ends soon."""

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the end after `close`; return whether it has come."""
        ...

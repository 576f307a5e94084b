"""From requests to the engine and back: slots, a bounded queue that is fair to clients, and giving up.

Everything here happens in the server's event loop; an engine's thread only wakes it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress

from glmtui import failures
from glmtui.protocol.engine import Engine, Stream
from glmtui.protocol.events import ENDS, Cancelled, Event, Failed, Started
from glmtui.protocol.phrases import verbatim
from glmtui.protocol.requests import Complete, CountTokens, Generate
from glmtui.server.errors import SHUTTING_DOWN, TIMED_OUT, ApiError
from glmtui.server.metrics import Measure, Metrics
from glmtui.server.options import Limits

Asked = Generate | Complete | CountTokens
PAUSE = 0.1
"""Seconds between two looks at who comes first."""
LONGEST_WAIT = 60
"""Seconds that a client is told to stay away at most."""


class Job:
    """One request, from the queue to its last event. Made by `Dispatcher.submit`."""

    def __init__(self, request: Asked, client: str, measure: Measure, dispatcher: Dispatcher) -> None:
        self.request = request
        self.client = client
        self.measure = measure
        self.stream: Stream | None = None
        """What the engine tells, once it has the request."""
        self.started = False
        """Whether the engine has begun."""
        self.ended = False
        """Whether its last event came."""
        self._dispatcher = dispatcher
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()

    def put(self, event: Event) -> None:
        """Add what the engine told; after an end nothing is added any more."""
        if self.ended:
            return
        self.started = self.started or isinstance(event, Started)
        self.ended = isinstance(event, ENDS)
        self._events.append(event)
        self._changed.set()

    async def next(self, timeout: float | None = None) -> Event | None:
        """Wait for the next event; None if none came within `timeout` seconds."""
        while not self._events:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except asyncio.TimeoutError:
                return None
        return self._events.popleft()

    def cancel(self) -> None:
        """Give it up, also if it waits; its slot is free within a token. Never waits."""
        self._dispatcher.give_up(self, Cancelled())


class Dispatcher:
    """Gives requests to the engine as slots come free, in turn among clients.

    Args:
        engine: answers; what others ask of it besides this server is its own business.
        limits: slots, queue and time.
        metrics: is told of everything.
        busy: whether the engine works for somebody who comes first: nothing is given to it meanwhile.
    """

    def __init__(
        self, engine: Engine, limits: Limits, metrics: Metrics, busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._engine, self._limits, self._metrics, self._busy = engine, limits, metrics, busy
        self._later: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # by client, whose turn is first
        self._running: set[Job] = set()
        self._timers: dict[Job, asyncio.TimerHandle] = {}
        self._recent = 2.0  # seconds that answers took lately
        self.closing = False
        self.last_sign = time.monotonic()
        """When the engine last gave a sign of life."""

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._waiting.values()))

    def submit(self, request: Asked, client: str) -> Job:
        """Take a request of `client`.

        Raises:
            ApiError: the queue is full (429), or the server ends (503).
        """
        if self.closing:
            raise ApiError(503, "The server is shutting down.", code=SHUTTING_DOWN, retry_after=5)
        waiting = self.waiting
        # one that has nothing in the queue finds a place in it: others cannot keep it out
        most = self._limits.queue if client in self._waiting else 2 * self._limits.queue
        if waiting >= most:
            self._metrics.rejected.add()
            wait = min(max(1, round(self._recent * waiting / self._limits.slots)), LONGEST_WAIT)
            raise ApiError(
                429,
                f"{waiting} requests are waiting already. Try again in {wait} s.",
                code="queue_full",
                retry_after=wait,
            )
        job = Job(request, client, Measure(self._metrics), self)
        self._waiting.setdefault(client, deque()).append(job)
        expired = Failed(TIMED_OUT, verbatim("The request took longer than this server allows."))
        self._timers[job] = self._loop.call_later(self._limits.request_seconds, self.give_up, job, expired)
        self._fill()
        return job

    def give_up(self, job: Job, end: Cancelled | Failed) -> None:
        """End `job` as `end` says; the engine is told, and one that has not begun leaves its slot at once."""
        if job.ended:
            return
        if job.stream is not None:
            job.stream.cancel()
            if not job.started:
                self._release(job)
        else:
            self._waiting[job.client].remove(job)
            if not self._waiting[job.client]:
                del self._waiting[job.client]
        self._end(job, end)
        self._fill()

    def close(self) -> None:
        """End everything: each request is told that the server ends. Take no more. Never waits."""
        self.closing = True
        end = Failed(SHUTTING_DOWN, verbatim("The server is shutting down."))
        for job in [*(job for jobs in self._waiting.values() for job in jobs), *self._running]:
            self.give_up(job, end)

    def _fill(self) -> None:
        if self._waiting and self._busy():
            self._later = self._later or self._loop.call_later(PAUSE, self._fill_again)
            return
        while self._waiting and len(self._running) < self._limits.slots and not self.closing:
            client, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[client] = jobs  # behind the others
            try:
                job.stream = stream = self._engine.submit(job.request)
            except Exception as error:  # noqa: BLE001 (whose request it is, is told; the others go on)
                self._end(job, Failed(*failures.describe(error)))
                continue
            if not self._running:
                self.last_sign = time.monotonic()
            self._running.add(job)
            stream.notify(lambda job=job: self._wake(job))  # type: ignore[misc]  # mypy sees no default there

    def _fill_again(self) -> None:
        self._later = None
        self._fill()

    def _wake(self, job: Job) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it who would be told
            self._loop.call_soon_threadsafe(self._pump, job)

    def _pump(self, job: Job) -> None:
        stream = job.stream
        assert stream is not None
        for event in stream.drain():
            self.last_sign = time.monotonic()
            job.measure.event(event)
            if isinstance(event, ENDS):
                self._end(job, event)
            else:
                job.put(event)
        if stream.ended:
            self._release(job)

    def _end(self, job: Job, end: Event) -> None:
        if timer := self._timers.pop(job, None):
            timer.cancel()
        if not job.ended:
            job.put(end)
            job.measure.end(end)

    def _release(self, job: Job) -> None:
        if job in self._running:
            self._running.discard(job)
            self._recent += 0.2 * (job.measure.age - self._recent)
            self._fill()

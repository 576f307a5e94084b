"""Runs a session where no screen's event loop does."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from glmtui.signals import end_signals

if TYPE_CHECKING:
    from glmtui.session.chat_session import ChatSession
    from glmtui.streams import CleanWriter

POLL_SECONDS = 0.03
CANCEL_SECONDS = 0.5
"""That is waited for what was cancelled to end; what imports or compiles something does not hear of it."""


class Driver:
    """Does one thing after another with a session, each until nothing runs any more.

    The first Ctrl-C meanwhile cancels the answer (or the load) in order, a second one does what it did
    before. Where nothing can be written any more, nothing is done any more.

    Args:
        session: outlives whatever its listeners meet.
        output: takes what it says.
    """

    def __init__(self, session: ChatSession, output: CleanWriter) -> None:
        self._session = session
        self._output = output
        self._loop = asyncio.new_event_loop()
        self._interrupted = False

    def run(self, work: Awaitable[None]) -> bool:
        """Do `work` and all that follows from it; return whether Ctrl-C ended it.

        Raises:
            OSError: what came of it could not be written.
        """
        self._interrupted = False
        with self._interrupts():
            self._loop.run_until_complete(self._until_idle(work))
        return self._interrupted

    def close(self) -> None:
        """Keep what came of a running answer and let the model go."""
        self._session.close()
        if left := asyncio.all_tasks(self._loop):  # such as what looks for sources, and servers of tools
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(left, timeout=CANCEL_SECONDS))
        self._loop.close()

    async def _until_idle(self, work: Awaitable[None]) -> None:
        end = float("inf")
        doing = asyncio.ensure_future(work)
        while not doing.done() or (self._session.busy and time.monotonic() < end):
            await self._session.poll()
            self._output.check()
            if self._interrupted and end == float("inf") and self._session.stop():
                end = time.monotonic() + CANCEL_SECONDS
            if doing.done():
                doing.result()  # what went wrong ends it at once
                await asyncio.sleep(POLL_SECONDS)
            else:
                await asyncio.wait([doing], timeout=POLL_SECONDS)
        doing.result()
        await self._session.poll()
        self._output.check()

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        before = signal.getsignal(signal.SIGINT)

        def interrupt(number: int) -> None:
            signal.signal(number, before)
            self._interrupted = True

        with end_signals(interrupt, ("SIGINT",)):
            yield

"""Runs a session where no screen's event loop does."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glmtui.session.chat_session import ChatSession

POLL_SECONDS = 0.03
CANCEL_SECONDS = 0.5
"""That is waited for what was cancelled to end; what imports or compiles something does not hear of it."""


class Driver:
    """Does one thing after another with a session, each until nothing runs any more.

    The first Ctrl-C meanwhile cancels the answer (or the load) in order, a second one raises
    `KeyboardInterrupt`.
    """

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._loop = asyncio.new_event_loop()
        self._interrupted = False

    def run(self, work: Awaitable[None]) -> bool:
        """Do `work` and all that follows from it; return whether Ctrl-C ended it."""
        self._interrupted = False
        with self._interrupts():
            self._loop.run_until_complete(self._until_idle(work))
        return self._interrupted

    def close(self) -> None:
        """Keep what came of a running answer and let the model go."""
        self._session.close()
        self._loop.close()

    async def _until_idle(self, work: Awaitable[None]) -> None:
        end = float("inf")
        doing = asyncio.ensure_future(work)
        while not doing.done():
            await asyncio.wait({doing}, timeout=POLL_SECONDS)
            if self._interrupted and end == float("inf") and self._session.stop():
                end = time.monotonic() + CANCEL_SECONDS
        await doing
        while self._session.busy and time.monotonic() < end:
            await self._session.poll()
            if self._interrupted and end == float("inf") and self._session.stop():
                end = time.monotonic() + CANCEL_SECONDS
            await asyncio.sleep(POLL_SECONDS)
        await self._session.poll()

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        def interrupt(_number: int, _frame: object) -> None:
            signal.signal(signal.SIGINT, before)
            self._interrupted = True

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

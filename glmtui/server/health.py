"""Whether the engine answers. Asking never waits for it longer than a moment."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from glmtui.protocol.engine import Stream
from glmtui.protocol.events import TokenCount
from glmtui.protocol.requests import CountTokens
from glmtui.server.dispatcher import Dispatcher
from glmtui.server.metrics import Metrics
from glmtui.server.service import Service

STUCK = 120.0
"""Seconds without a sign of life from an engine that has work."""
PROBE_STUCK = 10.0
"""Seconds in which an idle engine counts the tokens of one word."""
MOMENT = 0.25


class Health:
    """``/health`` and ``/metrics``.

    Args:
        service: the engine and its model.
        dispatcher: knows what runs, and when the engine last told something.
        metrics: the figures.
    """

    def __init__(self, service: Service, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self._service, self._dispatcher, self._metrics = service, dispatcher, metrics
        self._probe: Stream | None = None
        self._probed = 0.0
        self._works = True
        metrics.gauge("glmtui_requests_running", "Requests the engine has.", lambda: dispatcher.running)
        metrics.gauge("glmtui_requests_waiting", "Requests that wait for a slot.", lambda: dispatcher.waiting)

    @property
    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            Route("/health", self._health, methods=["GET"]),
            Route("/metrics", self._figures, methods=["GET"]),
        ]

    async def _health(self, _request: Request) -> Response:
        status = await self.status()
        return JSONResponse({"status": status}, 200 if status == "ok" else 503)

    async def _figures(self, _request: Request) -> Response:
        return PlainTextResponse(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def status(self) -> str:
        """Return ``ok``, ``shutting_down``, ``no_model``, ``stuck`` or ``failing``."""
        if self._dispatcher.closing:
            return "shutting_down"
        if self._service.info() is None:
            return "no_model"
        running = self._dispatcher.running > 0
        if not (running or self._service.busy()):
            return await self._ask()
        self._probed = time.monotonic()  # one that waits behind an answer is not late yet
        silent = self._probed - self._dispatcher.last_sign
        return "stuck" if running and silent > STUCK and not self._service.busy() else "ok"

    async def _ask(self) -> str:
        """Let an idle engine count a word, which it answers in a moment if it lives."""
        if self._probe is None:
            self._probe, self._probed = self._service.engine.submit(CountTokens(text="?")), time.monotonic()
            loop, told = asyncio.get_running_loop(), asyncio.Event()

            def wake() -> None:
                with suppress(RuntimeError):  # the loop is gone
                    loop.call_soon_threadsafe(told.set)

            self._probe.notify(wake)
            with suppress(asyncio.TimeoutError):
                while not self._look():
                    await asyncio.wait_for(told.wait(), MOMENT)
                    told.clear()
        else:
            self._look()
        if self._probe is not None and time.monotonic() - self._probed > PROBE_STUCK:
            return "stuck"
        return "ok" if self._works else "failing"

    def _look(self) -> bool:
        """Take in what the probe has told; return whether that was all."""
        if self._probe is None:
            return True
        for event in self._probe.drain():
            self._works = isinstance(event, TokenCount)
        if self._probe.ended:
            self._probe = None
        return self._probe is None

"""``/terminal``: the app itself in a tab of a browser, a process for each tab that ends with it.

A tab asks for its screen and gets it in lines of JSON as long as it is open; what is typed and pointed at comes
in requests of its own. So all of it passes the guard as everything else does, and there is no socket that a page
from elsewhere could open.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from glmtui.server import schema, web
from glmtui.server.answering import client_left
from glmtui.server.errors import SHUTTING_DOWN, ApiError
from glmtui.server.options import Limits
from glmtui.server.service import Program, Service

MOST = 4
"""Tabs at once: each is a process."""
END_SECONDS = 3.0
"""For an app to end when its tab is closed."""
TYPE_SECONDS = 10.0
"""For an app to take what was typed."""
START = b"__GANGLION__\n"
"""What Textual's driver writes before its first packet."""
MOST_PACKET = 16 << 20
MOST_SAID = 2000
"""Characters of what an app complained of that are shown."""
COLUMNS, ROWS = (20, 1000), (5, 500)


class Terminals:
    """The paths, where the service has a program for them.

    Args:
        service: has the program.
        limits: of bodies.
    """

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service, self._limits = service, limits
        self._tabs: dict[str, Tab] = {}
        self._opening = 0
        self._closing = False

    @property
    def routes(self) -> list[Route]:
        """Its paths; none where there is no program."""
        if self._service.program is None:
            return []
        return [
            Route("/terminal", web.show, methods=["GET"]),
            Route("/terminal", self._open, methods=["POST"]),
            Route("/terminal/{id}", self._type, methods=["POST"]),
        ]

    def close(self) -> None:
        """End all apps. Never waits."""
        self._closing = True
        for tab in self._tabs.values():
            tab.end()

    async def _open(self, request: Request) -> Response:
        size = _size(await schema.read_body(request, self._limits))
        assert self._service.program is not None
        model = self._service.model  # an app finds nobody who answers before there is one
        if self._closing:
            raise ApiError(503, "The server is shutting down.", code=SHUTTING_DOWN, retry_after=5)
        if len(self._tabs) + self._opening >= MOST:
            raise ApiError(429, f"{MOST} tabs are open already: close one.", code="tabs_full", retry_after=5)
        self._opening += 1
        try:
            tab = Tab(await _started(self._service.program(model), size))
        finally:
            self._opening -= 1
        if self._closing:
            tab.end()
        self._tabs[tab.id] = tab
        return _Screen(tab, self._tabs)

    async def _type(self, request: Request) -> Response:
        tab = self._tabs.get(request.path_params["id"])
        if tab is None:
            raise ApiError(404, "The app in this tab has ended.", code="not_found")
        body = await schema.read_body(request, self._limits)
        if body.get("text") is not None:
            await tab.send(b"D", schema.text(body["text"], "text").encode())
        if body.get("columns") is not None:
            columns, rows = _size(body)
            await tab.send(b"M", {"type": "resize", "width": columns, "height": rows})
        if body.get("focus") is not None:
            await tab.send(b"M", {"type": "focus" if schema.flag(body, "focus") else "blur"})
        return Response(status_code=204)


class Tab:
    """An app and the tab that shows it.

    Args:
        process: the app.
    """

    def __init__(self, process: Process) -> None:
        self.id = secrets.token_urlsafe(16)
        self._process = process
        self._said = asyncio.create_task(_last(process.stderr))

    async def lines(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what the tab is to show, at last that the app has ended."""
        yield {"id": self.id}
        async for kind, payload in _packets(self._process):
            if kind == b"D":
                yield {"text": payload.decode("utf-8", "replace")}
            elif kind == b"M":
                told = json.loads(payload)
                if told.get("type") == "open_url" and str(told.get("url")).startswith(("http://", "https://")):
                    yield {"open": told["url"]}
        code = await self._process.wait()
        yield {"ended": code, "said": (await self._said if code else "").strip()}

    async def send(self, kind: bytes, payload: bytes | Mapping[str, Any]) -> None:
        """Let the app have what was typed, or how large its screen is.

        Raises:
            ApiError: it has ended, or takes nothing.
        """
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        stream = self._process.stdin
        assert stream is not None
        try:
            stream.write(kind + len(data).to_bytes(4, "big") + data)
            await asyncio.wait_for(stream.drain(), TYPE_SECONDS)
        except asyncio.TimeoutError:
            raise ApiError(503, "The app takes nothing at the moment.", code="busy", retry_after=1) from None
        except (OSError, RuntimeError):
            raise ApiError(404, "The app in this tab has ended.", code="not_found") from None

    def end(self) -> None:
        """Close its input, which it takes as a terminal that is closed. Never waits."""
        with suppress(OSError, RuntimeError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    async def ended(self) -> None:
        """End it, and wait for that."""
        self.end()
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        finally:
            self.kill()
            self._said.cancel()

    def kill(self) -> None:
        """End it and what it has started, whatever they do. Never waits."""
        if self._process.returncode is None:
            with suppress(OSError):
                if sys.platform == "win32":
                    self._process.kill()
                else:
                    os.killpg(self._process.pid, signal.SIGKILL)


class _Screen(Response):
    """Shows an app as long as its tab is open."""

    def __init__(self, tab: Tab, tabs: dict[str, Tab]) -> None:
        super().__init__()
        self._tab, self._tabs = tab, tabs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write what it shows, and end it with the tab."""
        tasks = (asyncio.create_task(self._show(send)), asyncio.create_task(client_left(receive)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the server's end
            self._tab.kill()
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                with suppress(asyncio.TimeoutError):
                    await self._tab.ended()
            finally:
                del self._tabs[self._tab.id]

    async def _show(self, send: Send) -> None:
        headers = [(b"content-type", b"application/x-ndjson"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for line in self._tab.lines():
            data = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            await send({"type": "http.response.body", "body": f"{data}\n".encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _started(program: Program, size: tuple[int, int]) -> Process:
    columns, rows = size
    environment = {**program.environment, "COLUMNS": str(columns), "ROWS": str(rows)}
    try:
        return await asyncio.create_subprocess_exec(
            *program.arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            start_new_session=True,  # Ctrl+C in the server's terminal is the server's
        )
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ApiError(500, f"The app cannot be started: {reason}.", code="unexpected") from error


async def _packets(process: Process) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield kind and payload of what an app writes, until it ends or writes something else."""
    stream = process.stdout
    assert stream is not None
    with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        await stream.readuntil(START)
        while True:
            head = await stream.readexactly(5)
            size = int.from_bytes(head[1:], "big")
            if size > MOST_PACKET:
                return
            yield head[:1], await stream.readexactly(size)


async def _last(stream: asyncio.StreamReader | None) -> str:
    """Read all of it; return the end."""
    said = b""
    while stream is not None and (more := await stream.read(4096)):
        said = (said + more)[-MOST_SAID:]
    return said.decode("utf-8", "replace")


def _size(body: schema.Body) -> tuple[int, int]:
    columns, rows = schema.integer(body, "columns", *COLUMNS), schema.integer(body, "rows", *ROWS)
    if columns is None or rows is None:
        raise schema.bad_request("columns and rows must be there.", "columns")
    return columns, rows

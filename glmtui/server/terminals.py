"""``/terminal``: the app itself in a tab of a browser, a process for each tab that ends with it.

The app has a terminal of the system's (a pty), whose screen the tab draws. A tab asks for it and gets what is
written there in lines of JSON as long as it is open; what is typed and pointed at comes in requests of its
own. So all of it passes the guard as everything else does, and there is no socket that a page from elsewhere
could open.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import os
import secrets
import signal
import struct
import sys
from asyncio.streams import FlowControlMixin
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from glmtui.server import schema, web
from glmtui.server.answering import client_left
from glmtui.server.errors import ApiError, bad_request
from glmtui.server.options import Limits
from glmtui.server.service import Program, Service

if sys.platform != "win32":  # which has no ptys
    import fcntl
    import pty
    import termios

MOST = 4
"""Tabs at once: each is a process."""
END_SECONDS = 3.0
"""For an app to end when its tab is closed."""
TYPE_SECONDS = 10.0
"""For an app to take what was typed."""
PIECE = 1 << 16
"""Bytes that are sent at once."""
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
        if len(self._tabs) + self._opening >= MOST:
            raise ApiError(429, f"{MOST} tabs are open already: close one.", code="tabs_full", retry_after=5)
        self._opening += 1
        try:
            tab = await Tab.opened(self._service.program(model), size)
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
        if body.get("columns") is not None:
            tab.resize(_size(body))
        if body.get("text") is not None:
            await tab.type(schema.text(body["text"], "text"))
        return Response(status_code=204)


class Tab:
    """An app and the tab that shows it. Made by `opened`.

    Args:
        process: the app.
        master: the other end of its terminal, and what it writes and reads there.
    """

    def __init__(
        self, process: Process, master: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.id = secrets.token_urlsafe(16)
        self._process, self._master, self._reader, self._writer = process, master, reader, writer
        self._output: asyncio.ReadTransport | None = None

    @classmethod
    async def opened(cls, program: Program, size: tuple[int, int]) -> Tab:
        """Start the app in a terminal of its own.

        Raises:
            ApiError: it cannot be started.
        """
        master, slave = pty.openpty()
        try:
            _set_size(master, size)
            process = await asyncio.create_subprocess_exec(
                *program.arguments,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=program.environment,
                start_new_session=True,  # Ctrl+C in the server's terminal is the server's
            )
        except OSError as error:
            os.close(master)
            reason = error.strerror or type(error).__name__
            raise ApiError(500, f"The app cannot be started: {reason}.", code="unexpected") from error
        finally:
            os.close(slave)
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        protocol, ends = asyncio.StreamReaderProtocol(reader), (master, os.dup(master))
        output, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(ends[0], "rb", 0))
        into, flow = await loop.connect_write_pipe(FlowControlMixin, os.fdopen(ends[1], "wb", 0))
        tab = cls(process, master, reader, asyncio.StreamWriter(into, flow, None, loop))
        tab._output = output
        return tab

    async def lines(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what the tab is to show, at last that the app has ended."""
        yield {"id": self.id}
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with suppress(OSError):  # so Linux tells of a terminal that nobody writes to any more
            while data := await self._reader.read(PIECE):
                if text := decoder.decode(data):
                    yield {"text": text}
        yield {"ended": await self._process.wait()}

    async def type(self, text: str) -> None:
        """Let the app have what was typed.

        Raises:
            ApiError: it has ended, or takes nothing.
        """
        try:
            self._writer.write(text.encode())
            await asyncio.wait_for(self._writer.drain(), TYPE_SECONDS)
        except asyncio.TimeoutError:
            raise ApiError(503, "The app takes nothing at the moment.", code="busy", retry_after=1) from None
        except OSError:
            raise ApiError(404, "The app in this tab has ended.", code="not_found") from None

    def resize(self, size: tuple[int, int]) -> None:
        """Tell the app how large its screen is."""
        if self._process.returncode is None:
            _set_size(self._master, size)
            self._tell(signal.SIGWINCH)

    def end(self) -> None:
        """Let the app end as with a terminal that is closed. Never waits."""
        self._tell(signal.SIGHUP)

    async def close(self) -> None:
        """End the app, and wait for that."""
        self.end()
        try:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), END_SECONDS)
        finally:
            self.kill()
            if self._output is not None:
                self._output.close()
            self._writer.transport.abort()

    def kill(self) -> None:
        """End it and what it has started, whatever they do. Never waits."""
        if self._process.returncode is None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _tell(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(OSError):
                self._process.send_signal(number)


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
                await self._tab.close()
            finally:
                del self._tabs[self._tab.id]

    async def _show(self, send: Send) -> None:
        headers = [(b"content-type", b"application/x-ndjson"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for line in self._tab.lines():
            data = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            await send({"type": "http.response.body", "body": f"{data}\n".encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _set_size(terminal: int, size: tuple[int, int]) -> None:
    columns, rows = size
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _size(body: schema.Body) -> tuple[int, int]:
    """Return columns and rows."""
    columns, rows = schema.integer(body, "columns", *COLUMNS), schema.integer(body, "rows", *ROWS)
    if columns is None or rows is None:
        raise bad_request("columns and rows must be there.", "columns")
    return columns, rows

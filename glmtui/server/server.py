"""Runs a server: in the event loop of its process, or in a thread next to an app."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import AbstractContextManager, nullcontext, suppress

import uvicorn

from glmtui.server.app import App
from glmtui.server.connection import Connection
from glmtui.server.guard import Log
from glmtui.server.options import ServerOptions, listen, url
from glmtui.server.service import Service

GRACE = 1
"""Seconds for running answers to be told that the server ends; then their connections are cut."""
THREAD_NAME = "glmtui-server"


class Server:
    """Listens from its making on, and answers while `run` runs.

    Args:
        service: the engine and its model.
        options: where, for whom, how much.
        log: takes a line about every request.

    Raises:
        UserError: the port is in use.
    """

    def __init__(self, service: Service, options: ServerOptions, log: Log | None = None) -> None:
        self._service, self._options, self._log = service, options, log
        self._socket = listen(options.host, options.port)
        self.url = url(options.host, self._socket.getsockname()[1])
        """The address, with the port it has."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = threading.Event()
        self._running: tuple[App, uvicorn.Server] | None = None

    async def run(self) -> None:
        """Answer until `stop`; those whose answers run then are told so."""
        for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # `log` and the log of errors say it all
        app = App(self._service, self._options, self._log)
        protocol = type("LimitedConnection", (Connection,), {"limits": self._options.limits})
        config = uvicorn.Config(
            app.asgi,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
        )
        server = _Uvicorn(config)
        self._loop, self._running = asyncio.get_running_loop(), (app, server)
        if self._end.is_set():  # before there was anything to end
            self._finish()
        await server.serve(sockets=[self._socket])

    @property
    def connections(self) -> int:
        """How many there are."""
        return 0 if self._running is None else len(self._running[1].server_state.connections)

    def stop(self) -> None:
        """End soon; from any thread or a signal's handler. Never waits."""
        self._end.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        assert self._running is not None
        app, server = self._running
        server.should_exit = True
        app.close()


class _Uvicorn(uvicorn.Server):
    """Leaves the signals of the process to whoever runs it."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]  # a generator's there
        return nullcontext()


class ServerThread:
    """A server next to an app, whose own loop never waits for it.

    Args:
        server: what runs in the thread.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End soon. Never waits."""
        self.server.stop()

    def join(self, timeout: float) -> bool:
        """Wait for the end after `stop`; return whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.run(self.server.run())

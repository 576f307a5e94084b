"""uvicorn's connections with limits on what a slow or silent client may hold."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from glmtui.server.errors import bad_request
from glmtui.server.options import Limits


class Connection(H11Protocol):
    """One connection: it is cut where a request's head, or the taking of a response, takes too long."""

    limits = Limits()
    """Set by a subclass, as uvicorn makes the connections itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
        # asyncio does so for sockets that name their protocol: without it a small write waits some 40 ms for
        # the client to confirm the one before, every token of a stream among them
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that has begun must be complete in time."""
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch_head()

    def pause_writing(self) -> None:
        """Give the client a while to take what was written."""
        super().pause_writing()
        if self._writing is None:
            self._writing = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken enough of it."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def send_400_response(self, msg: str) -> None:
        """Say in the usual shape that this is no request of HTTP's."""
        body = json.dumps(bad_request(msg, code="invalid_http").body).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
        events = (response, h11.Data(data=body), h11.EndOfMessage())
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _watch_head(self) -> None:
        """Let time run while there is no request, which uvicorn does only between two."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self._reading is not None:
            self._reading.cancel()
            self._reading = None
        elif not answering and self._reading is None:
            self._reading = self.loop.call_later(self.limits.head_seconds, self.transport.abort)

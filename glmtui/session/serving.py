"""The app's engine for other programs and for browsers, while the app runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from glmtui.errors import BadValueError

if TYPE_CHECKING:
    from glmtui.protocol.engine import Engine
    from glmtui.protocol.models import ModelInfo
    from glmtui.protocol.sampling import Sampling
    from glmtui.server.server import ServerThread

PORT = 8000
SLOTS = 1
"""Answers that others have of the engine at once: next to one of them the person's own is nearly as fast."""


class Serving:
    """At most one server, in a thread of its own, for this machine alone.

    Args:
        engine: returns the app's engine.
        info: returns the model in memory.
        sampling: returns how tokens are chosen where a request leaves it open.
        busy: returns whether the app itself uses the engine.
    """

    def __init__(
        self,
        engine: Callable[[], Engine],
        info: Callable[[], ModelInfo | None],
        sampling: Callable[[], Sampling],
        busy: Callable[[], bool],
    ) -> None:
        self._engine, self._info, self._sampling, self._busy = engine, info, sampling, busy
        self._thread: ServerThread | None = None

    @property
    def url(self) -> str:
        """Its address; empty while nothing is served."""
        return "" if self._thread is None else self._thread.server.url

    def start(self, port: int | None = None) -> None:
        """Serve, instead of on another port if that is so; where it is served already it stays.

        Args:
            port: where; None is the usual one, or any that is free.

        Raises:
            UserError: a library is not installed, or the port is in use.
        """
        if port and self.url and urlsplit(self.url).port == port:
            return
        from glmtui.server.options import Limits, ServerOptions
        from glmtui.server.start import make_server

        def make(port: int) -> None:
            options = ServerOptions(port=port, limits=Limits(slots=SLOTS))
            server = make_server(options, self._engine(), self._info, self._sampling, busy=self._busy)
            from glmtui.server.server import ServerThread

            self.stop()
            self._thread = ServerThread(server)

        try:
            make(PORT if port is None else port)
        except BadValueError:
            if port is not None:
                raise
            make(0)

    def stop(self) -> bool:
        """Serve no longer; return whether something was. Never waits."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
        return thread is not None

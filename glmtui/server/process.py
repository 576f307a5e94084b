"""``glmtui serve`` as a process: its engine, its signals, and what it says of itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from glmtui import streams
from glmtui.engine.local import LocalEngine
from glmtui.errors import UserError
from glmtui.i18n import _
from glmtui.interrupts import INTERRUPTED
from glmtui.protocol import events
from glmtui.protocol.events import Failed
from glmtui.protocol.models import ModelInfo, ModelSpec
from glmtui.protocol.requests import Load
from glmtui.server.library import Library
from glmtui.server.options import ServerOptions
from glmtui.server.start import make_server
from glmtui.settings.settings import Settings
from glmtui.signals import end_signals, end_soon

if TYPE_CHECKING:
    from glmtui.server.server import Server
    from glmtui.server.service import Embedder, Program

INTERVAL = 0.05
"""Seconds between two looks at a load."""
OnReady: TypeAlias = "Callable[[Server, ServerOptions], None]"
"""Called when the model is there."""
ProgramFor: TypeAlias = "Callable[[str, ModelInfo], Program]"
"""Returns what shows the app in a tab, by the server's address and its model."""


class ServerProcess:
    """A process that loads a model and answers until a signal ends it.

    Args:
        settings: say how answers are generated.
        spec: the model.
        options: of the server.
        library: where the page's conversations are kept; None: in the browser.
        embedder: for ``/v1/embeddings``.
        on_ready: called when the model is there.
        program: returns what shows the app in a tab; None: nothing does.
    """

    def __init__(
        self,
        settings: Settings,
        spec: ModelSpec,
        options: ServerOptions,
        library: Library | None,
        embedder: Embedder | None,
        on_ready: OnReady,
        program: ProgramFor | None = None,
    ) -> None:
        self._settings, self._spec, self._options, self._on_ready = settings, spec, options, on_ready
        self._info: ModelInfo | None = None
        self._engine = LocalEngine(slots=options.limits.slots)
        self._server = make_server(
            options,
            self._engine,
            lambda: self._info,
            settings.sampling,
            library=library,
            embedder=embedder,
            log=_note,
            program=None if program is None else lambda info: program(self._server.url, info),
        )
        self._signal = 0
        self._status = streams.StatusLine(streams.errors())

    def run(self) -> int:
        """Answer until a signal ends it, within a second; return the exit code."""

        def end(number: int) -> None:
            self._signal = number
            end_soon(self._code)
            self._server.stop()

        with end_signals(end, ("SIGINT", "SIGTERM")):
            try:
                asyncio.run(self._run())
            finally:
                self._engine.close()
        return self._code

    @property
    def _code(self) -> int:
        """The exit code; a service that is told to end has done what it was to do."""
        return INTERRUPTED if self._signal == signal.SIGINT else 0

    async def _run(self) -> None:
        """Answer at once, if only that the model is being loaded.

        Raises:
            UserError: it cannot be loaded.
        """
        loading = asyncio.create_task(self._load())
        loading.add_done_callback(self._stop_unless_loaded)
        await self._server.run()
        if not loading.done():
            loading.cancel()
        elif failed := loading.result():
            raise UserError(failed.phrase)

    def _stop_unless_loaded(self, loading: asyncio.Task[Failed | None]) -> None:
        if loading.cancelled() or loading.exception() or loading.result():
            self._server.stop()

    async def _load(self) -> Failed | None:
        """Load the model and say where the server is; return why it cannot be loaded."""
        stream = self._engine.submit(Load(self._spec))
        while True:
            for event in stream.drain():
                match event:
                    case events.LoadProgress():
                        self._status.show(f"{event.stage} {100 * event.done // max(event.total, 1)} %")
                    case events.Loaded():
                        self._status.clear()
                        self._settings.follow(event.info)
                        self._info = event.info
                        self._tell()
                        return None
                    case events.Failed():
                        self._status.clear()
                        return event
            await asyncio.sleep(INTERVAL)

    def _tell(self) -> None:
        """Say where the server is, to a program that waits for the line, and to a person."""
        streams.output().line(f"listening on {self._server.url}")
        hint = _("A page to chat on is there, OpenAI's clients use {url}. Ctrl+C ends it.")
        _note(hint.format(url=f"{self._server.url}/v1"))
        self._on_ready(self._server, self._options)


def _note(line: str) -> None:
    with suppress(OSError):  # whoever read it has seen enough; the server goes on
        streams.errors().line(line)

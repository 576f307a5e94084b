"""``glmtui serve``: the model for other programs, with OpenAI's protocol, and a page for browsers."""

from __future__ import annotations

import asyncio
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias

from glmtui import streams
from glmtui.cli.options import add_model_options, add_setting, load_settings, positive
from glmtui.errors import BadValueError, UserError
from glmtui.i18n import _
from glmtui.protocol.models import LocalModel

if TYPE_CHECKING:
    from glmtui.cli.subcommands import Subparsers
    from glmtui.protocol.events import Failed
    from glmtui.protocol.models import ModelInfo, ModelSpec
    from glmtui.server.options import ServerOptions
    from glmtui.server.server import Server
    from glmtui.settings.settings import Settings

NAME = "serve"
PORT = 8000
INTERRUPTED = 130
INTERVAL = 0.05
"""Seconds between two looks at a load."""
OnReady: TypeAlias = "Callable[[Server, ServerOptions], None]"
"""Called when the model is there."""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        NAME,
        help=_("answer other programs: OpenAI's protocol, the one of api.py, and a web page"),
        description=_(
            "Answer other programs with OpenAI's protocol (at /v1) and that of the published api.py (at /), "
            "and browsers with a page to chat on. Only this machine is answered unless --host says otherwise."
        ),
    )
    add_options(parser)


def add_options(parser: ArgumentParser) -> None:
    """Add what a server can be told, and which model it is to have."""
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help=_("where to listen (default: 127.0.0.1)"),
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=int,
        default=SUPPRESS,
        help=_("the port (default: 8000); 0: a free one"),
    )
    parser.add_argument(
        "--api-key-file",
        metavar="FILE",
        type=Path,
        help=_("a file with keys, one a line, of which clients must send one; needed for other machines"),
    )
    parser.add_argument(
        "--slots", metavar="N", type=positive, default=4, help=_("answers to make at once (default: 4)")
    )
    parser.add_argument(
        "--queue",
        metavar="N",
        type=positive,
        default=64,
        help=_("requests that may wait; more are told to come later (default: 64)"),
    )
    parser.add_argument(
        "--rate",
        metavar="N",
        type=positive,
        default=600,
        help=_("requests a minute that one client may make (default: 600)"),
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive,
        default=1800,
        help=_("how long one request may take, waiting included (default: 1800)"),
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help=_("another name it is called by, such as host.docker.internal; may be given several times"),
    )
    parser.add_argument(
        "--allow-origin",
        metavar="URL",
        action="append",
        default=[],
        help=_("a web page from elsewhere that may use it; may be given several times"),
    )
    add_model_options(parser)
    group = parser.add_argument_group(_("generation"))
    for name in ("temperature", "top_p", "top_k", "repetition_penalty", "max_length", "max_new_tokens"):
        add_setting(group, f"generation.{name}")


def run(args: Namespace) -> int:
    return serve(args, on_ready=lambda _server, _options: None)


def serve(args: Namespace, on_ready: OnReady) -> int:
    """Load the model and answer until a signal ends it; return the exit code.

    Raises:
        UserError: an option is wrong, the port is in use, or the model cannot be loaded.
    """
    settings = load_settings(args)
    spec = settings.model_spec()
    if isinstance(spec, LocalModel):
        from glmtui.cli import models

        models.resolve(spec.source)
    return _Serving(settings, spec, read_options(args), on_ready).run()


def read_options(args: Namespace) -> ServerOptions:
    """Return what `args` say. Raises UserError as `ServerOptions` and `read_keys` do."""
    from glmtui.server.options import Limits, ServerOptions, read_keys

    port = getattr(args, "port", PORT)
    if not 0 <= port <= 65535:
        raise BadValueError(_("A port is a number from 0 to 65535."))
    return ServerOptions(
        args.host,
        port,
        keys=read_keys(args.api_key_file) if args.api_key_file else (),
        names=frozenset(args.allow_host),
        origins=frozenset(args.allow_origin),
        limits=Limits(
            slots=args.slots, queue=args.queue, requests_per_minute=args.rate, request_seconds=args.timeout
        ),
    )


class _Serving:
    """One run of the command."""

    def __init__(
        self, settings: Settings, spec: ModelSpec, options: ServerOptions, on_ready: OnReady
    ) -> None:
        from glmtui.engine.local import LocalEngine
        from glmtui.server.start import make_server

        self._settings, self._spec, self._options, self._on_ready = settings, spec, options, on_ready
        self._info: ModelInfo | None = None
        self._engine = LocalEngine()
        self._server = make_server(options, self._engine, lambda: self._info, settings.sampling, log=_note)
        self._signal = 0

    def run(self) -> int:
        """Answer until a signal ends it; return the exit code."""

        def end(number: int, _frame: FrameType | None) -> None:
            self._signal = number
            self._server.stop()

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            asyncio.run(self._run())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._engine.close()
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
        from glmtui.protocol import events
        from glmtui.protocol.requests import Load

        stream = self._engine.submit(Load(self._spec))
        while True:
            for event in stream.drain():
                match event:
                    case events.LoadProgress():
                        _show(f"{event.stage} {100 * event.done // max(event.total, 1)} %")
                    case events.Loaded():
                        _show("")
                        self._settings.follow(event.info)
                        self._info = event.info
                        self._tell()
                        return None
                    case events.Failed():
                        _show("")
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
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _show(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

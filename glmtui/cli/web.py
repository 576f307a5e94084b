"""``glmtui web``: a page to chat on, or the app itself, in this machine's browser."""

from __future__ import annotations

import os
import sys
import threading
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from glmtui import streams
from glmtui.cli import serve
from glmtui.errors import UnavailableError
from glmtui.i18n import _

if TYPE_CHECKING:
    from glmtui.protocol.models import ModelInfo
    from glmtui.server.options import ServerOptions
    from glmtui.server.process import ProgramFor
    from glmtui.server.server import Server
    from glmtui.server.service import Program

TERMINALS = ("TERM_PROGRAM", "KITTY_WINDOW_ID", "TMUX", "STY", "COLUMNS", "LINES")
"""What tells of the terminal that this was started in: a tab is another one."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _("Chat on a page in the browser. It is served as by `glmtui serve`, and opened.")
    parser.add_argument(
        "--tui",
        action="store_true",
        help=_("the app itself in the browser, with this machine's conversations and files"),
    )
    serve.add_options(parser)


def run(args: Namespace) -> int:
    if not hasattr(args, "port"):
        args.port = _usual_or_free(args.host)
    if not args.tui:
        return serve.serve(args, on_ready=_open)
    if sys.platform == "win32":
        raise UnavailableError(
            _("The app in the browser needs a terminal as Unix has it; use glmtui itself.")
        )
    options = serve.read_options(args)
    on_ready = _open_terminal
    if not options.keys:  # other users of this machine must not type into the app
        import secrets

        options = replace(options, keys=(secrets.token_urlsafe(24),))
        on_ready = _open_terminal_with_key
    return serve.serve(args, on_ready=on_ready, options=options, program=_app(args, options.keys[0]))


def _app(args: Namespace, key: str) -> ProgramFor:
    """Return how the app is started, whose engine is this server."""

    def program(url: str, model: ModelInfo) -> Program:
        from glmtui.server.service import Program
        from glmtui.settings.engines import KEY_VARIABLE

        language = getattr(args, "ui.language", "")
        options = ("--language", language) if language else ()
        environment = {name: value for name, value in os.environ.items() if name not in TERMINALS}
        environment |= {
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            KEY_VARIABLE: key,
        }
        return Program(
            (sys.executable, "-m", "glmtui", "--model", f"{url}/v1#{model.name}", *options), environment
        )

    return program


def _usual_or_free(host: str) -> int:
    """Return the usual port, or 0 (any that is free) where that is in use."""
    from glmtui.errors import BadValueError
    from glmtui.server.options import listen

    try:
        listen(host, serve.PORT).close()
    except BadValueError:
        return 0
    return serve.PORT


def _open(server: Server, options: ServerOptions) -> None:
    _opened(server, options, "/")


def _opened(server: Server, options: ServerOptions, path: str) -> str:
    """Open the page; a key goes with the address behind ``#``, which no browser sends to a server."""
    import webbrowser

    address = f"{server.url}{path}"
    if options.keys:
        address += f"#key={quote(options.keys[0], safe='')}"
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # it may wait
    return address


def _open_terminal(server: Server, options: ServerOptions) -> None:
    """Open the app, and say where it is, but not the key: whoever has made it knows it."""
    _opened(server, options, "/terminal")
    streams.errors().line(f"{server.url}/terminal")


def _open_terminal_with_key(server: Server, options: ServerOptions) -> None:
    """The same with a key that is nowhere else."""
    streams.errors().line(_opened(server, options, "/terminal"))

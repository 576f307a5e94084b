"""``glmtui web``: a page to chat on, in this machine's browser."""

from __future__ import annotations

import threading
from argparse import Namespace
from typing import TYPE_CHECKING
from urllib.parse import quote

from glmtui.cli import serve
from glmtui.i18n import _

if TYPE_CHECKING:
    from glmtui.cli.subcommands import Subparsers
    from glmtui.server.options import ServerOptions
    from glmtui.server.server import Server

NAME = "web"


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        NAME,
        help=_("chat on a page in the browser"),
        description=_("Chat on a page in the browser. It is served as by `glmtui serve`, and opened."),
    )
    serve.add_options(parser)


def run(args: Namespace) -> int:
    if not hasattr(args, "port"):
        args.port = _usual_or_free(args.host)
    return serve.serve(args, on_ready=_open)


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
    """Open the page; a key goes with the address behind ``#``, which no browser sends to a server."""
    import webbrowser

    address = f"{server.url}/#key={quote(options.keys[0], safe='')}" if options.keys else server.url
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # it may wait

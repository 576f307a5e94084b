"""``glmtui serve``: the model for other programs, with OpenAI's protocol, and a page for browsers."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import streams
from glmtui.cli.options import add_model_options, add_setting, load_settings, positive
from glmtui.errors import UsageError
from glmtui.i18n import _
from glmtui.protocol.models import LocalModel

if TYPE_CHECKING:
    from glmtui.engine.embedding import EmbeddingModel
    from glmtui.server.library import Library
    from glmtui.server.options import ServerOptions
    from glmtui.server.process import OnReady, ProgramFor

PORT = 8000


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "Answer other programs with OpenAI's protocol (at /v1) and that of the published api.py (at /), "
        "and browsers with a page to chat on. Only this machine is answered unless --host says otherwise."
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
    parser.add_argument(
        "--library",
        action="store_true",
        help=_("keep the page's conversations next to the app's, not in the browser; needs --api-key-file"),
    )
    parser.add_argument(
        "--embedding-model",
        metavar="DIR",
        type=Path,
        help=_("a model for /v1/embeddings, such as bge or multilingual-e5, by its folder"),
    )
    add_model_options(parser)
    group = parser.add_argument_group(_("generation"))
    for name in ("temperature", "top_p", "top_k", "repetition_penalty", "max_length", "max_new_tokens"):
        add_setting(group, f"generation.{name}")


def run(args: Namespace) -> int:
    return serve(args, on_ready=lambda _server, _options: None)


def serve(
    args: Namespace,
    on_ready: OnReady,
    *,
    options: ServerOptions | None = None,
    program: ProgramFor | None = None,
) -> int:
    """Load the model and answer until a signal ends it; return the exit code.

    Args:
        args: the options.
        on_ready: called when the model is there.
        options: the server's, where they are not just what `args` say.
        program: see `ServerProcess`.

    Raises:
        UserError: an option is wrong, the port is in use, or the model cannot be loaded.
    """
    settings = load_settings(args)
    spec = settings.model_spec()
    if isinstance(spec, LocalModel):
        from glmtui.cli import models

        models.resolve(spec.source)
    from glmtui.server.process import ServerProcess

    options, library, embedder = options or read_options(args), _library(args), _embedder(args)
    return ServerProcess(settings, spec, options, library, embedder, on_ready, program).run()


def _library(args: Namespace) -> Library | None:
    """Return where the page's conversations are kept; None: in the browser."""
    if not args.library:
        return None
    if not args.api_key_file:
        phrase = _("--library needs --api-key-file: other users of this machine could read along.")
        raise UsageError(phrase)
    from glmtui.chat import library
    from glmtui.session.page_library import PageLibrary

    return PageLibrary(library.Library())


def _embedder(args: Namespace) -> EmbeddingModel | None:
    if args.embedding_model is None:
        return None
    from glmtui.engine.embedding import EmbeddingModel

    return EmbeddingModel(args.embedding_model)


def read_options(args: Namespace) -> ServerOptions:
    """Return what `args` say. Raises UserError as `ServerOptions` and `read_keys` do."""
    from glmtui.server.options import Limits, ServerOptions, is_readable_by_others, read_keys

    port = getattr(args, "port", PORT)
    if not 0 <= port <= 65535:
        raise UsageError(_("A port is a number from 0 to 65535."))
    if args.api_key_file and is_readable_by_others(args.api_key_file):
        phrase = _("Other users of this machine can read {path}. `chmod 600 {path}` keeps it to you.")
        streams.errors().line(phrase.format(path=args.api_key_file))
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

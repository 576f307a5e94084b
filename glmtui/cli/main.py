"""The command line. Nothing heavy is imported here: ``glmtui --help`` answers at once.

Exit codes: 0 good, 1 failed with one clear line on standard error, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from itertools import pairwise

from glmtui import i18n, interrupts, paths, streams
from glmtui.cli.argparse_gettext import Parser, translate_argparse
from glmtui.cli.options import add_model_options, given_settings
from glmtui.cli.subcommands import SUBCOMMANDS, SubcommandParser, add_language, load
from glmtui.errors import UsageError, UserError
from glmtui.i18n import _, tell
from glmtui.interrupts import INTERRUPTED
from glmtui.version import __version__

DUMB = ("dumb", "unknown")
"""Values of ``TERM`` for terminals that cannot do more than write lines."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run glmtui with `argv` and return the exit code. Without `argv` it runs, and ends, the process."""
    owns_process = argv is None
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with streams.standard():
            code = _run(arguments)
        if owns_process:
            interrupts.ignore()  # nothing is lost any more, and the exit code is known
    except SystemExit as ending:  # by a signal, see `glmtui.signals`
        code = ending.code if isinstance(ending.code, int) else 1
    except KeyboardInterrupt:  # a second one, while the first one was handled
        code = INTERRUPTED
    if owns_process:
        leave(code)
        sys.exit(code)
    return code


def leave(code: int) -> None:
    """End the process now if torch is in it or on its way, whatever its threads are doing.

    The interpreter's own way out takes most of a second then, and may crash or hang where a background thread
    is in the middle of a computation or an import. All that matters is on disk by now.
    """
    if "torch" in sys.modules or threading.active_count() > 1:
        atexit._run_exitfuncs()
        os._exit(code)


def build_parser() -> ArgumentParser:
    """Describe the complete command line, in the language in use."""
    translate_argparse()
    parser: ArgumentParser = Parser(
        prog="glmtui",
        description=_("Chat with ChatGLM models on your own machine. Without a command, the app opens."),
        epilog=_("Inside the app, F1 or /help lists the commands and keys."),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}", help=_("show the version and exit")
    )
    add_model_options(parser)
    app = parser.add_argument_group(_("app"))
    app.add_argument(
        "--conversation",
        metavar="FILE",
        default=SUPPRESS,
        help=_("the conversation file to open; it is made if there is none"),
    )
    app.add_argument("--theme", metavar="NAME", dest="ui.theme", default=SUPPRESS, help=_("the colour theme"))
    app.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default=SUPPRESS,
        help=_("colours: never, with --plain also auto (where the terminal can) or always"),
    )
    app.add_argument(
        "--plain",
        action="store_true",
        default=SUPPRESS,
        help=_("chat line by line: for screen readers, simple terminals, scripts and logs"),
    )
    add_language(parser)
    subparsers = parser.add_subparsers(
        dest="command", metavar=_("COMMAND"), title=_("commands"), parser_class=SubcommandParser
    )
    for name, said in SUBCOMMANDS.items():
        subparsers.add_parser(name, subcommand=name, help=_(said))
    return parser


def _run(arguments: Sequence[str]) -> int:
    try:
        code = _command(arguments)
        streams.output().flush()  # argparse passes over help that could not be written
    except UsageError as error:
        return _fail(tell(error), 2)
    except UserError as error:
        return _fail(tell(error), 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough, as in `glmtui ask … | head`
        return 0
    except Exception as error:  # noqa: BLE001 (the last line of defence: a line for people, the rest in the log)
        from glmtui import failures

        return _fail(tell(failures.describe(error)[1]), 1)
    return code


def _command(arguments: Sequence[str]) -> int:
    paths.leave_missing_folder()
    i18n.use(_language(arguments))
    i18n.write_options()
    try:
        args = build_parser().parse_args(arguments)
    except SystemExit as ending:  # argparse has written help, or what was wrong
        return ending.code if isinstance(ending.code, int) else 0
    return load(args.command).run(args) if args.command else _open_app(args)


def _open_app(args: Namespace) -> int:
    from glmtui.session.options import AppOptions

    given = {name: getattr(args, name) for name in ("color", "plain") if hasattr(args, name)}
    if hasattr(args, "conversation"):
        given["conversation"] = paths.typed(args.conversation)
    options = AppOptions(given_settings(args), **given)
    if options.plain or os.environ.get("TERM") in DUMB:
        from glmtui import plain

        return plain.run(options)
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):  # Textual draws on stderr
        raise UserError(
            _('The app needs a terminal. Without one: glmtui ask "…" for an answer, --plain for a whole chat')
        )
    if options.color == "never":
        os.environ["NO_COLOR"] = "1"  # as Textual looks for
    from glmtui import tui

    return tui.run(options)


def _language(arguments: Sequence[str]) -> str:
    """Return the language asked for on the command line, or else in the settings; ``auto`` without either.

    Where settings cannot be found, the command says so when it needs them: help does not.
    """
    chosen = ""
    for argument, following in pairwise((*arguments, "")):
        name, equals, value = argument.partition("=")
        if name == "--language":
            chosen = value if equals else following
    if chosen in i18n.LANGUAGES:
        return chosen
    from glmtui.settings.settings import Settings

    try:
        return str(Settings.load()["ui.language"])
    except UserError:
        return "auto"


def _fail(message: str, code: int) -> int:
    streams.errors().line(f"glmtui: {message}")
    return code

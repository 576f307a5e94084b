"""``glmtui ask``: one answer on standard output, as it comes."""

from __future__ import annotations

import os
import stat
import sys
from argparse import SUPPRESS, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from glmtui.cli.options import add_model_options, add_setting, load_settings
from glmtui.errors import UsageError
from glmtui.i18n import _
from glmtui.protocol.models import LocalModel
from glmtui.text.encodings import read_text

if TYPE_CHECKING:
    from glmtui.cli.subcommands import Subparsers

NAME = "ask"
SAMPLING_OPTIONS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_length", "seed")
INTERRUPTED = 130


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        NAME,
        help=_("print one answer as it comes"),
        description=_("Print one answer as it comes. What is piped in follows the question."),
    )
    parser.add_argument("question", nargs="*", metavar=_("QUESTION"), help=_("several words need no quotes"))
    parser.add_argument(
        "--system", metavar="TEXT", default="", help=_("told to the model before the question")
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help=_("a text file to add to the question; may be given several times"),
    )
    parser.add_argument(
        "--continue",
        dest="goes_on",
        action="store_true",
        help=_("go on with the conversation that was used last, in the app or here"),
    )
    parser.add_argument(
        "--conversation",
        metavar="FILE",
        type=Path,
        default=SUPPRESS,
        help=_("go on with the conversation in this file; it is made if there is none"),
    )
    parser.add_argument(
        "--no-save", action="store_true", help=_("keep nothing on disk (see also the setting ui.save_asked)")
    )
    parser.add_argument(
        "--json", action="store_true", help=_("print one JSON object when the answer is complete")
    )
    add_model_options(parser)
    group = parser.add_argument_group(_("generation"))
    add_setting(group, "generation.max_new_tokens", "--max-tokens")
    for name in SAMPLING_OPTIONS:
        add_setting(group, f"generation.{name}")


def run(args: Namespace) -> int:
    """Answer; return 0, or 130 when interrupted (what came until then stays)."""
    question = read_question(args.question, args.file, sys.stdin)
    settings = load_settings(args)
    spec = settings.model_spec()
    if isinstance(spec, LocalModel):
        from glmtui.cli import models

        models.resolve(spec.source)  # fails before anything is saved or torch imported
    from glmtui.plain.ask import Asking

    asking = Asking(settings, sys.stdout, sys.stderr, streaming=not args.json)
    asking.open(
        getattr(args, "conversation", None),
        latest=args.goes_on,
        save=bool(settings["ui.save_asked"]) and not args.no_save,
    )
    return asking.answer(question, system=args.system)


def read_question(words: list[str], files: list[Path], stream: TextIO) -> str:
    """Return the question: the arguments, then the files, then what is piped in, a blank line between them.

    Raises:
        UsageError: there is none of these.
        UserError: a file cannot be read as text.
    """
    parts = [" ".join(words), *map(read_text, files)]
    if _is_piped(stream):
        parts.append(stream.buffer.read().decode("utf-8-sig", "replace"))
    question = "\n\n".join(part.strip() for part in parts if part.strip())
    if not question:
        raise UsageError(_("There is no question. Write it after `ask`, or pipe it in."))
    return question


def _is_piped(stream: TextIO) -> bool:
    """Whether something was piped or redirected in; a terminal or the null device says nothing."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # no file, as when there is no console at all
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)

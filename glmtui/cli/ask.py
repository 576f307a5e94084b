"""``glmtui ask``: one answer on standard output, as it comes."""

from __future__ import annotations

import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TextIO

from glmtui import images, paths, streams
from glmtui.cli.options import add_model_options, add_setting, load_settings
from glmtui.errors import UsageError
from glmtui.i18n import _
from glmtui.protocol.models import LocalModel
from glmtui.text.encodings import read_text

SAMPLING_OPTIONS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_length", "seed")


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _("Print one answer as it comes. What is piped in follows the question.")
    parser.add_argument("question", nargs="*", metavar=_("QUESTION"), help=_("several words need no quotes"))
    parser.add_argument(
        "--system", metavar="TEXT", default="", help=_("told to the model before the question")
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        action="append",
        default=[],
        help=_("a text file to add to the question; may be given several times"),
    )
    parser.add_argument(
        "--image",
        metavar="FILE|URL",
        action="append",
        default=[],
        help=_("a picture to ask about, with a model that sees; may be given several times"),
    )
    parser.add_argument(
        "--continue",
        dest="goes_on",
        action="store_true",
        help=_("continue the conversation that was used last, in the app or here"),
    )
    parser.add_argument(
        "--conversation",
        metavar="FILE",
        default=SUPPRESS,
        help=_("continue the conversation in this file; it is made if there is none"),
    )
    parser.add_argument(
        "--no-save", action="store_true", help=_("keep nothing on disk (see also the setting ui.save_asked)")
    )
    parser.add_argument(
        "--json", action="store_true", help=_("print one JSON object when the answer is complete")
    )
    parser.add_argument(
        "--no-stdin", action="store_true", help=_("leave standard input alone: what is piped in is not read")
    )
    rests = parser.add_argument_group(_("sources"))
    add_setting(rests, "docs.collection", "--docs")
    rests.add_argument(
        "--web", action="store_true", help=_("search the web first (see the setting web.provider)")
    )
    add_model_options(parser)
    group = parser.add_argument_group(_("generation"))
    add_setting(group, "generation.max_new_tokens", "--max-tokens")
    for name in SAMPLING_OPTIONS:
        add_setting(group, f"generation.{name}")


def run(args: Namespace) -> int:
    """Answer; return 0, or 130 when interrupted (what came until then stays)."""
    stream = None if args.no_stdin else sys.stdin
    question = read_question(
        args.question, args.file, stream, default=_("Describe the image.") if args.image else ""
    )
    settings = load_settings(args)
    spec = settings.model_spec()
    if isinstance(spec, LocalModel):
        from glmtui.cli import models

        models.resolve(spec.source)  # fails before anything is saved or torch imported
    for image in args.image:
        from glmtui.session import pictures

        if not pictures.is_address(image):
            images.read_picture(paths.typed(image))  # the same
    if name := settings["docs.collection"]:
        from glmtui.cli import docs

        docs.prepare(str(name))
    from glmtui.plain.ask import Asking

    asking = Asking(settings, streams.output(), streams.errors(), streaming=not args.json)
    asking.open(
        paths.typed(args.conversation) if hasattr(args, "conversation") else None,
        latest=args.goes_on,
        save=bool(settings["ui.save_asked"]) and not args.no_save,
    )
    return asking.answer(question, system=args.system, web=args.web, images=args.image)


def read_question(
    words: Sequence[str], files: Sequence[str], stream: TextIO | None, default: str = ""
) -> str:
    """Return the question: the arguments, then the files, then what is piped in, a blank line between them.

    Args:
        words: the arguments.
        files: their names, as they were typed.
        stream: standard input, or None to leave it alone.
        default: the question where there is none of these.

    Raises:
        UsageError: there is none of these.
        UserError: a file, or what is piped in, cannot be read as text.
    """
    parts = [" ".join(words), *(read_text(paths.typed(file)) for file in files)]
    if stream is not None and streams.is_piped(stream):
        waiting = _("Waiting for standard input to end. --no-stdin leaves it alone.")
        parts.append(streams.read_piped(stream, waiting))
    question = "\n\n".join(part.strip() for part in parts if part.strip()) or default
    if not question:
        raise UsageError(_("There is no question. Write it after `ask`, or pipe it in."))
    return question

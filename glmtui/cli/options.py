"""The options that say which model runs and how, the same for the app and for every subcommand."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from glmtui.errors import UsageError
from glmtui.i18n import _
from glmtui.protocol.models import LocalModel

if TYPE_CHECKING:
    from glmtui.settings.settings import Settings


def add_model_options(parser: ArgumentParser) -> None:
    """Add ``--model`` and the rest. Absent ones leave no attribute, so they may stand before a subcommand."""
    group = parser.add_argument_group(_("model"))
    group.add_argument(
        "--model",
        metavar="M",
        default=SUPPRESS,
        help=_("a folder, a Hugging Face id or a short name (default: as in the settings, or built in)"),
    )
    group.add_argument(
        "--revision",
        metavar="R",
        default=SUPPRESS,
        help=_("a branch, tag or commit of a model on the hub; the same as M@R"),
    )
    group.add_argument(
        "--device",
        choices=("auto", "cuda", "mps", "cpu"),
        default=SUPPRESS,
        help=_("where it runs; auto takes the fastest there is"),
    )
    group.add_argument(
        "--gpus",
        metavar="N",
        default=SUPPRESS,
        help=_("spread the model over N GPUs, or as a JSON file of modules and GPUs says"),
    )
    group.add_argument(
        "--quant",
        choices=("none", "8", "4"),
        default=SUPPRESS,
        help=_("bits per weight: 4 and 8 need less memory"),
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=positive,
        default=SUPPRESS,
        help=_("threads on the CPU (default: physical cores)"),
    )
    group.add_argument(
        "--ptuning",
        metavar="DIR",
        default=SUPPRESS,
        help=_("a P-tuning v2 checkpoint to put on top of the model"),
    )


def read_model_options(args: Namespace, settings: Settings) -> LocalModel:
    """Return what `args` says, and where it says nothing what `settings` say.

    Raises:
        UsageError: see `pinned`.
    """
    spec = settings.model_spec()
    named: str | None = getattr(args, "model", None)
    given: dict[str, Any] = {field.name: getattr(args, field.name, None) for field in fields(spec)}
    given = {name: value for name, value in given.items() if value is not None}
    given["source"] = pinned(spec.source if named is None else named, args)
    return replace(spec, **given)


def pinned(source: str | None, args: Namespace) -> str | None:
    """Return the model with the revision of ``--revision`` pinned, if it was given.

    Raises:
        UsageError: there is no model, or another revision, to pin.
    """
    revision: str | None = getattr(args, "revision", None)
    if revision is None:
        return source or None
    if not source or "@" in source:
        raise UsageError(_("--revision needs --model with a name on the hub and no other revision."))
    return f"{source}@{revision}"


def positive(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(_("{text!r} is not a whole number of at least 1").format(text=text))
    return number

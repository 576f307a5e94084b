"""The subcommands, one module of this package each, which is imported when it is asked for.

Each has ``add_arguments(parser)`` and ``run(args) -> exit code``, and imports what is heavy in `run`.
"""

from __future__ import annotations

import importlib
from argparse import SUPPRESS, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

from glmtui import i18n
from glmtui.cli.argparse_gettext import Parser
from glmtui.i18n import N_, _

SUBCOMMANDS = {
    "ask": N_("print one answer as it comes"),
    "docs": N_("your documents: add, search and remove them"),
    "serve": N_("answer other programs: OpenAI's protocol, the one of api.py, and a web page"),
    "web": N_("chat on a page in the browser"),
    "tune": N_("teach a model with examples: P-tuning v2, LoRA"),
    "evaluate": N_("score a model's answers: BLEU-4, ROUGE, perplexity"),
    "bench": N_("measure a model's speed and memory"),
    "doctor": N_("show devices, memory, versions, paths, and what would be used and why"),
    "models": N_("list the models there are, download and remove them"),
    "quantize": N_("make a smaller copy of a model"),
    "merge": N_("make a LoRA part of a model's weights"),
    "completion": N_("print a script for your shell's completion"),
}
"""Their names, and what is said of each in the list."""


class Subcommand(Protocol):
    """What a module of this package offers."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Describe the subcommand and its arguments."""

    def run(self, args: Namespace) -> int:
        """Do it; return the exit code. Failures are raised as `glmtui.errors.UserError`."""


def load(name: str) -> Subcommand:
    """Import one of `SUBCOMMANDS`."""
    return cast("Subcommand", importlib.import_module(f"glmtui.cli.{name}"))


def add_language(parser: ArgumentParser) -> None:
    """Add the option that every command has."""
    parser.add_argument(
        "--language",
        choices=tuple(i18n.LANGUAGES),
        dest="ui.language",
        default=SUPPRESS,
        help=_("the language of the interface"),
    )


class SubcommandParser(Parser):
    """The parser of a subcommand, which gets its arguments when it is used.

    Args:
        subcommand: its name; None for a parser below one, whose arguments are there at once.
    """

    def __init__(self, *, subcommand: str | None = None, **given: Any) -> None:
        super().__init__(**given)
        self._subcommand = subcommand

    def fill(self) -> None:
        """Add the arguments, unless they are there."""
        if self._subcommand is not None:
            name, self._subcommand = self._subcommand, None
            load(name).add_arguments(self)
            add_language(self)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Parse, as argparse asks the parser of the subcommand to that it has met."""
        self.fill()
        return super().parse_known_args(args, namespace)


def parsers(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """Yield `parser` and all below it, with their arguments."""
    if isinstance(parser, SubcommandParser):
        parser.fill()
    yield parser
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)

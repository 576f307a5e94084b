"""The subcommands, one module each: ``NAME``, ``add_parser(subparsers)`` and ``run(args) -> exit code``.

Their modules import nothing heavy at the top; what they need is imported in `run`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, _SubParsersAction
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    Subparsers = _SubParsersAction[ArgumentParser]
else:
    Subparsers = _SubParsersAction


class Command(Protocol):
    """What a module of this package offers."""

    NAME: str

    def add_parser(self, subparsers: Subparsers) -> None:
        """Describe the subcommand's arguments."""

    def run(self, args: Namespace) -> int:
        """Do it; return the exit code. Failures are raised as `glmtui.errors.UserError`."""

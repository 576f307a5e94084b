"""argparse's own words in the interface's language."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from glmtui import i18n
from glmtui.i18n import N_
from glmtui.text.clean import flat

WORDS = (
    N_("usage: "),
    N_("positional arguments"),
    N_("options"),
    N_("show this help message and exit"),
    N_("%(prog)s: error: %(message)s\n"),
    N_("argument %(argument_name)s: %(message)s"),
    N_("unrecognized arguments: %s"),
    N_("ambiguous option: %(option)s could match %(matches)s"),
    N_("the following arguments are required: %s"),
    N_("one of the arguments %s is required"),
    N_("not allowed with argument %s"),
    N_("ignored explicit argument %r"),
    N_("expected one argument"),
    N_("expected at most one argument"),
    N_("expected at least one argument"),
    N_("invalid choice: %(value)r (choose from %(choices)s)"),
    N_("invalid %(type)s value: %(value)r"),
)
"""What a person can meet of argparse's strings (Python 3.10 to 3.14); the others are for programmers."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, whatever a person wrote."""

    def error(self, message: str) -> NoReturn:
        """Write how it is used and what was wrong; end with 2."""
        super().error(flat(message))


def translate_argparse() -> None:
    """Let argparse look its words up where all others of this program are.

    It asks gettext's functions for them, by the names `_` and `ngettext` of its own module, in whatever
    language the environment names; ours may come from the settings or the command line.
    """
    module: Any = argparse
    module._ = i18n._
    module.ngettext = i18n.ngettext

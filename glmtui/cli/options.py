"""Options that are settings of one run, the same for the app and for every subcommand.

They leave their value under the setting's full key, and nothing where they are absent: so they may stand
before a subcommand too. A new row of the schema is a new option.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace, _ArgumentGroup
from typing import Any

from glmtui import paths, streams
from glmtui.errors import UsageError, UserError
from glmtui.i18n import _, tell
from glmtui.session.options import BUILT_IN
from glmtui.settings.schema import BY_KEY, SCHEMA
from glmtui.settings.settings import Settings

SOURCE = "model.source"
_METAVARS = {"int": "N", "float": "X", "text": "TEXT"}


def add_model_options(parser: ArgumentParser) -> None:
    """Add ``--model``, ``--revision`` and an option for every other setting of the section ``model``."""
    group = parser.add_argument_group(_("model"))
    group.add_argument(
        "--model",
        metavar="M",
        dest=SOURCE,
        type=named_model,
        default=SUPPRESS,
        help=_("a folder, a Hugging Face id or a short name (default: as in the settings, or built in)"),
    )
    group.add_argument(
        "--revision",
        metavar="R",
        default=SUPPRESS,
        help=_("a branch, tag or commit of a model on the hub; the same as M@R"),
    )
    for setting in SCHEMA:
        if setting.section == "model" and setting.key != SOURCE:
            add_setting(group, setting.key)


def named_model(name: str) -> str | None:
    """Return what a person called a model; None is the built-in one."""
    return None if name.lower() in BUILT_IN else paths.unquoted(name)


def add_setting(group: ArgumentParser | _ArgumentGroup, key: str, option: str = "") -> None:
    """Add an option for the setting `key`, with its help and limits; without `option` it has its name."""
    setting = BY_KEY[key]

    def parse(text: str) -> object:
        try:
            return setting.parse(text)
        except UserError as error:
            raise ArgumentTypeError(tell(error)) from None

    group.add_argument(
        option or f"--{setting.name.replace('_', '-')}",
        dest=key,
        default=SUPPRESS,
        help=_(setting.help),
        **{"choices": setting.choices}
        if setting.choices
        else {"type": parse, "metavar": setting.metavar or _METAVARS[setting.kind]},
    )


def given_settings(args: Namespace, source: object = None) -> dict[str, Any]:
    """Return what `args` say of settings, by full key.

    Args:
        source: the model that ``--revision`` pins where there is no ``--model``.

    Raises:
        UsageError: there is no model, or another revision, to pin.
    """
    given = {key: value for key, value in vars(args).items() if key in BY_KEY}
    if hasattr(args, "revision"):
        source = given.get(SOURCE, source)
        if not source or "@" in str(source):
            raise UsageError(_("--revision needs --model with a name on the hub and no other revision."))
        given[SOURCE] = f"{source}@{args.revision}"
    return given


def read_settings(*, quietly: bool = False) -> Settings:
    """Read the settings; what is wrong in their file, and so a default, is named on standard error.

    Not if `quietly`: whoever asks for it names it.
    """
    settings = Settings.load()
    for problem in () if quietly else settings.problems:
        streams.StatusLine(streams.errors()).note(tell(problem))
    return settings


def load_settings(args: Namespace, *, quietly: bool = False) -> Settings:
    """Read the settings as `read_settings`; what `args` say comes before them. Raises as `given_settings`."""
    settings = read_settings(quietly=quietly)
    settings.override(given_settings(args, settings[SOURCE]))
    return settings


def positive(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(_("{text!r} is not a whole number of at least 1").format(text=text))
    return number

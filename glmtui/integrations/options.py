"""Options of transformers that have no meaning here are refused: none is dropped without a word."""

from __future__ import annotations

from collections.abc import Mapping

from glmtui.errors import UnavailableError
from glmtui.protocol.phrases import _


def unsupported(name: str) -> UnavailableError:
    """Return the error that the option `name` is not supported."""
    return UnavailableError(_("The option {name} is not supported here.").format(name=name))


def refuse(options: Mapping[str, object]) -> None:
    """Raise UnavailableError for the first of `options` that asks for something."""
    for name, value in options.items():
        if value is not None and value is not False:
            raise unsupported(name)

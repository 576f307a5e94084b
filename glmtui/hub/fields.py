"""What the fields of JSON files must be, and the one place where they are compared with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import Phrase, _
from glmtui.text.quoting import quoted


class Kind(Protocol):
    """What a field may be."""

    @property
    def allowed(self) -> Phrase:
        """It in words."""

    def takes(self, value: object) -> bool:
        """Whether it may be `value`."""


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number; ``true`` is none, and neither is 4096.0."""

    low: int
    high: int

    @property
    def allowed(self) -> Phrase:
        """It in words."""
        return _("a whole number from {low} to {high}").format(low=self.low, high=self.high)

    def takes(self, value: object) -> bool:
        """Whether it may be `value`."""
        return type(value) is int and self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Number:
    """A number, neither infinite nor NaN."""

    low: float
    high: float

    @property
    def allowed(self) -> Phrase:
        """It in words."""
        return _("a number from {low} to {high}").format(low=self.low, high=self.high)

    def takes(self, value: object) -> bool:
        """Whether it may be `value`."""
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
            and math.isfinite(value)
        )


@dataclass(frozen=True, slots=True)
class Several:
    """One of a kind, or a list of some."""

    kind: Kind
    most: int

    @property
    def allowed(self) -> Phrase:
        """It in words."""
        return _("{allowed}, or a list of such").format(allowed=self.kind.allowed)

    def takes(self, value: object) -> bool:
        """Whether it may be `value`."""
        if isinstance(value, list):
            return len(value) <= self.most and all(map(self.kind.takes, value))
        return self.kind.takes(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    @property
    def allowed(self) -> Phrase:
        """It in words."""
        return _("true or false")

    def takes(self, value: object) -> bool:
        """Whether it may be `value`."""
        return isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Text:
    """Any string, the empty one too."""

    @property
    def allowed(self) -> Phrase:
        """It in words."""
        return _("a text")

    def takes(self, value: object) -> bool:
        """Whether it may be `value`."""
        return isinstance(value, str)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few texts."""

    texts: tuple[str, ...]

    @property
    def allowed(self) -> Phrase:
        """It in words."""
        return _("one of {texts}").format(texts=", ".join(f'"{text}"' for text in self.texts))

    def takes(self, value: object) -> bool:
        """Whether it may be `value`."""
        return value in self.texts


@dataclass(frozen=True, slots=True)
class Group:
    """An object with fields of its own."""

    kinds: Mapping[str, Kind]

    @property
    def allowed(self) -> Phrase:
        """It in words."""
        return _("an object with fields of its own")

    def takes(self, value: object) -> bool:
        """Whether it may be `value`, as far as it is an object."""
        return isinstance(value, dict)


def check_fields(
    file: Path, values: Mapping[str, Any], kinds: Mapping[str, Kind], *, within: str = ""
) -> None:
    """Compare `values` of `file` with `kinds`. What is missing, null or has no kind is passed over.

    Args:
        within: what stands before their names in a message, for those of a `Group`.

    Raises:
        BadFileError: one is of another kind; file and field are named.
    """
    for name, kind in kinds.items():
        value = values.get(name)
        if value is None:
            continue
        if not kind.takes(value):
            message = _("{path}: {name} is {value}, and should be {allowed}.")
            raise BadFileError(
                message.format(path=file, name=f"{within}{name}", value=_shown(value), allowed=kind.allowed)
            )
        if isinstance(kind, Group):
            check_fields(file, value, kind.kinds, within=f"{within}{name}.")


def _shown(value: object) -> str:
    return f'"{quoted(value)}"' if isinstance(value, str) else quoted(value)

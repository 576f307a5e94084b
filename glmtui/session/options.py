"""What the command line tells the app and the line mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

BUILT_IN = ("nano", "builtin", "built-in", "default", "内置")
"""Names of the model that ships with glmtui."""


@dataclass(frozen=True, slots=True)
class AppOptions:
    """Options of this one start. None leaves a thing as the settings say."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """Values that come before those of the settings file in this run, by full key."""
    conversation: Path | None = None
    """A conversation file to open; it is made where it does not exist."""
    color: Literal["auto", "always", "never"] | None = None
    """Whether the line mode shows colours, and the app none; None: as the settings and NO_COLOR say."""
    plain: bool = False
    """Chat line by line instead of on the full screen."""

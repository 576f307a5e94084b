"""What the command line tells the app."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glmtui.protocol.models import Quant


@dataclass(frozen=True, slots=True)
class AppOptions:
    """Options of this one start. None leaves a thing as the settings say."""

    model: str | None = None
    """A folder, a hub id or a short name."""
    device: str | None = None
    gpus: str | None = None
    quant: Quant | None = None
    threads: int | None = None
    ptuning: str | None = None
    conversation: Path | None = None
    """A conversation file to open; it is made where it does not exist."""
    language: str | None = None
    theme: str | None = None
    color: Literal["auto", "always", "never"] | None = None
    """Whether the line mode shows colours, and the app none; None: as the settings and NO_COLOR say."""
    plain: bool = False
    """Chat line by line instead of on the full screen."""

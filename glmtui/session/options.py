"""What the command line tells the app, and how that comes before the settings of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from glmtui.protocol.models import Quant

if TYPE_CHECKING:
    from glmtui.settings.settings import Settings


BUILT_IN = ("nano", "builtin", "built-in", "default", "内置")
"""Names of the model that ships with glmtui."""


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


def apply_options(settings: Settings, options: AppOptions) -> None:
    """Let what the command line said come before the settings of the file, for this run."""
    given = {
        "model.device": options.device,
        "model.gpus": options.gpus,
        "model.quant": options.quant,
        "model.threads": options.threads,
        "model.ptuning": options.ptuning,
        "ui.language": options.language,
        "ui.theme": options.theme,
    }
    if options.model is not None:
        settings.override("model.source", None if options.model in BUILT_IN else options.model)
    for key, value in given.items():
        if value is not None:
            settings.override(key, value)

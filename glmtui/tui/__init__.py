"""The app: turns key presses into a conversation. No torch is imported here."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glmtui.session.options import AppOptions


def run(options: AppOptions) -> int:
    """Open the app and return its exit code when it is closed.

    Raises:
        Exception: the app could not go on after it.

    Some settings steer the terminal and must be known before Textual is imported.
    """
    from glmtui.settings.settings import Settings

    settings = Settings.load()
    if not settings["ui.kitty_keys"]:
        os.environ["TEXTUAL_DISABLE_KITTY_KEY"] = "1"
    gc.disable()  # of a start nothing is garbage; the app turns it on after the first paint
    from glmtui.signals import end_signals
    from glmtui.tui.app import GlmTui

    app = GlmTui(options, settings=settings)
    with end_signals(app.end_by_signal):
        app.run(mouse=bool(settings["ui.mouse"]))
    if app.ended_by is not None:
        raise app.ended_by
    return app.return_code or 0

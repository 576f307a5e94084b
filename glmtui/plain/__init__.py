"""Conversations without a screen: the line mode (``glmtui --plain``) and what ``glmtui ask`` shares with it.

The session, its commands and its files are the app's own; only what is shown differs. Nothing here moves the
cursor or colours anything unasked, and Textual is never imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glmtui.session.options import AppOptions


def run(options: AppOptions) -> int:
    """Chat line by line on the standard streams; return the exit code."""
    import sys
    from io import TextIOWrapper

    from glmtui import interrupts
    from glmtui.engine.local import LocalEngine
    from glmtui.plain.line_mode import LineMode
    from glmtui.plain.reader import make_reader
    from glmtui.settings.settings import Settings
    from glmtui.signals import ends_in_order

    settings = Settings.load()
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a wrong byte that is typed costs a character, not the chat
    reader = make_reader(sys.stdin, sys.stdout)
    interrupts.raise_error()  # which stops an answer, or leaves a line that is being typed
    with ends_in_order(("SIGTERM", "SIGHUP")):
        return LineMode(options, settings, reader, sys.stdout, sys.stderr, LocalEngine).run()

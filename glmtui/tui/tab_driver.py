"""Draws the app for a tab of a browser: packets on the standard streams, which a server carries there and back.

Named in ``TEXTUAL_DRIVER`` by who starts the app so (`glmtui.cli.web`).
"""

from __future__ import annotations

import os
import signal

from textual import messages
from textual.drivers.web_driver import WebDriver


class TabDriver(WebDriver):
    """Textual's own, which would go on for ever without anybody who sees it."""

    def run_input_thread(self) -> None:
        """Read what is typed; when the tab is closed, the app ends as with a terminal that is."""
        super().run_input_thread()
        if self.exit_event.is_set():
            return
        if hasattr(signal, "SIGHUP"):
            os.kill(os.getpid(), signal.SIGHUP)
        else:
            self._app.post_message(messages.ExitApp())

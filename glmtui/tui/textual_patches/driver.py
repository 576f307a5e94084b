"""The terminal, which may go away: its window is closed, the connection breaks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, Any

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from glmtui.tui.textual_patches import textual_is


class TerminalGone(Message):
    """Nobody sees any more what is written."""


class TerminalDriver(LinuxDriver):
    """Textual's driver, but for what happens when the terminal is gone.

    In Textual 8.2 the thread that writes ends with an error then, and the app waits for ever for it to take
    more from a full queue, deaf to the signal that tells it to end. The same queue is what hangs in
    Textualize/textual#6692; for a terminal that is gone it is not reported upstream.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        if not textual_is((8, 2)):
            return
        assert sys.__stderr__ is not None
        self._file = _Outlet(sys.__stderr__, lambda: app.post_message(TerminalGone()))  # type: ignore[assignment]


class _Outlet:
    """A terminal to write to. Once that fails, `gone` is called and all that comes later is dropped."""

    def __init__(self, file: IO[str], gone: Callable[[], object]) -> None:
        self._file, self._gone = file, gone
        self._open = True

    def write(self, text: str) -> None:
        self._attempt(lambda: self._file.write(text))

    def flush(self) -> None:
        self._attempt(self._file.flush)

    def fileno(self) -> int:
        return self._file.fileno()

    def _attempt(self, work: Callable[[], object]) -> None:
        if not self._open:
            return
        try:
            work()
        except OSError:
            self._open = False
            self._gone()

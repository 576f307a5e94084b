"""The terminal: what it sends, and that it may go away or take nothing more."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from textual import _xterm_parser as xterm
from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.constants import ESCAPE_DELAY
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from glmtui.text.clean import clean
from glmtui.tui.textual_patches import textual_is
from glmtui.tui.textual_patches.terminal_input import ESC, Pasted, TerminalInput

LISTEN_SECONDS = 0.05
"""Between two looks at whether something is to be read or done."""
FLUSH_SECONDS = 0.005
"""Between two times that what the terminal has not taken is thrown away."""
PIECE = 4096
"""Bytes that are written at a time."""
SILENT_LOOKS = 10
"""After which the rest of a character does not come any more."""
RESTORED = (
    "\x18"  # ends a sequence that was cut
    "\x1b[?2004l\x1b[?7h\x1b[?2048l"
    "\x1b[?1016l\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1000l"
    "\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
)
"""Ends the modes that Textual has set: paste, wrapping, resize, mouse, keys, screen, cursor, focus."""


_ATTRIBUTES = re.compile(r"\x1b\[([?>])([\d;]{1,100})c")


class TerminalGone(Message):
    """Nobody sees any more what is written."""


class TerminalAttributes(Message):
    """What the terminal says it is."""

    def __init__(self, codes: Sequence[int]) -> None:
        super().__init__()
        self.codes = codes


class TerminalVersion(Message):
    """Which program the terminal is like, and of which version."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        self.numbers = numbers


class TerminalDriver(LinuxDriver):
    """Textual's driver, but for what comes from the terminal, and for its end.

    In Textual 8.2 the thread that reads ends the app with a byte that is not UTF-8, and takes for keys what
    it does not know (see `TerminalInput`). The thread that writes ends with an error when the terminal is
    gone, and the app waits for ever for it to take more from a full queue, deaf to the signal that tells it
    to end; so it does where the terminal takes nothing. The same queue is what hangs in
    Textualize/textual#6692; the rest is not reported upstream.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._active = False
        """Whether the terminal is in the modes of a full screen."""
        self._writing = threading.Event()
        """Whether there is still something to write; `_flushing` is held while it is thrown away."""
        self._flushing = threading.Lock()
        if not textual_is((8, 2)):
            return
        assert sys.__stderr__ is not None
        self._outlet = _Outlet(os.dup(sys.__stderr__.fileno()), self._gone)
        self._standard = _StandardStreams()
        self._file = self._outlet  # type: ignore[assignment]

    def _gone(self) -> None:
        self._app.post_message(TerminalGone())

    # --- what the terminal sends ---

    def _run_input_thread(self) -> None:
        """Read until the driver is stopped; what one key brings about is no reason to hear no other."""
        if not textual_is((8, 2)):
            super()._run_input_thread()
            return
        try:
            self.run_input_thread()
        except Exception as error:  # noqa: BLE001 (told by the app, in its own thread)
            self._app.call_later(self._app._handle_exception, error)
            self._run_input_thread()

    def run_input_thread(self) -> None:
        """Turn what comes into events until the driver is stopped or the terminal is gone."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        terminal, reader, silent = TerminalInput(ESCAPE_DELAY), _Reader(self._debug), 0
        while not self.exit_event.is_set():
            data = self._read()
            if data is None:
                self.exit_event.wait()
                return
            silent = 0 if data else silent + 1
            text = decoder.decode(data, final=silent == SILENT_LOOKS)
            for piece in (*terminal.feed(text), *terminal.tick()):
                for event in reader.read(piece):
                    self.process_message(event)
            for event in reader.tick():
                self.process_message(event)

    def _read(self) -> bytes | None:
        """Return what came within a moment; None when the terminal is gone, which is told."""
        try:
            if not select.select([self.fileno], [], [], LISTEN_SECONDS)[0]:
                return b""
            if data := os.read(self.fileno, 1 << 16):
                return data
        except OSError:
            pass
        self._gone()
        return None

    def _get_terminal_size(self) -> tuple[int, int]:
        """Ask the terminal itself: standard output leads nowhere meanwhile."""
        with suppress(OSError, AttributeError):  # no terminal; another version of Textual
            return tuple(os.get_terminal_size(self._outlet.fileno()))  # type: ignore[return-value]
        return super()._get_terminal_size()

    def cell(self) -> tuple[int, int]:
        """Return width and height of a cell in pixels; zeros where the terminal does not tell."""
        try:
            size = fcntl.ioctl(self.fileno, termios.TIOCGWINSZ, bytes(8))
        except OSError:
            return 0, 0
        rows, columns, width, height = struct.unpack("HHHH", size)
        return (width // columns, height // rows) if rows and columns else (0, 0)

    # --- the end ---

    def start_application_mode(self) -> None:
        self._active = True
        self._writing.set()
        if textual_is((8, 2)):
            self._standard.hide()
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        super().close()
        with self._flushing:
            self._writing.clear()
        if textual_is((8, 2)):
            self._standard.show()
            if self._outlet.dropped:
                self.restore()
        self._active = False

    def give_up_output(self) -> None:
        """Let nothing be written any more; what the terminal has not taken yet is lost. Returns when it is.

        A thread that waits for the terminal goes on as often as there is room for some more.
        """
        self._outlet.drop()
        while self._writing.is_set():
            with self._flushing, suppress(termios.error):
                if self._writing.is_set():
                    termios.tcflush(self._outlet.fileno(), termios.TCOFLUSH)
            time.sleep(FLUSH_SECONDS)

    def restore(self) -> None:
        """Bring the terminal back to how it was, if it is not, without a thread that could be stuck."""
        if not self._active:
            return
        self._active = False
        with self._flushing, suppress(OSError, termios.error):
            self._writing.clear()
            if self.attrs_before is not None:
                termios.tcsetattr(self.fileno, termios.TCSANOW, self.attrs_before)
            termios.tcflush(self._outlet.fileno(), termios.TCOFLUSH)
            os.write(self._outlet.fileno(), RESTORED.encode())
            self._standard.show()


class _Reader:
    """Makes events of what `TerminalInput` cuts."""

    def __init__(self, debug: bool) -> None:
        self._debug = debug
        self._parser = XTermParser(debug)

    def read(self, piece: str | Pasted) -> Sequence[Message]:
        """Return the events of a piece; none of a sequence that nobody knows."""
        if isinstance(piece, Pasted):
            return [events.Paste(clean(piece.text))]
        if piece == ESC:
            return [events.Key("escape", ESC)]
        if attributes := _ATTRIBUTES.fullmatch(piece):
            numbers = [int(code) for code in attributes[2].split(";") if code]
            return [TerminalAttributes(numbers) if attributes[1] == "?" else TerminalVersion(numbers)]
        try:
            if not piece.startswith(ESC) or _is_known(piece):
                return list(self._parser.feed(piece))
            if len(piece) == 2:  # with Alt
                return list(self._parser._sequence_to_key_events(piece[1], alt=True))
        except (
            ValueError,
            ArithmeticError,
        ):  # no such character; a window without size
            fresh = XTermParser(self._debug)
            for name in ("mouse_pixels", "terminal_size", "terminal_pixel_size"):
                setattr(fresh, name, getattr(self._parser, name))
            self._parser = fresh
        return []

    def tick(self) -> Iterable[Message]:
        """Return what the time alone brings about."""
        return self._parser.tick()


def _is_known(sequence: str) -> bool:
    """Whether Textual reads this control sequence."""
    patterns = (
        xterm._re_extended_key,
        xterm._re_mouse_event,
        xterm._re_cursor_position,
        xterm._re_terminal_mode_response,
        xterm._re_in_band_window_resize,
    )
    return (
        sequence in ANSI_SEQUENCES_KEYS
        or sequence in xterm.SPECIAL_SEQUENCES
        or any(pattern.fullmatch(sequence) for pattern in patterns)
    )


class _StandardStreams:
    """Standard output and error of the process, which libraries in C and Rust write to behind Python's back.

    What they say over a full screen, such as of a panic that becomes an exception, would tear it.
    """

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}
        """Where the streams that are hidden lead, by their number."""

    def hide(self) -> None:
        """Let what is written there vanish."""
        if self._kept:
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            for number in (1, 2):
                with suppress(OSError):  # closed
                    self._kept[number] = os.dup(number)
                    os.dup2(null, number)
        finally:
            os.close(null)

    def show(self) -> None:
        """Let them lead where they did before."""
        while self._kept:
            number, kept = self._kept.popitem()
            os.dup2(kept, number)
            os.close(kept)


class _Outlet:
    """A terminal to write to, in UTF-8. Once that fails, `gone` is called, and the rest is dropped."""

    def __init__(self, number: int, gone: Callable[[], object]) -> None:
        self._number, self._gone = number, gone
        self._open = True
        self.dropped = False
        """Whether something was not written that the terminal could have taken."""

    def write(self, text: str) -> None:
        """Write in pieces, so that little is on its way when it turns out that nobody takes it."""
        data = text.encode("utf-8", "replace")
        try:
            while data and self._open:
                data = data[os.write(self._number, data[:PIECE]) :]
        except OSError:
            self._open = False
            self._gone()

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        return self._number

    def drop(self) -> None:
        """Write nothing any more."""
        self._open, self.dropped = False, True

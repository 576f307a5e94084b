"""Reading lines: typed with editing, history and completion where there is readline, else from the stream."""

from __future__ import annotations

import locale
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from glmtui.streams import Safe, clean_writer, lines_of
from glmtui.text.clean import clean

if TYPE_CHECKING:
    from types import ModuleType

Offers = Callable[[str], Sequence[str]]
"""Given the line up to the cursor, what it could become."""
_ASCII = frozenset({"ANSI_X3.4-1968", "US-ASCII", "646"})
_COLOR = re.compile(r"\x1b\[[\d;]*m")
END = "\x04"
"""Ctrl+D."""
BLOCK = '"""'
"""Opens and closes a text of several lines."""


class Reader(Protocol):
    """Where lines come from."""

    interactive: bool
    """Whether a person types them, so that nothing needs to be repeated."""

    def read(self, prompt: Safe, text: str = "") -> str:
        """Return the next line, with `text` in it to begin with where it can be edited.

        Raises:
            EOFError: there is none.
        """
        ...

    def prepare(self, history: Sequence[str], offers: Offers) -> None:
        """Know earlier lines and how to complete one."""
        return

    def remember(self, line: str) -> None:
        """Add a line to what ↑ brings back."""
        return


class StreamReader(Reader):
    """Lines of a pipe or a file; they are repeated behind the prompt, so that a log can be read."""

    interactive = False

    def __init__(self, stream: TextIO, echo: TextIO) -> None:
        self._lines = lines_of(stream)
        self._echo = clean_writer(echo)

    def read(self, prompt: Safe, text: str = "") -> str:
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        self._echo.write_safe(prompt)
        self._echo.line(line)
        return line


class _ContinuedError(Exception):
    """The program was stopped and goes on; holds the line that was being typed."""


class TerminalReader:
    """Lines that a person types, with readline where Python has it (Windows edits by itself)."""

    interactive = True

    def __init__(self) -> None:
        self._readline: ModuleType | None = None
        self._ahead = ""
        """What was typed before there was a reader."""
        self._reading = False
        self._mode: _Mode | None = None
        with suppress(ImportError):
            import readline
            import termios

            _know_characters()
            self._readline = readline
            with suppress(termios.error):  # it is gone
                self._mode = _Mode(sys.stdin.fileno())
                self._ahead = self._mode.keep_ends()
                if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:  # else it cannot be stopped
                    signal.signal(signal.SIGTSTP, self._stop)

    def read(self, prompt: Safe, text: str = "") -> str:
        readline, output = self._readline, clean_writer(sys.stdout)
        if readline is None:
            if text:
                output.line(text)
            return input(prompt)
        if self._ahead:
            typed, end, self._ahead = self._ahead.partition("\n")
            if typed == END:
                raise EOFError
            text += typed.removesuffix(END)
            if end:
                output.write_safe(prompt)
                output.line(text)
                return text
        while True:
            begin = clean(text)  # readline would write what steers a terminal as it is
            readline.set_startup_hook(partial(readline.insert_text, begin) if begin else None)
            self._reading = True
            try:
                return input(_COLOR.sub("\x01\\g<0>\x02", prompt))  # readline has to know what takes no room
            except _ContinuedError as continued:
                text = str(continued)
            finally:
                self._reading = False
                readline.set_startup_hook(None)

    def _stop(self, _number: int, _frame: object) -> None:
        """Stop, as Ctrl+Z asks for, with the terminal as it was; then go on in the line that was being typed.

        Python's readline would find the terminal in the mode of the shell, and know nothing of it.
        """
        assert self._mode is not None
        self._mode.give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stop)
        self._mode.take()
        if self._reading and self._readline is not None:
            raise _ContinuedError(self._readline.get_line_buffer())

    def prepare(self, history: Sequence[str], offers: Offers) -> None:
        readline = self._readline
        if readline is None:
            return
        found: list[str] = []

        def complete(text: str, state: int) -> str | None:
            if state == 0:
                found[:] = offers(text)
            return found[state] if state < len(found) else None

        readline.set_completer_delims("\n")
        readline.set_completer(complete)
        libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
        readline.set_auto_history(False)
        readline.clear_history()
        for line in history:
            readline.add_history(line)

    def remember(self, line: str) -> None:
        if self._readline is not None:
            self._readline.add_history(line)


class _Mode:
    """How a terminal works: as it was found, and as lines are read here."""

    def __init__(self, terminal: int) -> None:
        import termios

        self._terminal = terminal
        self._found = termios.tcgetattr(terminal)
        self._ours = self._found

    def keep_ends(self) -> str:
        """Let Ctrl+D wait for readline as other keys do; return what was typed before: all up to an `END`.

        While nobody reads, a terminal takes Ctrl+D for the end of what it has, and readline, which changes
        the way the terminal works, finds nothing of it.
        """
        import atexit
        import termios

        ahead = ""
        while not ahead.endswith(END) and select.select([self._terminal], [], [], 0)[0]:
            ahead += os.read(self._terminal, 1 << 16).decode("utf-8", "replace") or END
        self._ours = termios.tcgetattr(self._terminal)
        self._ours[6][termios.VEOF] = bytes([os.fpathconf(self._terminal, "PC_VDISABLE")])
        termios.tcsetattr(self._terminal, termios.TCSANOW, self._ours)
        atexit.register(self.give_back)
        return ahead

    def take(self) -> None:
        """Let it work as lines are read here."""
        self._set(self._ours)

    def give_back(self) -> None:
        """Let it work as it was found."""
        self._set(self._found)

    def _set(self, mode: list[Any]) -> None:
        import termios

        with suppress(termios.error):  # it is gone
            termios.tcsetattr(self._terminal, termios.TCSANOW, mode)


def _know_characters() -> None:
    """Let readline read UTF-8 also where the environment names a locale that is not installed.

    C libraries then fall back on ASCII, and readline on taking the bytes of hanzi for Meta keys. Any other
    character set is the terminal's own.
    """
    if locale.nl_langinfo(locale.CODESET).upper() in _ASCII:
        for name in ("C.UTF-8", "en_US.UTF-8"):
            with suppress(locale.Error):
                locale.setlocale(locale.LC_CTYPE, name)
                return


def make_reader(stream: TextIO, output: TextIO) -> Reader:
    """Return what reads from standard input as it is."""
    return TerminalReader() if stream.isatty() and output.isatty() else StreamReader(stream, output)


def read_message(reader: Reader, prompt: Safe, text: str = "") -> str:
    """Return a line, or all lines between two that begin and end with three double quotes.

    Raises:
        EOFError: there is none.
    """
    line = reader.read(prompt, text)
    if not line.lstrip().startswith(BLOCK):
        return line
    rest = line.lstrip().removeprefix(BLOCK)
    lines: list[str] = []
    while not rest.rstrip().endswith(BLOCK):
        lines.append(rest)
        try:
            rest = reader.read(Safe("… "))
        except EOFError:
            break
    else:
        lines.append(rest.rstrip().removesuffix(BLOCK))
    return "\n".join(lines).strip("\n")

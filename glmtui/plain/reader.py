"""Reading lines: typed with editing, history and completion where there is readline, else from the stream."""

from __future__ import annotations

import locale
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
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


class TerminalReader:
    """Lines that a person types, with readline where Python has it (Windows edits by itself)."""

    interactive = True

    def __init__(self) -> None:
        self._readline: ModuleType | None = None
        self._ahead = ""
        """What was typed before there was a reader."""
        with suppress(ImportError):
            import readline
            import termios

            _know_characters()
            self._readline = readline
            with suppress(termios.error):  # it is gone
                self._ahead = _keep_ends(sys.stdin.fileno())

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
        begin = clean(text)  # readline would write what steers a terminal as it is
        readline.set_startup_hook((lambda: readline.insert_text(begin)) if begin else None)
        try:
            return input(_COLOR.sub("\x01\\g<0>\x02", prompt))  # readline has to know what takes no room
        finally:
            readline.set_startup_hook(None)

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


def _keep_ends(terminal: int) -> str:
    """Let Ctrl+D wait for readline as other keys do; return what was typed before: all up to such an `END`.

    While nobody reads, a terminal takes Ctrl+D for the end of what it has, and readline, which changes the
    way the terminal works, finds nothing of it.
    """
    import atexit
    import termios

    before = termios.tcgetattr(terminal)
    ahead = ""
    while not ahead.endswith(END) and select.select([terminal], [], [], 0)[0]:
        ahead += os.read(terminal, 1 << 16).decode("utf-8", "replace") or END
    changed = termios.tcgetattr(terminal)
    changed[6][termios.VEOF] = bytes([os.fpathconf(terminal, "PC_VDISABLE")])
    termios.tcsetattr(terminal, termios.TCSANOW, changed)
    atexit.register(_restore, terminal, before)
    return ahead


def _restore(terminal: int, mode: list[Any]) -> None:
    import termios

    with suppress(termios.error):
        termios.tcsetattr(terminal, termios.TCSANOW, mode)


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

"""The standard streams: the one way to write to them and the one way to read from them.

Whatever a person, a model or a file wrote loses here what would steer a terminal, and what the stream's
encoding lacks is replaced. Only this program's own sequences pass, by their type (`Safe`).
"""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Timer
from typing import NewType, TextIO, TypeAlias, cast

from glmtui.errors import BadFileError, BadValueError
from glmtui.protocol.phrases import _
from glmtui.text.clean import clean, escape_unsafe, flat
from glmtui.text.encodings import MOST_BYTES, UTF_16_MARKS, decode

Safe = NewType("Safe", str)
"""What goes to a terminal as it is: this program's own sequences, and text that was cleaned."""
ERASE_LINE = Safe("\r\x1b[K")
WAIT_SECONDS = 1.0
"""Until a person is told that standard input is being waited for."""


class CleanWriter(io.TextIOBase):
    """Writes text without what would steer a terminal, and flushes it at once.

    So output that cannot be written fails where it is written, and the interpreter's exit has nothing left to
    write.
    The `OSError` names the stream as its file.

    Args:
        stream: takes the text.
        needed: without it what cannot be written is dropped, as nobody could be told.
    """

    def __init__(self, stream: TextIO, *, needed: bool = True) -> None:
        self._stream = stream
        self._needed = needed
        self._failure: OSError | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"

    @property
    def closed(self) -> bool:
        """With the stream: Python flushes what it collects, unless it is closed."""
        return self._stream.closed

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write `text`, cleaned."""
        self.write_safe(Safe(clean(text)))
        return len(text)

    def line(self, text: str = "") -> None:
        """Write `text` as one line, whatever line ends are in it."""
        self.write_safe(Safe(flat(text) + "\n"))

    def json(self, value: object, *, indent: int | None = None) -> None:
        """Write `value` as JSON. What a terminal obeys or the encoding lacks is escaped: nothing is lost."""
        text = escape_unsafe(json.dumps(value, ensure_ascii=False, indent=indent, default=str))
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            text = json.dumps(value, indent=indent, default=str)
        self.write_safe(Safe(text + "\n"))

    def write_safe(self, text: Safe) -> None:
        """Write what is clean already."""
        with self._failures_named():
            self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
            self._stream.flush()

    def flush(self) -> None:
        """Write what was left by a write that failed."""
        with self._failures_named():
            self._stream.flush()

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._needed:
                error.filename = str(getattr(self._stream, "name", "")).strip("<>")
                self._failure = error
                raise

    def check(self) -> None:
        """Raise again what was met in writing: whoever wrote may have outlived it, as a session does."""
        if self._failure is not None:
            raise self._failure


Output: TypeAlias = TextIO | CleanWriter
"""What takes text: a stream, or what cleans it already."""


class StatusLine:
    """A line or a few that change, on a terminal, and are gone in the end.

    Args:
        stream: takes it.
    """

    def __init__(self, stream: Output) -> None:
        self._stream = clean_writer(stream)
        self.is_terminal = stream.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """Show `text` in place of what was shown; nothing where there is no terminal."""
        self.show_lines([text])

    def show_lines(self, lines: Iterable[str]) -> None:
        """Show `lines`, which fit the terminal's width, in place of what was shown."""
        text = "\n".join(map(flat, lines))
        if self.is_terminal and text != self._shown:
            self._stream.write_safe(Safe(self._erasing() + text))
            self._shown = text

    def step(self, text: str) -> None:
        """Show `text`; where there is no terminal, in a line of its own."""
        if self.is_terminal:
            self.show(text)
        else:
            self.note(text)

    def keep(self) -> None:
        """Let what is shown stay; what comes next comes below."""
        if self._shown:
            self._stream.write_safe(Safe("\n"))
            self._shown = ""

    def clear(self) -> None:
        if self._shown:
            self._stream.write_safe(self._erasing())
            self._shown = ""

    def _erasing(self) -> Safe:
        above = self._shown.count("\n")
        return Safe(f"\r\x1b[{above}A\x1b[J") if above else ERASE_LINE

    def note(self, text: str) -> None:
        """Write a line that stays."""
        self.clear()
        self._stream.line(f"glmtui: {text}")


def clean_writer(stream: Output) -> CleanWriter:
    """Return what writes cleaned text to `stream`; that is `stream` where it does so itself."""
    return stream if isinstance(stream, CleanWriter) else CleanWriter(stream)


def output() -> CleanWriter:
    """Return standard output: answers and what commands print."""
    return clean_writer(sys.stdout)


def errors() -> CleanWriter:
    """Return standard error: notices, questions and progress."""
    return clean_writer(sys.stderr)


@contextmanager
def standard() -> Iterator[None]:
    """Let the process, libraries and argparse included, write through `CleanWriter`; open missing streams.

    A stream that is missing (``<&-``, no console) is the null device. In the end nothing is left in a buffer
    that cannot be written: the interpreter would try again on its way out, and end with 120.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    # In this order, since each takes the lowest free number: else a file of ours would become descriptor 0.
    stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115 (as long as the process)
    stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stdin = stdin
    sys.stdout = cast("TextIO", CleanWriter(stdout))
    sys.stderr = cast("TextIO", CleanWriter(stderr, needed=False))
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        for stream in (stdout, stderr):
            _drop_unwritten(stream)


def _drop_unwritten(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# --- reading ---


def is_piped(stream: TextIO) -> bool:
    """Whether something was piped or redirected in; a terminal or the null device says nothing."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # no file, as when there is no console at all
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def read_piped(stream: TextIO, waiting: str) -> str:
    """Return all text of `stream`, decoded as files are.

    Args:
        stream: standard input.
        waiting: said on standard error where nothing ends it for `WAIT_SECONDS`.

    Raises:
        UserError: it is no text, or too long.
    """
    timer = Timer(WAIT_SECONDS, lambda: errors().line(f"glmtui: {waiting}"))
    timer.daemon = True
    timer.start()
    try:
        data = stream.buffer.read(MOST_BYTES + 1)
    finally:
        timer.cancel()
    if len(data) > MOST_BYTES:
        raise BadValueError(
            _("Standard input has more than the {most} MB that can be read.").format(
                most=f"{MOST_BYTES / 1e6:.0f}"
            )
        )
    text = decode(data)
    if text is None:
        raise BadFileError(_("Standard input is not text."))
    return text


def lines_of(stream: TextIO) -> Iterator[str]:
    """Yield the lines of `stream` without their ends, as they come, decoded as files are.

    A byte that no encoding knows costs a character, not the rest.
    """
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        yield from (line.removesuffix("\n") for line in stream)
        return
    with suppress(ValueError):  # closed
        for data in buffer:
            if data.startswith(UTF_16_MARKS):
                yield from (data + buffer.read()).decode("utf-16", "replace").splitlines()
                return
            line = decode(data)
            line = data.decode("utf-8", "replace") if line is None else line
            yield line.removesuffix("\n").removesuffix("\r")

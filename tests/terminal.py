"""A pseudo-terminal with a person in front of it: starts a program, types, and reads the screen."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pyte


def _surroundings() -> dict[str, str]:
    """Return the environment without the size of another terminal, which readline leaves there."""
    return {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}


class Terminal:
    """One program in a pseudo-terminal of `columns` × `rows`, its screen kept by a terminal emulator."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        columns: int = 120,
        rows: int = 36,
        cwd: str | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = bytearray()
        self.started = time.monotonic()
        self.child = pexpect.spawn(
            command[0],
            list(command[1:]),
            env={**_surroundings(), "TERM": "xterm-256color", "TEXTUAL_ANIMATIONS": "none", **env},
            dimensions=(rows, columns),
            cwd=cwd,
            timeout=None,
        )
        self.child.delaybeforesend = None

    @property
    def text(self) -> str:
        """The screen as a person reads it; the filler cell behind a wide character is left out."""
        return "\n".join(
            "".join(self.screen.buffer[y][x].data for x in range(self.screen.columns)).rstrip()
            for y in range(self.screen.lines)
        )

    def pump(self, seconds: float = 0.05) -> None:
        """Let the program's output of the next `seconds` reach the screen."""
        try:
            data = self.child.read_nonblocking(1 << 16, timeout=seconds)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return
        self.raw += data
        self._stream.feed(data)

    def wait(self, until: Callable[[str], bool] | str, *, within: float = 60.0) -> str:
        """Wait until the screen holds a text (or satisfies a predicate); return the screen."""
        met = (lambda text: until in text) if isinstance(until, str) else until
        end = time.monotonic() + within
        while not met(self.text):
            if time.monotonic() > end:
                raise AssertionError(f"still waiting for {until!r} after {within} s:\n{self.text}")
            if not self.child.isalive():
                self.pump(0.2)
                if met(self.text):
                    break
                raise AssertionError(f"the program ended before {until!r} appeared:\n{self.text}")
            self.pump()
        return self.text

    def type(self, text: str) -> None:
        """Type `text` as a terminal sends it."""
        self.child.send(text.encode())

    def exit_code(self, *, within: float = 30.0) -> int | None:
        """Wait for the program to end; return its exit code (None when a signal ended it)."""
        end = time.monotonic() + within
        while self.child.isalive():
            if time.monotonic() > end:
                raise AssertionError(f"the program has not ended after {within} s:\n{self.text}")
            self.pump()
        for _ in range(20):
            before = len(self.raw)
            self.pump(0.02)
            if len(self.raw) == before:
                break
        self.child.close()
        return self.child.exitstatus

    def close(self) -> None:
        """End the program, however it feels about it."""
        if self.child.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.wait()
        self.child.close()


Start = Callable[..., Terminal]
"""Starts glmtui with these arguments; ``language``, ``term`` and the size may be named."""


@contextmanager
def terminals(folder: Path) -> Iterator[Start]:
    """Give a way to start glmtui, all with one home in `folder`; what still runs in the end is ended."""
    running: list[Terminal] = []

    def start(
        *arguments: str,
        program: Sequence[str] = ("-m", "glmtui"),
        language: str = "C.UTF-8",
        term: str = "xterm-256color",
        **size: int,
    ) -> Terminal:
        tests = Path(__file__).parent
        path = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
        env = {"GLMTUI_HOME": str(folder / "home"), "LC_ALL": language, "TERM": term, "PYTHONPATH": path}
        terminal = Terminal([sys.executable, *program, *arguments], env=env, cwd=str(folder), **size)
        running.append(terminal)
        return terminal

    try:
        yield start
    finally:
        for terminal in running:
            terminal.close()
        no_faults(folder / "home")


def no_faults(home: Path) -> None:
    """Fail if a program met something that nobody foresaw, though it went on."""
    log = home / "state" / "glmtui.log"
    assert not log.exists(), log.read_text("utf-8")

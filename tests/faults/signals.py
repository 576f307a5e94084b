"""Signals at any moment: the program ends within a second, the terminal as it was.

``python tests/faults/signals.py [RUNS]`` sends them at random moments of the full screen, with dialogs open
and with a terminal that takes nothing, of the line mode and of ``ask``, and prints what came of it.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LIMIT_SECONDS = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MODES = {
    b"alternate screen": b"?1049", b"paste": b"?2004", b"focus": b"?1004", b"mouse": b"?1000",
    b"mouse moves": b"?1003", b"mouse coordinates": b"?1006",
}  # fmt: skip
"""Modes that are off before the program starts; the cursor (?25) is on."""
DIALOGS = {
    "help": b"\x1bOP", "palette": b"\x10", "settings": b"\x1bOR", "themes": b"\x1bOS", "models": b"\x1b[15~",
    "presets": b"/preset\r", "rename": b"/rename\r", "keys": b"/keys\r", "search": b"\x0f", "answer": b"hi\r",
    "quantise": b"/quant 4\r",
}  # fmt: skip
"""What is typed to get into a state."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int
    seconds: float
    left: tuple[str, ...]
    """What is not as it was: modes of the terminal, a traceback."""
    output: bytes

    def faults(self, number: int, *, within: float = LIMIT_SECONDS) -> list[str]:
        """Say what is wrong for a program that `number` was sent to."""
        found = list(self.left)
        if self.code not in (128 + number, -number):
            found.append(f"exit code {self.code}")
        if self.seconds > within:
            found.append(f"{self.seconds:.2f} s")
        return found


class Child:
    """A program in a pseudo-terminal of 100 × 30 that reads what the program writes, or does not."""

    def __init__(self, arguments: Sequence[str], home: Path) -> None:
        self._ours, self._theirs = os.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._before = termios.tcgetattr(self._theirs)
        self.output = bytearray()
        names = {"GLMTUI_HOME": str(home), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "glmtui", *arguments],
            stdin=self._theirs, stdout=self._theirs, stderr=self._theirs,
            env={**os.environ, **names}, start_new_session=True,
        )  # fmt: skip

    def begin(self) -> None:
        """Wait for the first line of glmtui: what Python says of Ctrl+C before is beyond its reach.

        From there on SIGINT is the system's to handle for a moment, but SIGPIPE, as always in Python, is not.
        """
        end, begun = time.monotonic() + 10, False
        while time.monotonic() < end and self.process.poll() is None:
            try:
                status = Path(f"/proc/{self.process.pid}/status").read_text()
            except OSError:  # no Linux
                time.sleep(0.3)
                return
            caught, ignored = (
                int(re.search(rf"{name}:\s*(\w+)", status)[1], 16)  # type: ignore[index]
                for name in ("SigCgt", "SigIgn")
            )
            is_caught = bool(caught >> (signal.SIGINT - 1) & 1)
            if begun and not is_caught and ignored >> (signal.SIGPIPE - 1) & 1:
                return
            begun = begun or is_caught  # Python ignores SIGPIPE a moment before it takes SIGINT
            time.sleep(0.0005)

    def read(self, seconds: float, until: bytes | None = None) -> bool:
        """Take what the program writes for some time; return whether `until` was among it."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and self.process.poll() is None:
            if until is not None and until in self.output:
                return True
            self._read(min(left, 0.05))
        return until is not None and until in self.output

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        self.output += os.read(self._ours, 1 << 16)
        return True

    def type(self, keys: bytes) -> None:
        """Type at once."""
        os.write(self._ours, keys)

    def end(self, number: int, *, reading: bool = True) -> Outcome:
        """Send a signal and wait for the end; a program that does not end is killed after some seconds."""
        begun = time.monotonic()
        self.process.send_signal(number)
        while self.process.poll() is None and time.monotonic() - begun < 10:
            if reading:
                self._read(0.01)
            else:
                time.sleep(0.01)
        seconds = time.monotonic() - begun
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait()
        while self._read(0.05):
            pass
        return Outcome(code, seconds, tuple(self._left()), bytes(self.output))

    def _left(self) -> Iterator[str]:
        for name, mode in MODES.items():
            if self.output.rfind(b"\x1b[" + mode + b"h") > self.output.rfind(b"\x1b[" + mode + b"l"):
                yield name.decode()
        if self.output.rfind(b"\x1b[?25l") > self.output.rfind(b"\x1b[?25h"):
            yield "hidden cursor"
        if len(re.findall(rb"\x1b\[>\d+u", self.output)) > self.output.count(b"\x1b[<u"):
            yield "keyboard protocol"
        if termios.tcgetattr(self._theirs) != self._before:
            yield "raw mode"
        if b"Traceback" in self.output:
            yield "traceback"

    def close(self) -> None:
        """Let go of the terminal."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def child(*arguments: str, home: Path) -> Iterator[Child]:
    """Run glmtui with `arguments` in a terminal of its own."""
    started = Child(arguments, home)
    try:
        yield started
    finally:
        started.close()


def screen_at(seconds: float, number: int, home: Path) -> Outcome:
    """Send `number` to the full screen `seconds` after its first line."""
    with child(home=home) as app:
        app.begin()
        app.read(seconds)
        return app.end(number)


def screen_with(keys: bytes, seconds: float, number: int, home: Path, *, reading: bool = True) -> Outcome:
    """Send `number` to the full screen some time after `keys` were typed, which the terminal may not show."""
    with child(home=home) as app:
        app.read(60, b"(built in)")
        app.type(keys)
        if reading:
            app.read(seconds)
        else:
            time.sleep(seconds)
        return app.end(number, reading=reading)


def main(runs: int) -> None:
    """Try `runs` random moments and print what came of them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # children inherit that a background ignores it
    chance = random.Random(runs)
    results: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs):
            number, home = chance.choice(SIGNALS), Path(folder, str(run % 8))
            match run % 5:
                case 0 | 1:
                    moment = chance.uniform(0, 3.0)
                    what, outcome = f"full screen at {moment:.2f} s", screen_at(moment, number, home)
                case 2:
                    name, moment = chance.choice(list(DIALOGS)), chance.uniform(0, 1)
                    what, outcome = name, screen_with(DIALOGS[name], moment, number, home)
                case 3:
                    what = "terminal takes nothing"
                    keys = b"/help\r" + b"\x1b[6~" * 200 + b"\x1b" + b"hello " * 400
                    outcome = screen_with(keys, chance.uniform(0.5, 2), number, home, reading=False)
                case _:
                    arguments = chance.choice([["--plain"], ["ask", "hi"], ["ask", "hi", "--quant", "4"]])
                    what, moment = " ".join(arguments), chance.uniform(0, 4)
                    if what == "--plain":  # where Ctrl+C ends nothing but an answer
                        number = chance.choice(SIGNALS[1:])
                    with child(*arguments, home=home) as program:
                        program.begin()
                        program.read(moment)
                        if program.process.poll() is not None:  # it had its answer
                            results["had ended"] += 1
                            continue
                        outcome = program.end(number)
            slowest = max(slowest, outcome.seconds)
            faults = outcome.faults(number)
            results["right" if not faults else "wrong"] += 1
            if faults:
                print(f"{what}, {signal.Signals(number).name}: {', '.join(faults)}", flush=True)
    print(f"{runs} runs: {dict(results)}; the slowest end took {slowest:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)

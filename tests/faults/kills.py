"""``kill -9`` at random moments of the full screen and of the line mode, each in a pseudo-terminal.

What always holds, whenever the kill comes:

* Every message that was shown, as sent or queued, is in a conversation's file or in the stored queue, once.
* Of an answer that is being written, nothing is lost that was shown a second ago or earlier.
* Every file opens, and so does the program on the home that was left.

The program is forked with its modules imported already, so that a kill costs what its moment costs. Its
session reports what it shows through a pipe.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import random
import select
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, NoReturn
from unittest import mock

from faults.power_cuts import found_in_home, marks
from faults.slow_engine import SlowEngine
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.errors import UserError
from glmtui.session.chat_session import ChatSession
from glmtui.session.events import AnswerBegun, AnswerGrew, MessageAdded, SessionEvent, StateChanged

START_SECONDS = 30.0
LONGEST_LOSS = 1.0
"""Seconds: what was shown earlier before the kill must be in the file."""
RUNS_PER_HOME = 8


@dataclass
class Figures:
    """What came of it."""

    kills: int = 0
    acknowledged: int = 0
    partial: int = 0
    """Answers that were being written."""
    oldest: float = 0.0
    """Seconds that the oldest lost piece of an answer had been shown."""
    wrong: list[str] = field(default_factory=list)
    """Messages lost or doubled, answers cut too early, files that do not open, starts that failed."""
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills in {self.seconds:.0f} s: {self.acknowledged} messages acknowledged, "
            f"{self.partial} answers cut, of which at most the last {self.oldest:.2f} s were lost; "
            f"{len(self.wrong)} faults"
        )


class Reporter:
    """Tells what a session shows, a line of JSON each."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._answer, self._length = "", 0

    def tell(self, **what: object) -> None:
        os.write(self._descriptor, json.dumps({"time": monotonic(), **what}).encode() + b"\n")

    def __call__(self, event: SessionEvent) -> None:
        match event:
            case MessageAdded(message=message):
                self.tell(shown=marks(message.text))
            case StateChanged(state=state) if state.queued:
                self.tell(shown=[mark for item in state.queued for mark in marks(item.text)])
            case AnswerBegun(message=message):
                self._answer, self._length = message.id, len(message.text)
            case AnswerGrew(text=text):
                self._length += len(text)
                self.tell(answer=self._answer, length=self._length)


def child(arguments: list[str], home: Path, report: int) -> NoReturn:
    """Be the program, on the terminal that the standard streams are."""
    os.environ.update(
        GLMTUI_HOME=str(home), TERM="xterm-256color", TEXTUAL_ANIMATIONS="none", LC_ALL="C.UTF-8"
    )
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 (as long as the process)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    reporter = Reporter(report)
    begin = ChatSession.__init__

    def begin_and_report(session: ChatSession, *arguments: Any, **options: Any) -> None:
        begin(session, *arguments, **options)
        session.subscribe(reporter)
        reporter.tell(started=True)

    from glmtui.cli.main import main

    with (
        mock.patch.object(ChatSession, "__init__", begin_and_report),
        mock.patch("glmtui.engine.local.LocalEngine", SlowEngine),
    ):
        os._exit(main(arguments))


class Run:
    """One start of the program until it is killed."""

    def __init__(self, arguments: list[str], home: Path) -> None:
        self.reports: list[dict[str, Any]] = []
        self.killed = 0.0
        self._reading, report = os.pipe()
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            child(arguments, home, report)
        os.close(report)
        self._rest = b""

    @property
    def started(self) -> bool:
        return any("started" in report for report in self.reports)

    def pump(self, seconds: float) -> None:
        """Take in what the program says, for so long."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0:
            for readable in select.select([self._reading, self._terminal], [], [], left)[0]:
                try:
                    data = os.read(readable, 1 << 16)
                except OSError:  # the terminal is gone
                    return
                if readable == self._reading:
                    self._take(data)
                    if not data:
                        return

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def kill(self) -> None:
        self.killed = monotonic()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        while data := os.read(self._reading, 1 << 16):
            self._take(data)
        os.close(self._reading)
        os.close(self._terminal)

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.reports += map(json.loads, lines)


def run(count: int, seed: int, ways: tuple[str, ...] = ("full", "plain")) -> Figures:
    """Kill `count` times."""
    import glmtui.plain.line_mode
    import glmtui.tui.app  # noqa: F401 (so that a fork has it)

    figures, begun = Figures(), perf_counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        number = 0
        while figures.kills < count:
            home = Path(folder) / "home"
            shutil.rmtree(home, ignore_errors=True)
            acknowledged: set[str] = set()
            for _start in range(min(RUNS_PER_HOME, count - figures.kills)):
                number += 1
                rng = random.Random(f"{seed} {number}")
                one = _one_run(rng, ["--plain"] if rng.choice(ways) == "plain" else [], home, number)
                figures.kills += 1
                if not one.started:
                    figures.wrong.append(f"run {number}: did not start")
                shown = {mark for report in one.reports for mark in report.get("shown", ())}
                acknowledged |= shown
                figures.acknowledged += len(shown)
                with mock.patch.dict(os.environ, GLMTUI_HOME=str(home)):
                    _check(one, acknowledged, f"run {number}", figures)
    figures.seconds = perf_counter() - begun
    return figures


def _one_run(rng: random.Random, arguments: list[str], home: Path, number: int) -> Run:
    one = Run(arguments, home)
    end = monotonic() + START_SECONDS
    while not one.started and monotonic() < end:
        one.pump(0.02)
    moment = monotonic() + rng.uniform(0, 2.5)
    one.pump(rng.uniform(0, 0.4))
    for question in range(4):
        if monotonic() >= moment:
            break
        one.type(f"question-{number}{question}.\r")
        one.pump(min(rng.uniform(0, 0.6), max(0.0, moment - monotonic())))
    one.pump(max(0.0, moment - monotonic()))
    one.kill()
    return one


def _check(one: Run, acknowledged: set[str], where: str, figures: Figures) -> None:
    try:
        found = found_in_home()
    except UserError as error:
        figures.wrong.append(f"{where}: {error}")
        return
    figures.wrong += [f"{where}: {mark} is lost" for mark in sorted(acknowledged) if not found[mark]]
    figures.wrong += [f"{where}: {mark} is there twice" for mark in sorted(found) if found[mark] > 1]
    saved = {
        message.id: len(message.text)
        for path in Library().folder.glob("*.jsonl")
        for message in Conversation.open(path).messages.values()
    }
    grown = [report for report in one.reports if "answer" in report]
    for answer in {report["answer"] for report in grown}:
        mine = [report for report in grown if report["answer"] == answer]
        lost = [r for r in mine if r["length"] > saved.get(answer, 0)]
        figures.partial += bool(lost)
        age = one.killed - lost[0]["time"] if lost else 0.0
        figures.oldest = max(figures.oldest, age)
        if age > LONGEST_LOSS:
            figures.wrong.append(f"{where}: an answer lost {age:.2f} s")


def run_in_parallel(count: int, seed: int, jobs: int) -> Figures:
    """Kill `count` times in all, in `jobs` processes: most of the time is waiting."""
    total, begun = Figures(), perf_counter()
    shares = [count // jobs + (job < count % jobs) for job in range(jobs)]
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        for figures in pool.map(run, shares, [seed * 1000 + job for job in range(jobs)]):
            total.kills += figures.kills
            total.acknowledged += figures.acknowledged
            total.partial += figures.partial
            total.oldest = max(total.oldest, figures.oldest)
            total.wrong += figures.wrong
    total.seconds = perf_counter() - begun
    return total


def main() -> int:
    """Run it by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    figures = run_in_parallel(options.count, options.seed, options.jobs)
    print(f"seed {options.seed}: {figures}")
    for line in figures.wrong[:20]:
        print("  ", line)
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

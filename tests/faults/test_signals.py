"""A few of the moments of `signals`: the exit code and the terminal; the time depends on the machine."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytest.importorskip("pty", reason="Windows has no pseudo-terminals")

from faults import signals

pytestmark = pytest.mark.slow

PATIENCE = 6.0
"""Seconds; a CI machine does several things at a time."""


@pytest.mark.parametrize("moment", [0.0, 0.2, 0.5])
def test_interrupted_while_it_starts(moment: float, tmp_path: Path) -> None:
    ended = signals.screen_at(moment, signal.SIGINT, tmp_path)
    assert ended.faults(signal.SIGINT, within=PATIENCE) == []


@pytest.mark.parametrize(
    ("state", "number"), [("models", signal.SIGHUP), ("answer", signal.SIGTERM), ("keys", signal.SIGINT)]
)
def test_told_to_end_in_a_dialog_and_in_an_answer(state: str, number: int, tmp_path: Path) -> None:
    ended = signals.screen_with(signals.DIALOGS[state], 0.3, number, tmp_path)
    assert ended.faults(number, within=PATIENCE) == []


def test_told_to_end_while_the_terminal_takes_nothing(tmp_path: Path) -> None:
    keys = b"/help\r" + b"\x1b[6~" * 100
    ended = signals.screen_with(keys, 0.5, signal.SIGTERM, tmp_path, reading=False)
    assert ended.faults(signal.SIGTERM, within=PATIENCE) == []


@pytest.mark.parametrize("arguments", [("--plain",), ("ask", "hi")], ids=lambda arguments: arguments[0])
def test_the_line_mode_and_a_question_are_told_to_end(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with signals.child(*arguments, home=tmp_path) as program:
        program.read(20, b"Preparing")
        ended = program.end(signal.SIGTERM)
    assert ended.faults(signal.SIGTERM, within=PATIENCE) == []

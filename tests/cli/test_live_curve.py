"""A run on a terminal that is not the app's."""

from __future__ import annotations

import io

import pytest
from scripted_run import story

from glmtui.cli.live_curve import LiveCurve
from glmtui.streams import StatusLine
from glmtui.text.columns import widest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def played(stream: io.StringIO) -> LiveCurve:
    live = LiveCurve(StatusLine(stream))
    for event in story():
        live.take(event)
    return live


def test_the_curve_is_drawn_in_place() -> None:
    terminal = Terminal()
    live = played(terminal)
    live.draw()
    screen = terminal.getvalue()
    assert screen.count("◆ validation") >= 2
    assert screen.count("\x1b[J") == screen.count("◆ validation") - 1, "each erases the one before"
    assert "step 40 / 40" in screen
    assert "tokens/s 431.5" in screen


@pytest.mark.parametrize(("width", "height"), [(79, 14), (40, 10), (20, 8), (100, 5)])
def test_it_is_no_larger_than_the_terminal(width: int, height: int) -> None:
    lines = played(Terminal()).lines(width, height)
    assert widest(lines) <= width
    assert any("loss" in line for line in lines)


def test_where_there_is_no_terminal_nothing_is_drawn() -> None:
    stream = io.StringIO()
    played(stream).draw()
    assert stream.getvalue() == ""

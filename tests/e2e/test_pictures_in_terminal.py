"""A picture in a real pseudo-terminal, with a model that sees: as blocks, and as sixels once it says so."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="pseudo-terminals need pexpect, which Windows does not have")

import fcntl
import termios

from picture_files import write
from terminal import Start, terminals
from tiny_model import write_tiny_visualglm

pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with terminals(tmp_path) as begin:
        yield begin


def test_a_picture_from_question_to_pixels(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "cat.png")
    write_tiny_visualglm(tmp_path / "seeing")
    terminal = start("--model", "seeing", "--device", "cpu")
    terminal.wait("seeing · CPU")
    terminal.type(f"\x1b[200~'{tmp_path / 'cat.png'}' \x1b[201~")
    terminal.wait("⟦cat.png⟧")
    terminal.type("load model\r")
    terminal.wait("[image] cat.png · 64 × 48")
    terminal.wait("▀" * 27)
    assert b"\x1b[c" in terminal.raw
    size = struct.pack("HHHH", 36, 120, 1200, 720)
    fcntl.ioctl(terminal.child.child_fd, termios.TIOCSWINSZ, size)
    terminal.type("\x1b[?62;4;22c")
    terminal.wait(lambda _text: terminal.raw.count(b'\x1bP0;1q"1;1;70;20') >= 3)
    terminal.type("\x11")
    assert terminal.exit_code() == 0

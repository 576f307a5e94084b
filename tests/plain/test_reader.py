"""Lines that a person types, in a pseudo-terminal with a shell in it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="pseudo-terminals need pexpect, which Windows does not have")
pytest.importorskip("readline", reason="this Python has no readline")

from terminal import Terminal

READ = """
from glmtui.plain.reader import TerminalReader
from glmtui.streams import Safe
reader = TerminalReader()
reader.prepare([], lambda text: [])
print("read", [reader.read(Safe("You: "))])
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    if (bash := shutil.which("bash")) is None:
        pytest.skip("needs a shell that stops programs and lets them go on: bash")
    (tmp_path / "read.py").write_text(READ, "utf-8")
    env = {"PS1": "$ ", "PYTHONPATH": os.pathsep.join(sys.path), "LC_ALL": "C.UTF-8"}
    terminal = Terminal([bash, "--norc", "--noediting", "-i"], env=env, cwd=str(tmp_path), columns=300)
    yield terminal
    terminal.close()


def test_a_line_is_typed_on_after_the_program_was_stopped(shell: Terminal) -> None:
    shell.type(f"{shlex.quote(sys.executable)} read.py\r")
    shell.wait("You:")
    shell.type("half a 你")
    shell.wait("You: half a 你")
    shell.type("\x1a")
    shell.wait("Stopped")
    shell.type("stty -a | grep -o 'eof = [^;]*'\r")
    shell.wait("eof = ^D")
    shell.type("fg\r")
    shell.wait(lambda text: text.count("You: half a 你") == 2)
    shell.type("好\x01A \r")  # Ctrl+A is readline's
    shell.wait("read ['A half a 你好']")

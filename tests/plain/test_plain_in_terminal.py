"""The line mode in a pseudo-terminal, with the built-in model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="pseudo-terminals need pexpect, which Windows does not have")

from terminal import Start, terminals

pytestmark = pytest.mark.slow

BRACKETED_PASTE = re.compile(rb"\x1b\[\?2004[hl]")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with terminals(tmp_path) as begin:
        yield begin


def test_a_dumb_terminal_gets_lines_and_nothing_else(start: Start, tmp_path: Path) -> None:
    terminal = start(term="dumb", language="zh_CN.UTF-8")
    terminal.wait("你：")
    assert "已就绪" in terminal.text
    terminal.type("你好\r")
    terminal.wait(lambda text: text.count("你：") == 2)
    terminal.type("/nonsense\r")
    terminal.wait(lambda text: "/nonsense。" in text and text.rstrip().endswith("你："))
    terminal.type("\x04")
    assert terminal.exit_code() == 0
    assert b"\x1b" not in terminal.raw
    (file,) = (tmp_path / "home" / "data" / "conversations").glob("*.jsonl")
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert records[1]["text"] == "你好"
    assert records[-1]["state"] == "done"


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(start: Start) -> None:
    terminal = start("--plain")
    terminal.wait("You:")
    terminal.type("How do I load ChatGLM-6B?\r")
    terminal.wait(lambda text: "nano: " in text)
    terminal.type("\x03")
    terminal.wait(lambda text: text.count("You:") == 2)
    terminal.type("\x03")
    terminal.wait("Ctrl+D quits.")
    terminal.type("/he\t")
    terminal.wait("/help")
    terminal.type("\x15/quit\r")
    assert terminal.exit_code() == 0
    rest = BRACKETED_PASTE.sub(b"", terminal.raw)
    assert not re.search(rb"\x1b\[[\d;]*m", rest), "there is colour"
    assert not re.search(rb"\x1b\[[\d;]*[HABfJ]", rest), "the cursor was moved off its line"
    assert b"Traceback" not in rest


def test_a_second_ctrl_c_ends_the_program_and_what_came_is_kept(start: Start, tmp_path: Path) -> None:
    terminal = start("--plain")
    terminal.wait("You:")
    terminal.type("How do I load ChatGLM-6B?\r")
    terminal.wait(lambda text: "nano: " in text)
    terminal.type("\x03\x03\x03")
    terminal.wait(lambda text: not terminal.child.isalive() or text.count("You:") == 2)
    if terminal.child.isalive():  # the answer had ended at the first one
        terminal.type("\x04")
    assert terminal.exit_code() in (0, 130)
    assert b"Traceback" not in terminal.raw
    (file,) = (tmp_path / "home" / "data" / "conversations").glob("*.jsonl")
    assert '"How do I load ChatGLM-6B?"' in file.read_text("utf-8")


@pytest.mark.parametrize(
    ("ahead", "answers"), [("\x04", 0), ("hello\r\x04", 1), ("hel\x04lo\r", 1), ("hello\rmore\r\x04", 2)]
)
@pytest.mark.parametrize("after", ["", "Loading"])
def test_what_is_typed_before_the_prompt_counts_the_end_included(
    start: Start, ahead: str, answers: int, after: str
) -> None:
    terminal = start("--plain")
    terminal.wait(after)
    terminal.type(ahead)
    if not ahead.endswith("\x04"):
        terminal.wait(lambda text: "You: hello" in text and text.rstrip().endswith("You:"))
        terminal.type("\x04")
    assert terminal.exit_code(within=60) == 0
    assert terminal.text.count("nano: ") == answers
    assert answers == 0 or "You: hello" in terminal.text
    assert b"Traceback" not in terminal.raw


def test_ctrl_d_while_an_answer_comes_ends_the_chat_after_it(start: Start) -> None:
    terminal = start("--plain")
    terminal.wait("You:")
    terminal.type("How do I load ChatGLM-6B?\r")
    terminal.wait("nano: ")
    terminal.type("\x04")
    assert terminal.exit_code() == 0


def test_the_terminal_is_left_as_it_was(start: Start) -> None:
    run = "before = termios.tcgetattr(0); subprocess.call([sys.executable, '-m', 'glmtui', '--plain'])"
    terminal = start(
        program=(
            "-c",
            f"import subprocess, sys, termios; {run}; print('same', termios.tcgetattr(0) == before)",
        )
    )
    terminal.wait("You:")
    terminal.type("\x04")
    terminal.wait("same True")


def test_ctrl_d_leaves_what_is_typed_and_a_long_line_is_one_message(start: Start, tmp_path: Path) -> None:
    terminal = start("--plain", "--color", "auto")
    terminal.wait("You:")
    terminal.type("hello\x04 there\r")
    terminal.wait(lambda text: text.count("You:") == 2)
    assert "hello there" in terminal.text
    assert b"\x1b[1;32mnano:" in terminal.raw
    long = "长话" * 10_000
    for at in range(0, len(long), 500):  # less than a terminal holds while nobody reads
        terminal.type(long[at : at + 500])
        terminal.wait(lambda _text, typed=at + 500: terminal.raw.count("话".encode()) >= typed // 2)
    terminal.type("\r")
    (file,) = (tmp_path / "home" / "data" / "conversations").glob("*.jsonl")
    terminal.wait(lambda _text: long in file.read_text("utf-8"))
    terminal.type("\x03")
    terminal.wait(lambda text: text.rstrip().endswith("You:"))
    terminal.type("\x04")
    assert terminal.exit_code() in (0, 130)
    assert b"Traceback" not in terminal.raw


def test_bytes_of_another_character_set_cost_no_more_than_themselves(tmp_path: Path) -> None:
    environment = {**os.environ, "GLMTUI_HOME": str(tmp_path / "home"), "LC_ALL": "C.UTF-8"}
    script = b"/new\nhe\xff\xfello\n"
    for encoding in ("utf-8", "ascii", "gb18030"):
        done = subprocess.run(
            [sys.executable, "-m", "glmtui", "--plain"],
            input=script, env={**environment, "PYTHONIOENCODING": encoding}, capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert b"nano: " in done.stdout

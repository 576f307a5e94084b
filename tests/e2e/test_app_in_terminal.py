"""The main ways through the program, in a real pseudo-terminal with the built-in model."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="pseudo-terminals need pexpect, which Windows does not have")

from terminal import Terminal

Start = Callable[..., Terminal]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start glmtui with an empty home in a pseudo-terminal; whatever still runs is ended afterwards."""
    running: list[Terminal] = []

    def begin(*arguments: str, language: str = "zh_CN.UTF-8", **size: int) -> Terminal:
        terminal = Terminal(
            [sys.executable, "-m", "glmtui", *arguments],
            env={"GLMTUI_HOME": str(tmp_path / "home"), "LANG": language, "LC_ALL": language},
            cwd=str(tmp_path),
            **size,
        )
        running.append(terminal)
        return terminal

    yield begin
    for terminal in running:
        terminal.close()


def conversations(home: Path) -> list[Path]:
    return sorted((home / "data" / "conversations").glob("*.jsonl"))


def messages(path: Path) -> list[dict[str, object]]:
    """The messages of a conversation file: what a person reading it line by line would gather."""
    found: dict[object, dict[str, object]] = {}
    for line in path.read_text("utf-8").split("\n"):
        record = json.loads(line) if line else {}
        if record.get("type") == "message":
            found[record["id"]] = record
        elif record.get("type") == "finish":
            found[record["id"]].update(text=record["text"], state=record["state"])
    return list(found.values())


def test_chinese_chat_from_start_to_file(start: Start, tmp_path: Path) -> None:
    terminal = start()
    terminal.wait("nano", within=60)
    terminal.type("你好")
    terminal.wait("你好")
    terminal.type("\r")
    home = tmp_path / "home"
    end = time.monotonic() + 60
    while (
        not (files := conversations(home))
        or len(messages(files[0])) < 2
        or messages(files[0])[1]["state"] != "done"
    ):
        assert time.monotonic() < end, terminal.text
        terminal.pump()
    user, answer = messages(files[0])
    assert (user["role"], user["text"]) == ("user", "你好")
    assert answer["role"] == "assistant"
    assert "glmtui" in str(answer["text"]) or "你好" in str(
        answer["text"]
    )  # it samples: any sensible greeting
    footer = re.compile(r"nano · \d+ token")  # under the answer; the title in the history quotes the rest
    terminal.wait(lambda text: str(answer["text"])[:4] in text and bool(footer.search(text)))

    terminal.type("/clear\r")
    terminal.wait(lambda text: not footer.search(text))
    terminal.type("/quit\r")
    assert terminal.exit_code() == 0
    assert len(conversations(home)) == 1
    assert messages(files[0]) == [user, answer]


def test_last_conversation_is_there_after_a_restart(start: Start, tmp_path: Path) -> None:
    terminal = start(language="C.UTF-8")
    terminal.wait("nano")
    terminal.type("What is glmtui?\r")
    home = tmp_path / "home"
    end = time.monotonic() + 60
    while not (files := conversations(home)) or len(messages(files[0])) < 2:
        assert time.monotonic() < end, terminal.text
        terminal.pump()
    terminal.type("\x11")
    assert terminal.exit_code() == 0

    again = start("--conversation", str(conversations(home)[0]), language="C.UTF-8")
    again.wait("What is glmtui?")


@pytest.mark.parametrize("moment", ["at once", "while loading", "while answering"])
def test_quitting_leaves_the_terminal_sane(start: Start, moment: str) -> None:
    terminal = start(language="C.UTF-8")
    terminal.wait(lambda text: bool(text.strip()))
    if moment == "while loading":
        terminal.wait("nano")
    elif moment == "while answering":
        terminal.type("How do I load ChatGLM-6B?\r")
        terminal.wait("load")
    asked = time.monotonic()
    terminal.type("\x11")
    assert terminal.exit_code() == 0
    print(f"quit {moment}: {time.monotonic() - asked:.2f} s")
    assert b"\x1b[?1049l" in terminal.raw, "the alternate screen was not left"
    assert terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l"), "the cursor stays hidden"
    assert b"Traceback" not in terminal.raw


def test_a_killed_app_keeps_what_was_said(start: Start, tmp_path: Path) -> None:
    terminal = start(language="C.UTF-8")
    terminal.wait("nano")
    terminal.type("Where are my conversations kept?\r")
    home = tmp_path / "home"
    end = time.monotonic() + 60
    while not conversations(home):
        assert time.monotonic() < end, terminal.text
        terminal.pump()
    os.kill(terminal.child.pid, signal.SIGKILL)
    assert messages(conversations(home)[0])[0]["text"] == "Where are my conversations kept?"


def test_chat_in_a_small_terminal(start: Start) -> None:
    terminal = start(language="C.UTF-8", columns=80, rows=24)
    terminal.wait("nano")
    terminal.type("Hello\r")
    terminal.wait(lambda text: "Hello" in text and text.lower().count("glm") >= 1)
    terminal.type("/help\r")
    terminal.wait("/regenerate")
    terminal.type("\x1b")
    terminal.wait(lambda text: "/regenerate" not in text)
    terminal.type("/quit\r")
    assert terminal.exit_code() == 0

"""The main ways through the program, in a real pseudo-terminal with the built-in model."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="pseudo-terminals need pexpect, which Windows does not have")

from terminal import Start, terminals

FOOTER = re.compile(r"nano · \d+ (个 )?token")
"""Stands under an answer; the title in the history quotes all else."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with terminals(tmp_path) as begin:
        yield begin


def conversations(home: Path) -> list[Path]:
    return sorted((home / "data" / "conversations").glob("*.jsonl"))


def said(home: Path) -> list[dict[str, object]]:
    """The messages of the only conversation: what a person reading its file line by line would gather."""
    found: dict[object, dict[str, object]] = {}
    for path in conversations(home)[:1]:
        for line in path.read_text("utf-8").split("\n"):
            record = json.loads(line) if line else {}
            if record.get("type") == "message":
                found[record["id"]] = record
            elif record.get("type") == "finish":
                found[record["id"]].update(text=record["text"], state=record["state"])
    return list(found.values())


def test_chinese_chat_from_start_to_file(start: Start, tmp_path: Path) -> None:
    terminal = start(language="zh_CN.UTF-8")
    terminal.wait("nano")
    terminal.type("你好")
    terminal.wait("你好")
    terminal.type("\r")
    home = tmp_path / "home"
    terminal.wait(lambda _text: any(message["state"] == "done" for message in said(home)[1:]))
    user, answer = said(home)
    assert (user["role"], user["text"]) == ("user", "你好")
    assert answer["role"] == "assistant"
    assert "glmtui" in str(answer["text"]) or "你好" in str(
        answer["text"]
    )  # it samples: any sensible greeting
    terminal.wait(lambda text: str(answer["text"])[:4] in text and bool(FOOTER.search(text)))

    terminal.type("/clear\r")
    terminal.wait(lambda text: not FOOTER.search(text))
    terminal.type("/quit\r")
    assert terminal.exit_code() == 0
    assert len(conversations(home)) == 1
    assert said(home) == [user, answer]


@pytest.mark.slow
def test_last_conversation_is_there_after_a_restart(start: Start, tmp_path: Path) -> None:
    terminal = start()
    terminal.wait("nano")
    terminal.type("What is glmtui?\r")
    home = tmp_path / "home"
    terminal.wait(lambda _text: any(message["state"] == "done" for message in said(home)[1:]))
    terminal.type("\x11")
    assert terminal.exit_code() == 0

    again = start()
    again.wait(lambda text: bool(FOOTER.search(text)))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["at once", "while loading", "while answering"])
def test_quitting_leaves_the_terminal_sane(start: Start, moment: str) -> None:
    terminal = start()
    terminal.wait(lambda text: bool(text.strip()))
    if moment == "while loading":
        terminal.wait("nano")
    elif moment == "while answering":
        terminal.wait("● nano")
        terminal.type("How do I load ChatGLM-6B?\r")
        terminal.wait("▌ How do I load")
    asked = time.monotonic()
    terminal.type("\x11")
    assert terminal.exit_code() == 0
    print(f"quit {moment}: {time.monotonic() - asked:.2f} s")
    assert b"\x1b[?1049l" in terminal.raw, "the alternate screen was not left"
    assert terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l"), "the cursor stays hidden"
    assert b"Traceback" not in terminal.raw


def test_a_killed_app_keeps_what_was_said(start: Start, tmp_path: Path) -> None:
    terminal = start()
    terminal.wait("nano")
    terminal.type("Where are my conversations kept?\r")
    home = tmp_path / "home"
    terminal.wait(lambda _text: bool(said(home)))
    os.kill(terminal.child.pid, signal.SIGKILL)
    assert said(home)[0]["text"] == "Where are my conversations kept?"


ENDLESS = """
import sys, threading, time
from pathlib import Path
from scripted_engine import ScriptedEngine
from glmtui.protocol.events import Started, Tokens
from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui

class Endless(ScriptedEngine):
    def answer(self, request, stream):
        threading.Thread(target=self.stream, args=(stream,), daemon=True).start()

    def stream(self, stream):
        stream.put(Started(10, 2048, 0))
        for number in range(10_000):
            stream.put(Tokens(f"第{number}句。", 1))
            time.sleep(0.03)

path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
GlmTui(AppOptions(conversation=path), engine=Endless()).run()
"""
"""The app with a model that never comes to an end."""


@pytest.mark.slow
def test_an_app_killed_in_an_answer_shows_what_had_come_and_offers_to_go_on(
    start: Start, tmp_path: Path
) -> None:
    def written() -> str:
        return "".join(path.read_text("utf-8") for path in conversations(tmp_path / "home"))

    terminal = start(program=["-c", ENDLESS])
    terminal.wait("nano")
    terminal.type("数到一万\r")
    terminal.wait("第0句")
    terminal.wait(lambda _text: '"extend"' in written())
    os.kill(terminal.child.pid, signal.SIGKILL)
    terminal.close()

    again = start(str(*conversations(tmp_path / "home")), program=["-c", ENDLESS])
    again.wait(lambda text: "数到一万" in text and "第0句" in text and "not finished · /continue" in text)
    again.wait("context")  # the model is loaded
    again.type("/continue\r")
    again.wait(lambda _text: written().count("第0句") == 2)  # behind what had come


def test_chat_in_a_small_terminal(start: Start) -> None:
    terminal = start(columns=80, rows=24)
    terminal.wait("nano")
    terminal.type("Hello\r")
    terminal.wait(lambda text: "Hello" in text and text.lower().count("glm") >= 1)
    terminal.type("/help\r")
    terminal.wait("/clear")
    terminal.type("\x1b")
    terminal.wait(lambda text: "/clear" not in text)
    terminal.type("/quit\r")
    assert terminal.exit_code() == 0

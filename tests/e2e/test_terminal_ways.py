"""What passes between the app and the terminal besides text: clipboard, mouse, hanging up."""

from __future__ import annotations

import base64
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="pseudo-terminals need pexpect, which Windows does not have")

import fcntl
import pty
import termios

import pyte
from terminal import Terminal, no_faults

pytestmark = pytest.mark.slow

Start = Callable[..., Terminal]
MOUSE = (b"?1000h", b"?1002h", b"?1003h", b"?1006h")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Terminal] = []

    def begin(config: str = "", **env: str) -> Terminal:
        folder = tmp_path / "home" / "config"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(config, "utf-8")
        home = {
            "GLMTUI_HOME": str(tmp_path / "home"),
            "LC_ALL": "C.UTF-8",
            "DISPLAY": "",
            "WAYLAND_DISPLAY": "",
        }
        terminal = Terminal([sys.executable, "-m", "glmtui"], env={**home, **env}, cwd=str(tmp_path))
        running.append(terminal)
        terminal.wait("● nano", within=150)
        return terminal

    yield begin
    for terminal in running:
        terminal.close()
    no_faults(tmp_path / "home")


def answered(terminal: Terminal, question: str = "Who are you?") -> None:
    terminal.type(question)
    terminal.wait(question)
    terminal.type("\r")
    terminal.wait(lambda text: re.search(rf"▌ {re.escape(question)}.*tok/s", text, re.DOTALL) is not None)


def tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    (folder / name).chmod(0o755)


def test_it_fills_the_terminal_whatever_its_size_is(tmp_path: Path) -> None:
    """The status line is the last row, from one end to the other."""
    env = {"GLMTUI_HOME": str(tmp_path / "home"), "LC_ALL": "C.UTF-8"}
    terminal = Terminal([sys.executable, "-m", "glmtui"], env=env, cwd=str(tmp_path), columns=101, rows=29)
    try:
        terminal.wait(lambda _text: "● nano" in terminal.screen.display[28], within=150)
        assert terminal.screen.display[28].rstrip()[90:], "it ends at the right"
    finally:
        terminal.close()
    no_faults(tmp_path / "home")


@pytest.mark.parametrize("works", [True, False, None])
def test_copying_goes_to_the_terminal_and_to_the_tool_and_says_what_is_known(
    works: bool | None, start: Start, tmp_path: Path
) -> None:
    """The tool works, fails without a word (no such display), or is none."""
    stored = tmp_path / "stored"
    keeps = f'case "$*" in *-o*) cat "{stored}" ;; *) cat > "{stored}" ;; esac'
    if works is not None:
        tool(tmp_path / "bin", "xclip", keeps if works else "exit 1")
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    terminal = start(DISPLAY="" if works is None else ":77", PATH=path)
    answered(terminal)
    terminal.raw.clear()
    terminal.type("/copy")
    terminal.wait("/copy")
    terminal.type("\r")
    terminal.wait("Copied" if works else "Sent to the terminal's clipboard.")
    begin = bytes(terminal.raw).index(b"\x1b]52;c;") + len(b"\x1b]52;c;")
    sent = base64.b64decode(bytes(terminal.raw)[begin:].split(b"\x07")[0].split(b"\x1b")[0])
    assert "glmtui" in sent.decode()
    if works:
        assert stored.read_text("utf-8") == sent.decode()


def test_a_clipboard_tool_that_hangs_keeps_nobody_waiting(start: Start, tmp_path: Path) -> None:
    tool(tmp_path / "bin", "xclip", "sleep 20 < /dev/null")
    terminal = start(DISPLAY=":77", PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    answered(terminal)
    terminal.type("/copy")
    terminal.wait("/copy")
    terminal.type("\r")
    terminal.wait("Sent to the terminal's clipboard.")
    terminal.type("\x11")
    assert terminal.exit_code(within=10) == 0


NOISE = """
import os, threading, time

def write_when_told():
    while not os.path.exists("go"):
        time.sleep(0.01)
    os.write(1, b"NOISE")
    os.write(2, b"NOISE")
    open("done", "w").close()

threading.Thread(target=write_when_told, daemon=True).start()
"""


def test_what_a_library_writes_behind_pythons_back_is_not_in_the_screen(start: Start, tmp_path: Path) -> None:
    """As Rust does of a panic; an editor that is opened writes where it always does."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NOISE, "utf-8")
    tool(tmp_path / "bin", "edit", 'echo SEEN >&2; echo written > "$1"')
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    terminal = start(PYTHONPATH=path, VISUAL=str(tmp_path / "bin" / "edit"))
    (tmp_path / "go").touch()
    terminal.wait(lambda _text: (tmp_path / "done").exists())
    terminal.type("\x07")
    terminal.wait("written")
    assert b"NOISE" not in terminal.raw
    assert b"SEEN" in terminal.raw
    terminal.type("\x11")
    assert terminal.exit_code() == 0


def test_the_mouse_is_left_to_the_terminal_where_the_settings_say_so(start: Start) -> None:
    assert all(mode in start().raw for mode in MOUSE[:1])
    assert not any(mode in start("[ui]\nmouse = false\n").raw for mode in MOUSE)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_program_that_is_told_to_end_keeps_what_was_said_and_tidies_up(number: int, start: Start) -> None:
    terminal = start()
    terminal.type("What are you?\r")
    terminal.wait(lambda text: "▌ You" in text and ("answering" in text or "tok/s" in text))
    os.kill(terminal.child.pid, number)
    assert terminal.exit_code() == 128 + number
    assert b"\x1b[?1049l" in terminal.raw, "the terminal's own screen is back"
    again = start()
    again.wait("▌ What are you?")


@pytest.mark.parametrize("signalled", [True, False], ids=["its terminal", "somebody else's"])
def test_a_program_whose_terminal_is_gone_ends_and_keeps_what_was_said(
    signalled: bool, start: Start, tmp_path: Path
) -> None:
    """Only to the one whose terminal it is the system sends SIGHUP; to any other nothing more than errors."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
    take = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " if signalled else ""
    child = subprocess.Popen(
        [sys.executable, "-c", f"{take}from glmtui.__main__ import main; main()"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={
            **os.environ,
            "TERM": "xterm-256color",
            "GLMTUI_HOME": str(tmp_path / "home"),
            "LC_ALL": "C.UTF-8",
        },
        start_new_session=True,
        cwd=tmp_path,
    )
    os.close(theirs)
    screen = pyte.Screen(120, 36)
    stream = pyte.ByteStream(screen)

    def wait(*texts: str) -> None:
        while not any(text in line for line in screen.display for text in texts):
            stream.feed(os.read(ours, 1 << 16))

    wait("● nano")
    os.write(ours, b"How much memory does INT4 need?\r")
    wait("answering", "tok/s")
    os.close(ours)
    assert child.wait(timeout=60) == 128 + signal.SIGHUP
    start().wait("▌ How much memory")


def test_a_program_that_was_killed_opens_the_same_conversation_again(start: Start, tmp_path: Path) -> None:
    terminal = start()
    answered(terminal, "What are you?")
    last = tmp_path / "home" / "state" / "last-conversation"
    terminal.wait(lambda _text: last.exists() and last.read_text("utf-8") != "")
    os.kill(terminal.child.pid, signal.SIGKILL)
    terminal.exit_code()
    start().wait("▌ What are you?")


def test_vi_keys_move_through_the_transcript(start: Start) -> None:
    terminal = start()
    for question in ("你好", "Who are you?", "How much memory does INT4 need?"):
        answered(terminal, question)
    terminal.type("\x1b[17~")  # F6: the transcript
    terminal.wait("j next")
    terminal.type("gjjjkq")  # the first message, three down, one up, quote it
    terminal.wait(lambda text: "> " in text.split("╭")[-1])
    quoted = terminal.text.split("╭")[-1]
    assert "> Who are you?" in quoted


def test_alt_with_a_key_types_nothing_and_sends_nothing(start: Start) -> None:
    terminal = start()
    answered(terminal)
    terminal.type("first")
    terminal.wait("│ first")
    terminal.type("\x1b\r")  # Alt+Enter
    terminal.type("second")
    terminal.wait(lambda text: "│ first" in text and "│ second" in text)
    terminal.type("\x1bp")  # Alt+P
    terminal.wait(lambda text: "│ Who are you?" in text and "│ first" not in text)
    terminal.type("\x1bn")  # Alt+N
    terminal.wait(lambda text: bool(re.search("│ second +│", text)) and "│ first" in text)

"""How a process ends by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glmtui.signals import end_signals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends signals")


def test_what_is_ignored_goes_on_being_ignored() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as ``nohup`` does
    try:
        with end_signals(came.append, ("SIGHUP", "SIGTERM")):
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert came == [signal.SIGTERM]


def test_ctrl_c_ends_a_command_whose_output_nobody_takes(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with subprocess.Popen(
        [sys.executable, "-m", "glmtui", "models"],
        env={**os.environ, "GLMTUI_HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=writer,
        # A shell that starts the tests in the background lets them, and so this program, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as program:
        os.close(writer)
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(1.5)  # it has begun, and stands in the middle of a line
        program.send_signal(signal.SIGINT)
        try:
            assert program.wait(5) == -signal.SIGINT
        finally:
            program.kill()
            os.close(reader)

"""The command line where its streams are missing, full or not read, and where it is interrupted early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="as a shell of Unix starts it"),
]
FAILS = ("models", "remove", "no-such-model")


def shell(line: str, *arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run glmtui with `arguments` as ``"$@"`` in `line`."""
    return subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-m", "glmtui", *arguments],
        env={**os.environ, "GLMTUI_HOME": str(home), "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str, tmp_path: Path) -> None:
    done = shell(f'"$@" {closed}', *FAILS, home=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == (0 if "2>" in closed else 1), done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("models",), ("completion", "bash")], ids=" ".join)
def test_a_reader_that_is_gone_is_no_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    line = '{ "$@"; echo $? >&3; } 3>&2 | true'
    assert shell(line, *arguments, home=tmp_path).stderr == "0\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file without room: /dev/full")
def test_notices_without_room_fail_nothing(tmp_path: Path) -> None:
    done = shell('"$@" 2>/dev/full', *FAILS, home=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "ascii"])
def test_consoles_that_lack_characters(encoding: str, tmp_path: Path) -> None:
    done = shell('"$@"', "--language", "zh_CN", "--help", home=tmp_path, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--model" in done.stdout


def test_a_working_directory_that_is_gone(tmp_path: Path) -> None:
    line = f'cd "{tmp_path}"; mkdir gone; cd gone; rmdir ../gone; "$@"'
    done = shell(line, "ask", "hi", "--no-stdin", "--no-save", "--max-tokens", "2", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert done.stdout


INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:  # as libraries do
                pass
sys.meta_path.insert(0, Interrupt)
sys.argv[1:] = ["ask", "hi", "--no-stdin"]
from glmtui.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module", ["glmtui.errors", "glmtui.settings.schema", "glmtui.cli.main", "glmtui.plain.ask"]
)
def test_ctrl_c_while_modules_are_imported_is_silent(module: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(module=module)],
        env={**os.environ, "GLMTUI_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")

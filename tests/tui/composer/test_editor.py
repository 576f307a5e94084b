"""The external editor: what is written comes back, and nothing is lost when it fails."""

from __future__ import annotations

import stat
import sys
import tempfile
from pathlib import Path

import pytest

from glmtui.errors import UserError
from glmtui.tui.composer import editor


def script(folder: Path, body: str) -> list[str]:
    """An editor that runs `body` with `path` set."""
    file = folder / "editor.py"
    text = f"import sys, os, pathlib\npath = pathlib.Path(sys.argv[1])\n{body}\n"
    file.write_text(text, encoding="utf-8")
    return [sys.executable, str(file)]


def test_what_is_written_comes_back_from_a_private_file(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    body = (
        f"pathlib.Path({str(seen)!r}).write_text(str(path) + ' ' + oct(path.parent.stat().st_mode))\n"
        "path.write_text(path.read_text('utf-8') + '，多一行\\n', 'utf-8')"
    )
    assert editor.edit("一行", script(tmp_path, body)) == ("一行，多一行", "")
    name, mode = seen.read_text().split()
    assert not Path(name).parent.exists(), "the file does not stay"
    if sys.platform != "win32":
        assert stat.S_IMODE(int(mode, 8)) == 0o700


@pytest.mark.parametrize(
    ("body", "text", "told"),
    [
        ("sys.exit(3)", "draft", "code 3"),
        ("path.unlink()", "draft", ""),
        ("path.write_text('half'); sys.exit(1)", "half", "code 1"),
        ("path.write_bytes(bytes(range(200)))", "draft", "is kept in"),
    ],
)
def test_nothing_is_lost_when_the_editor_fails(tmp_path: Path, body: str, text: str, told: str) -> None:
    written, wrong = editor.edit("draft", script(tmp_path, body))
    assert written == text
    assert told in wrong


def test_an_editor_that_is_not_there_is_named() -> None:
    assert editor.edit("draft", ["/no/such/editor"]) == (
        "draft", "The editor /no/such/editor cannot be started: No such file or directory",
    )  # fmt: skip


def test_visual_comes_before_editor_and_may_have_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "vi")
    assert editor.command() == ["vi"]
    monkeypatch.setenv("VISUAL", "code --wait")
    assert editor.command() == ["code", "--wait"]


def test_what_is_wrong_with_the_environment_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VISUAL", "vim 'half")
    with pytest.raises(UserError, match="VISUAL"):
        editor.command()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="gone"):
        editor.edit("draft", ["true"])

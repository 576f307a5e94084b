"""The paths that people type."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

import glmtui
from glmtui import paths
from glmtui.cli import main as cli
from glmtui.errors import UserError
from glmtui.hub import cache, catalog, inventory
from glmtui.hub.model_dir import ModelFolder

NOBODY = "~nobody-of-this-name/x"


@pytest.mark.parametrize(
    "take",
    [
        paths.typed,
        catalog.resolve,
        ModelFolder.open,
        glmtui.load_tokenizer,
        lambda path: glmtui.load(path),
        inventory.add_folder,
        inventory.forget_folder,
    ],
)
def test_the_home_of_nobody_is_an_error_that_names_it(take: Callable[[str], object]) -> None:
    with pytest.raises(UserError, match=f"{NOBODY}.* no home folder ~nobody-of-this-name"):
        take(NOBODY)


def test_homes_and_what_is_really_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert paths.typed("~/notes.md") == tmp_path / "notes.md"
    Path("~$notes.md").touch()
    assert paths.typed("~$notes.md") == Path("~$notes.md")
    assert paths.typed("a~b") == Path("a~b")


@pytest.mark.parametrize(
    "written",
    [
        "'{folder}/My Chats (1).json'",
        '"{folder}/My Chats (1).json"',
        r"{folder}/My\ Chats\ \(1\).json",
        "file://{folder}/My%20Chats%20(1).json",
        "FILE://localhost{folder}/My%20Chats%20%281%29.json",
        "file:{folder}/My%20Chats%20(1).json",
        "file://{host}{folder}/My%20Chats%20(1).json",
        "  {folder}/My Chats (1).json ",
    ],
)
def test_paths_as_terminals_write_them(written: str, tmp_path: Path) -> None:
    written = written.format(folder=tmp_path, host=platform.node())
    assert paths.typed(written) == tmp_path / "My Chats (1).json"
    (tmp_path / "My Chats (1).json").touch()
    assert paths.typed(written).exists()


def test_a_file_of_another_machine_is_not_here() -> None:
    assert not paths.typed("file://another.example/etc/hostname").exists()


@pytest.mark.parametrize("name", ["it's.json", "'quoted'", 'a"b', "a\\ b", "file:x", "two words", " x"])
def test_what_is_really_called_so_is_meant(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert paths.typed(name) == Path(name)


def test_single_quotes_hold_quotes_and_backslashes_stay_before_letters() -> None:
    assert paths.typed(r"'it'\''s'") == Path("it's")
    assert paths.typed(r'"a \"b\""') == Path('a "b"')
    assert paths.typed(r"models\chatglm") == Path(r"models\chatglm")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home, as in containers."""
    pwd = pytest.importorskip("pwd", reason="Windows has no users without homes")

    def unknown(_who: object) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "GLMTUI_HOME", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


def test_without_a_home_the_error_says_what_to_set(
    nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="GLMTUI_HOME"):
        paths.config_dir()
    assert cli.main(["ask", "hi", "--no-stdin"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["--help"]) == 0
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    assert paths.data_dir() == tmp_path / "data"
    assert cache.folder().is_relative_to(tmp_path)


def test_the_home_for_everything_may_begin_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GLMTUI_HOME", "~/glm")
    assert paths.config_dir() == tmp_path / "glm" / "config"


def test_a_working_folder_that_was_removed_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    paths.leave_missing_folder()
    assert Path.cwd() == gone
    gone.rmdir()
    paths.leave_missing_folder()
    assert Path.cwd().is_dir()


@pytest.mark.parametrize("name", ["", "  ", "''", '""'])
def test_nothing_is_no_name(name: str) -> None:
    """It would be the folder one is in."""
    with pytest.raises(UserError, match="empty"):
        paths.typed(name)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000, "~/" + "x" * 300])
def test_what_no_file_can_be_called_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="No file can be called"):
        paths.typed(name)


@pytest.mark.skipif(os.name == "nt", reason="there are no permission bits")
def test_folders_are_private_all_the_way(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    paths.make_private(tmp_path / "data" / "conversations" / "trash")
    made = ("data", "data/conversations", "data/conversations/trash")
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in made} == {0o700}
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        paths.make_private(tmp_path / "file" / "below")

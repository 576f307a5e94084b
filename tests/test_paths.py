"""The paths that people type."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import glmtui
from glmtui import paths
from glmtui.errors import UserError
from glmtui.hub import catalog, inventory
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


@pytest.mark.skipif(os.name == "nt", reason="a backslash is no quotation mark there")
@pytest.mark.parametrize(
    "written", ["'{}'", '"{}"', "file://{}", "file://localhost{}", "FILE://{}", "{}"], ids=lambda text: text
)
def test_paths_as_terminals_write_them(tmp_path: Path, written: str) -> None:
    name = "My Chats (1).json"
    in_path = name.replace(" ", "%20") if "//" in written else name
    expected = tmp_path / name
    assert paths.typed(written.format(tmp_path / in_path)) == expected
    assert paths.typed(str(expected).replace(" ", "\\ ").replace("(", "\\(")) == expected
    expected.touch()
    assert paths.typed(written.format(tmp_path / in_path)) == expected


def test_what_is_really_called_so_comes_first(tmp_path: Path) -> None:
    for name in ("'quoted'", "back\\slash"):
        (tmp_path / name).touch()
        assert paths.typed(str(tmp_path / name)).name == name


def test_an_apostrophe_as_shells_quote_it() -> None:
    assert paths.typed("'it'\\''s.json'") == Path("it's.json")


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_what_no_file_can_be_called_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name"):
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

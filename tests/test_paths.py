"""The paths that people type."""

from __future__ import annotations

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

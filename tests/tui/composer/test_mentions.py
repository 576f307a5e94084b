"""Files found while they are named behind an ``@``."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmtui.tui.composer import mentions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "src/loader.py",
        "src/deep/会议 记录.md",
        "my notes.txt",
        ".hidden/x.txt",
        "node_modules/y.js",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("内容\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("before", "typed"),
    [
        ("@", ""), ("看看@笔记", "笔记"), ("a @b c", "b c"), ("me@home.org", None), ("@@", None),
        ("@ x", None),
        ("no", None), ("(@src/", "src/"), ("@a\nb", None),
    ],
)  # fmt: skip
def test_what_is_a_mention(before: str, typed: str | None) -> None:
    assert mentions.typed(before) == typed


def found(query: str) -> list[str]:
    return [file.path for file in mentions.FileFinder().find(query)]


def test_files_are_found_by_letters_in_order_spaces_and_chinese(folder: Path) -> None:
    assert found("ldr") == ["src/loader.py"]
    assert found("会议 记") == ["src/deep/会议 记录.md"]
    assert found("my notes") == ["my notes.txt"]
    assert found("my notes in short") == []
    assert set(found("")) == {"my notes.txt", "src/loader.py", "src/deep/会议 记录.md"}, (
        "no hidden or made ones"
    )
    assert found(f"{folder}/s") == [f"{folder}/src/"] or f"{folder}/src/" in found(f"{folder}/s")


def test_the_home_of_nobody_holds_no_files(folder: Path) -> None:
    assert found("~nobody-of-this-name") == []


def test_the_rest_of_a_folder_is_offered_next_to_what_is_no_file(folder: Path) -> None:
    (folder / "loop").symlink_to(folder / "loop")
    assert "./my notes.txt" in [found.path for found in mentions.FileFinder().find("./")]

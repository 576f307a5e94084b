"""Files in messages: found while they are named, taken in, refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from glmtui.errors import UserError
from glmtui.session.attached_file import AttachedFile, in_full, quote_file
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


def test_a_file_is_taken_with_its_name_and_tokens(folder: Path) -> None:
    (folder / "code.md").write_text("```\nx\n```", encoding="gb18030")
    label, file = mentions.take("code.md", 2048)
    assert label == "code.md, about 3 tokens"
    assert file == AttachedFile("code.md", str(folder / "code.md"), "```\nx\n```")
    assert quote_file(file.name, file.text) == "code.md:\n````\n```\nx\n```\n````"
    (folder / "gbk.txt").write_bytes("早期的中文文件".encode("gb18030"))
    assert "早期的中文文件" in mentions.take("gbk.txt", 0)[1].text


def test_what_is_no_text_or_too_big_is_refused_with_the_figure(folder: Path) -> None:
    (folder / "model.bin").write_bytes(bytes(range(256)) * 10)
    (folder / "book.txt").write_text("字" * 10_000, encoding="utf-8")
    (folder / "huge.txt").write_bytes(b"a" * 2_100_000)
    with pytest.raises(UserError, match=r"model\.bin is not a text file"):
        mentions.take("model.bin", 2048)
    with pytest.raises(UserError, match=r"about 6,500 tokens; the model takes 2,048"):
        mentions.take("book.txt", 2048)
    with pytest.raises(UserError, match=r"2\.1 MB"):
        mentions.take("huge.txt", 0)
    with pytest.raises(UserError, match=r"gone\.txt"):
        mentions.take("gone.txt", 0)


def test_the_home_of_nobody_holds_no_files(folder: Path) -> None:
    assert found("~nobody-of-this-name") == []
    with pytest.raises(UserError, match="nobody-of-this-name"):
        mentions.take("~nobody-of-this-name/x.txt", 0)


@pytest.mark.parametrize("name", ["fifo", "endless", "loop"])
def test_what_is_no_text_file_is_refused_and_the_rest_is_offered(folder: Path, name: str) -> None:
    path = folder / name
    if name == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if name == "endless" else path)
    with pytest.raises(UserError, match=name):
        mentions.take(f"./{name}", 0)
    assert "./my notes.txt" in [found.path for found in mentions.FileFinder().find("./")]


def test_two_files_in_one_line_are_blocks_of_their_own() -> None:
    files = [AttachedFile(name, name, "x = 1") for name in ("a.py", "b.py")]
    text = in_full("compare @a.py with @b.py please", files)
    blocks = [token.content for token in MarkdownIt("commonmark").parse(text) if token.type == "fence"]
    assert blocks == ["x = 1\n", "x = 1\n"]

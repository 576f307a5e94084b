"""Text files that go with a message: named, taken in, refused, quoted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from glmtui.errors import UserError
from glmtui.session.attached_file import AttachedFile, files_named_in, in_full, quote_file, take


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("notes.txt", "my notes.txt", "笔记.md"):
        (tmp_path / name).write_text("内容\n", encoding="utf-8")
    return tmp_path


def test_a_file_is_taken_with_its_name_and_tokens(folder: Path) -> None:
    (folder / "code.md").write_text("```\nx\n```\n", encoding="gb18030")
    label, file = take("code.md", 2048)
    assert label.fields == {"name": "code.md", "tokens": "3"}
    assert file == AttachedFile("code.md", str(folder / "code.md"), "```\nx\n```\n")
    assert quote_file(file.name, file.text) == "code.md:\n````\n```\nx\n```\n````"
    (folder / "gbk.txt").write_bytes("早期的中文文件".encode("gb18030"))
    assert "早期的中文文件" in take("gbk.txt", 0)[1].text


def test_what_is_no_text_or_too_big_is_refused_with_the_figure(folder: Path) -> None:
    (folder / "model.bin").write_bytes(bytes(range(256)) * 10)
    (folder / "book.txt").write_text("字" * 10_000, encoding="utf-8")
    (folder / "huge.txt").write_bytes(b"a" * 2_100_000)
    with pytest.raises(UserError, match=r"model\.bin is not a text file"):
        take("model.bin", 2048)
    with pytest.raises(UserError, match=r"about 6,500 tokens; the model takes 2,048"):
        take("book.txt", 2048)
    with pytest.raises(UserError, match=r"2\.1 MB"):
        take("huge.txt", 0)
    with pytest.raises(UserError, match=r"gone\.txt"):
        take("gone.txt", 0)


def test_the_home_of_nobody_has_no_files(folder: Path) -> None:
    with pytest.raises(UserError, match="nobody-of-this-name"):
        take("~nobody-of-this-name/x.txt", 0)


@pytest.mark.parametrize("name", ["fifo", "endless", "loop"])
def test_what_is_no_regular_file_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    if name == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if name == "endless" else path)
    with pytest.raises(UserError, match=name):
        take(f"./{name}", 0)


def test_two_files_in_one_line_are_blocks_of_their_own() -> None:
    files = [AttachedFile(name, name, "x = 1") for name in ("a.py", "b.py")]
    text = in_full("compare @a.py with @b.py please", files)
    blocks = [token.content for token in MarkdownIt("commonmark").parse(text) if token.type == "fence"]
    assert blocks == ["x = 1\n", "x = 1\n"]


@pytest.mark.parametrize(
    ("line", "written", "names"),
    [
        ("@notes.txt what?", "@notes.txt what?", ["notes.txt"]),
        ("见@笔记.md里的内容", "见@笔记.md里的内容", ["笔记.md"]),
        ("(see @./notes.txt, @notes.txt.)", "(see @./notes.txt, @notes.txt.)", ["./notes.txt", "notes.txt"]),
        (
            """@"my notes.txt" and @'notes.txt'""",
            "@my notes.txt and @notes.txt",
            ["my notes.txt", "notes.txt"],
        ),
        ("@notes.txt @notes.txt", "@notes.txt @notes.txt", ["notes.txt"]),
        ("me@notes.txt @notes.txts @gone.txt @. @", "me@notes.txt @notes.txts @gone.txt @. @", []),
        pytest.param("@" + "x" * 5000, "@" + "x" * 5000, [], id="long"),
        ("@a\0b", "@a\0b", []),
    ],
)
def test_files_are_named_in_a_line(folder: Path, line: str, written: str, names: list[str]) -> None:
    assert files_named_in(line) == (written, names)

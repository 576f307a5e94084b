"""What the commands write."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from glmtui.errors import UserError
from glmtui.session.slash.handlers import write_new_file


class Full(io.TextIOWrapper):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "笔记.md"
    await write_new_file(path, "你好\n")
    with pytest.raises(UserError, match="is there already"):
        await write_new_file(path, "else")
    assert path.read_text("utf-8") == "你好\n"


async def test_nothing_is_left_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda path, *_args, **_options: Full(io.FileIO(path, "x")))
    with pytest.raises(UserError, match="No space left"):
        await write_new_file(tmp_path / "a.md", "text")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    await write_new_file(tmp_path / "a.md", "text")

import errno
import os
from pathlib import Path

import pytest

from glmtui import atomic
from glmtui.atomic import make_directory, write_atomically
from glmtui.locking import try_lock


def test_writes_a_new_file_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "文件.toml"
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert os.listdir(path.parent) == [path.name]


def test_new_folders_are_private_and_synced_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic, "sync_directory", synced.append)
    for _time in range(2):
        make_directory(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    if os.name != "nt":
        assert [folder.stat().st_mode & 0o777 for folder in tmp_path.rglob("*")] == [0o700] * 3
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.name == "nt", reason="there are no permission bits")
def test_permissions_are_kept_and_private_for_a_new_file(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"")
    old.chmod(0o640)
    for path in (old, new):
        write_atomically(path, b"x")
    assert old.stat().st_mode & 0o777 == 0o640
    assert new.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    real, link = tmp_path / "dotfiles" / "config.toml", tmp_path / "config.toml"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_what_killed_programs_left_goes_when_it_is_old_and_nobody_has_it(tmp_path: Path) -> None:
    for name in (".a.jsonl.x1.tmp", ".b.jsonl.x2.tmp", ".c.jsonl.x3.tmp", "d.tmp", ".e"):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / ".b.jsonl.x2.tmp")
    with open(tmp_path / ".c.jsonl.x3.tmp", "rb") as file:
        assert try_lock(file.fileno()) is not False
        assert atomic.remove_abandoned(tmp_path) == 1
    left = {".b.jsonl.x2.tmp", ".c.jsonl.x3.tmp", "d.tmp", ".e"}
    assert set(os.listdir(tmp_path)) == left
    assert atomic.remove_abandoned(tmp_path / "nowhere") == 0


def test_a_file_that_is_being_written_is_not_taken_for_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []
    monkeypatch.setattr(
        atomic.os, "fsync", lambda _file: removed.append(atomic.remove_abandoned(tmp_path, older_than=-9))
    )
    write_atomically(tmp_path / "file", b"new")
    assert removed[0] == 0
    assert (tmp_path / "file").read_bytes() == b"new"

"""Blobs: stored once, found again, and removed only when nothing needs them."""

import hashlib
import json
import os
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from glmtui.chat.attachments import KEPT, Attachments
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.errors import BadFileError, BadValueError, NotFoundError, StorageError, UserError
from glmtui.protocol.messages import Text

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "conversations", cache=tmp_path / "cache")


def blobs(folder: Path) -> set[str]:
    return {path.name for path in (folder / "attachments").glob("[!.]*")}


def age(library: Library) -> None:
    for path in (library.folder / "attachments").iterdir():
        os.utime(path, (time.time() - 2 * KEPT,) * 2)


@pytest.mark.parametrize("in_memory", [True, False])
def test_what_is_put_is_got(tmp_path: Path, in_memory: bool) -> None:
    attachments = Attachments(None if in_memory else tmp_path / "attachments")
    for data in (b"", b"\0" * 1000, "你好".encode()):
        sha256 = attachments.put(data)
        assert sha256 == hashlib.sha256(data).hexdigest()
        assert attachments.put(data) == sha256
        assert attachments.get(sha256) == data
    with pytest.raises(NotFoundError, match="0000"):
        attachments.get("0" * 64)
    assert attachments.find("0" * 64) is None


def test_a_damaged_blob_is_named_and_mended_by_the_next_put(tmp_path: Path) -> None:
    attachments = Attachments(tmp_path)
    sha256 = attachments.put(b"content")
    attachments.path(sha256).write_bytes(b"contenT")
    with pytest.raises(BadFileError, match=sha256):
        attachments.get(sha256)
    attachments.put(b"content")
    assert attachments.get(sha256) == b"content"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 64 + "\n", "/" + "a" * 63]
)
def test_what_is_no_digest_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadValueError):
        Attachments(tmp_path).path(name)
    assert Attachments(tmp_path).find(name) is None


def test_a_full_disk_is_told_and_leaves_no_record(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = library.create()
    conversation.append("user", "Hi")
    assert conversation.path is not None
    before = conversation.path.read_bytes()

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("glmtui.chat.attachments.write_atomically", full)
    with pytest.raises(UserError, match="No space left"):
        conversation.attachments.attach("notes.txt", "text")
    assert blobs(library.folder) == set()
    assert conversation.path.read_bytes() == before


def test_the_blob_is_there_when_the_record_cannot_be_written(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = library.create()
    conversation.append("user", "Hi")
    part = conversation.attachments.attach("notes.txt", "text", "/home/me/notes.txt")

    def full(*_args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("glmtui.chat.files.os.write", full)
        with pytest.raises(UserError, match="No space left"):
            conversation.append("user", (Text("read"), part))
    age(library)
    assert Conversation.open(conversation.path or Path()).branch()[-1].text == "Hi"
    conversation.flush()
    again = Conversation.open(conversation.path or Path())
    assert again.branch()[-1].parts == (Text("read"), part)
    assert again.attachments.text(part) == "text"


def test_conversations_share_a_blob_until_none_needs_it(library: Library) -> None:
    first, second = library.create(), library.create()
    for conversation in (first, second):
        conversation.append("user", (conversation.attachments.image(PNG, name="cat"),))
    lost = first.attachments.put(b"never named")
    (needed,) = first.digests()
    age(library)
    assert library.collect_attachments(older_than=1e9) == 0, "all are younger"
    assert library.collect_attachments() == 1
    assert blobs(library.folder) == {needed} != {lost}
    gone, kept = (library.trash(each.id) for each in (first, second))
    age(library)
    assert library.collect_attachments() == 0, "the trash needs it"
    library.restore(kept)
    gone.unlink()
    assert library.collect_attachments() == 0
    assert blobs(library.folder) == {needed}
    library.trash(second.id).unlink()
    assert library.collect_attachments() == 1
    assert blobs(library.folder) == set()


def test_a_young_blob_stays_and_one_put_again_is_young(library: Library) -> None:
    attachments = library.create().attachments
    attachments.put(b"old")
    attachments.put(b"put again")
    age(library)
    young = {attachments.put(b"put again"), attachments.put(b"new")}
    assert library.collect_attachments() == 1
    assert blobs(library.folder) == young


def test_records_of_a_kind_unknown_here_keep_their_blobs(library: Library) -> None:
    conversation = library.create()
    conversation.append("user", "Hi")
    sha256 = conversation.attachments.put(b"a video")
    assert conversation.path is not None
    with conversation.path.open("a") as file:
        file.write(json.dumps({"type": "later", "movie": sha256}) + "\n")
    age(library)
    assert library.collect_attachments() == 0
    assert blobs(library.folder) == {sha256}


def test_nothing_is_removed_when_a_conversation_cannot_be_read(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = library.create()
    conversation.append("user", "Hi")
    conversation.attachments.put(b"lost")
    age(library)

    def refuse(_path: Path, _most: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("glmtui.chat.attachments.read_regular", refuse)
        assert library.collect_attachments() == 0
    assert library.collect_attachments() == 1


def test_a_conversation_moved_while_files_are_read_keeps_its_blobs(library: Library) -> None:
    conversation = library.create()
    conversation.append("user", (conversation.attachments.image(PNG),))
    assert conversation.path is not None
    here, there = conversation.path, library.folder / "moved.jsonl"
    age(library)
    asked = []

    def files() -> list[Path]:
        asked.append(1)
        if len(asked) == 2:
            here.rename(there)
        return [here]

    assert Attachments.next_to(here).collect(files) == 0
    assert blobs(library.folder) == conversation.digests()


# --- kept elsewhere ---


def test_a_conversation_elsewhere_has_its_blobs_next_to_it(tmp_path: Path, library: Library) -> None:
    conversation = Conversation.at(tmp_path / "mine" / "talk.jsonl")
    part = conversation.attachments.attach("notes.txt", "内容", "/home/me/notes.txt")
    conversation.append("user", (part,))
    assert blobs(tmp_path / "mine") == {part.sha256}
    library.save_as(conversation, tmp_path / "copies" / "copy.jsonl")
    copy = Conversation.open(tmp_path / "copies" / "copy.jsonl")
    assert copy.attachments.text(part) == "内容"
    assert blobs(tmp_path / "copies") == {part.sha256}


def test_a_copy_is_made_though_a_blob_is_lost(tmp_path: Path, library: Library) -> None:
    conversation = library.create()
    part = conversation.attachments.attach("notes.txt", "text")
    conversation.append("user", (part,))
    conversation.attachments.path(part.sha256).unlink()
    library.save_as(conversation, tmp_path / "copy.jsonl")
    assert Conversation.open(tmp_path / "copy.jsonl").branch()[0].parts == (part,)


def test_a_conversation_in_memory_brings_its_blobs_along(library: Library) -> None:
    conversation = Conversation()
    part = conversation.attachments.attach("notes.txt", "text")
    conversation.append("user", (part,))
    conversation.keep_in(library.folder)
    assert conversation.attachments.text(part) == "text"
    assert blobs(library.folder) == {part.sha256}


def test_a_conversation_in_the_trash_finds_its_blobs(library: Library) -> None:
    conversation = library.create()
    part = conversation.attachments.attach("notes.txt", "text")
    conversation.append("user", (part,))
    library.trash(conversation.id)
    (summary,) = library.trashed()
    assert Conversation.open(summary.path).attachments.text(part) == "text"


@pytest.mark.parametrize(
    ("data", "given", "expected"),
    [
        (PNG, "", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/png", "image/jpeg"),
        (b"RIFF____WEBPVP8 ", "", "image/webp"),
        (b"?", "image/tiff", "image/tiff"),
        (b"?", "", "application/octet-stream"),
    ],
)
def test_the_type_of_a_picture_is_looked_up_in_it(data: bytes, given: str, expected: str) -> None:
    assert Attachments(None).image(data, given).media_type == expected


def test_a_copy_in_memory_reads_where_it_came_from_and_writes_nothing_there(library: Library) -> None:
    original = library.create()
    original.append("user", (original.attachments.image(PNG, name="cat"),))
    (needed,) = original.digests()
    copy = Conversation.from_records(original.records(), original.attachments)
    assert copy.attachments.get(needed) == PNG
    copy.append("user", (copy.attachments.attach("new.txt", "new"),))
    assert blobs(library.folder) == {needed}
    other = Library(library.folder / "other", cache=library.folder / "cache")
    copy.keep_in(other.folder)
    assert blobs(other.folder) == copy.digests() > {needed}


def test_tidying_removes_what_is_not_needed_once_a_day(library: Library) -> None:
    library.tidy()
    assert not library.folder.exists()
    attachments = library.create().attachments
    attachments.put(b"lost")
    age(library)
    stamp = library.folder / "attachments" / ".lock"
    os.utime(stamp)
    library.tidy()
    assert len(blobs(library.folder)) == 1, "done today"
    for clock_was in (0, time.time() + 1e6):
        attachments.put(b"lost")
        age(library)
        os.utime(stamp, (clock_was, clock_was))
        library.tidy()
        assert blobs(library.folder) == set()
        assert abs(stamp.stat().st_mtime - time.time()) < KEPT


def test_tidying_raises_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    library.create().attachments.put(b"lost")
    for error in (PermissionError(13, "no"), StorageError("no")):
        collect = Mock(side_effect=error)
        monkeypatch.setattr(library, "collect_attachments", collect)
        age(library)
        library.tidy()
        assert collect.called

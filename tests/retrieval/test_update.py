"""Only what changed is read again, what is gone vanishes, and what goes wrong costs only itself."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import document_files as make
import pytest

from glmtui.errors import BadValueError, NotFoundError
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.retrieval import collections
from glmtui.retrieval.collections import Collection
from glmtui.retrieval.index import DamagedIndexError
from glmtui.retrieval.provider import DocumentProvider
from glmtui.retrieval.update import Fetched, update


def found(collection: Collection, question: str) -> list[str]:
    with collection.index() as index:
        return [hit.passage.text for hit in index.search(question)]


def test_only_what_changed_is_read_again(folder: Path, collection: Collection) -> None:
    (folder / "a.txt").write_text("苹果很甜。")
    (folder / "b.txt").write_text("香蕉很软。")
    first = update(collection)
    assert (first.read, first.unchanged, first.removed) == (2, 0, 0)
    (folder / "a.txt").write_text("苹果很酸。")
    (folder / "c.md").write_text("# 梨\n梨很脆。")
    second = update(collection)
    assert (second.read, second.unchanged, second.removed) == (2, 1, 0)
    assert found(collection, "苹果") == ["苹果很酸。"]
    (folder / "b.txt").unlink()
    third = update(collection)
    assert (third.read, third.unchanged, third.removed) == (0, 2, 1)
    assert found(collection, "香蕉") == []


def test_a_file_that_was_only_touched_is_not_read_again(folder: Path, collection: Collection) -> None:
    path = folder / "a.txt"
    path.write_text("same")
    update(collection)
    os.utime(path, (1, 1))
    assert update(collection).read == 0
    assert found(collection, "same") == ["same"]


def test_the_same_text_twice_is_found_once(folder: Path, collection: Collection) -> None:
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("the same words")
    update(collection)
    assert found(collection, "words") == ["the same words"]


def test_errors_are_kept_with_their_files(folder: Path, collection: Collection) -> None:
    (folder / "good.txt").write_text("good")
    (folder / "bad.docx").write_bytes(b"PK\x03\x04broken")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
    (folder / "README").write_text("read me")
    (folder / ".hidden.txt").write_text("hidden")
    (folder / "__init__.py").write_text("")
    outcome = update(collection)
    assert outcome.read == 3
    assert outcome.notes == []
    assert [Path(path).name for path, _why in outcome.errors] == ["bad.docx"]
    with collection.index() as index:
        records = {Path(record.origin).name: record for record in index.files()}
    assert set(records) == {"README", "__init__.py", "bad.docx", "good.txt"}
    assert str(records["bad.docx"].error)
    (folder / "bad.docx").write_bytes(make.docx("mended"))
    assert update(collection).read == 1
    assert found(collection, "mended") == ["mended"]


def test_a_file_that_turns_bad_is_no_longer_found(folder: Path, collection: Collection) -> None:
    (folder / "a.json").write_text('{"a": "words"}')
    update(collection)
    (folder / "a.json").write_text('{"a": "words"')
    assert len(update(collection).errors) == 1
    assert found(collection, "words") == []


def test_what_could_not_be_read_is_tried_again_when_asked_to(
    tmp_path: Path, folder: Path, collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pypdfium2")
    (folder / "a.pdf").write_bytes(make.pdf("words"))
    (tmp_path / "pypdfium2.py").write_text("raise ImportError")
    with monkeypatch.context() as without:
        without.syspath_prepend(tmp_path)
        ((_path, why),) = update(collection).errors
        assert "pip install" in str(why)
    assert update(collection, retry=False).unchanged == 1
    assert update(collection).read == 1


def test_a_folder_on_a_disk_that_is_away_keeps_its_passages(tmp_path: Path, folder: Path) -> None:
    (folder / "a.txt").write_text("words")
    (tmp_path / "other.txt").write_text("other")
    for root in (folder, tmp_path / "other.txt"):
        collection = collections.add("notes", root)
    update(collection)
    folder.rename(tmp_path / "away")
    outcome = update(collection)
    assert (outcome.removed, [path for path, _why in outcome.errors]) == (0, [str(folder)])
    assert found(collection, "words") == ["words"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes in folders there")
def test_what_is_neither_file_nor_folder_is_passed_over(folder: Path, collection: Collection) -> None:
    os.mkfifo(folder / "pipe.txt")
    (folder / "nowhere.txt").symlink_to(folder / "gone")
    outcome = update(collection)
    assert outcome.read == 0
    assert [Path(path).name for path, _why in outcome.errors] == ["nowhere.txt"]


def test_what_vanishes_while_it_is_looked_at_is_gone(folder: Path, collection: Collection) -> None:
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(f"words of {name}")
    assert update(collection).read == 2
    (folder / "c.txt").write_text("words of c.txt")

    def progress(_done: int, _total: int, name: str) -> None:
        if name.endswith(("b.txt", "c.txt")):
            os.unlink(name)

    outcome = update(collection, progress)
    assert (outcome.read, outcome.removed, outcome.errors) == (0, 1, [])
    with collection.index() as index:
        assert [Path(record.origin).name for record in index.files()] == ["a.txt"]


def test_a_document_that_another_process_has_read_meanwhile_is_not_read_again(
    folder: Path, collection: Collection
) -> None:
    (folder / "a.txt").write_text("words")
    (folder / "b.txt").write_text("other words")

    def progress(_done: int, _total: int, name: str) -> None:
        if name.endswith("a.txt"):
            assert update(collection).read == 2

    outcome = update(collection, progress)
    assert (outcome.read, outcome.unchanged) == (0, 2)


def test_it_waits_for_another_process_that_writes_unless_it_is_cancelled(
    folder: Path, collection: Collection
) -> None:
    (folder / "a.txt").write_text("words")
    update(collection)
    token = CancelToken()
    token.cancel()
    other = sqlite3.connect(collection.index_path, isolation_level=None)
    with collection.index() as index:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationCancelled):
            index.remove([str(folder / "a.txt")], token.check)
        assert index.count() == (1, 1)
        index.remove([str(folder / "a.txt")], lambda: other.in_transaction and other.execute("ROLLBACK"))
        assert index.count() == (0, 0)
    other.close()


def test_progress_and_cancel(folder: Path, collection: Collection) -> None:
    for number in range(4):
        (folder / f"{number}.txt").write_text(f"text {number}")
    token, seen = CancelToken(), []

    def progress(done: int, total: int, _name: str) -> None:
        seen.append((done, total))
        if done == 2:
            token.cancel()

    with pytest.raises(OperationCancelled):
        update(collection, progress, token)
    assert seen == [(0, 4), (1, 4), (2, 4)]
    assert found(collection, "text")
    assert update(collection).read == 2


KILLED = """
import os, sys
from glmtui.retrieval import collections, update
def progress(done, total, name):
    print(done, flush=True)
update.update(collections.find(sys.argv[1]), progress)
"""


def test_a_kill_while_it_is_read_leaves_a_usable_collection(folder: Path, collection: Collection) -> None:
    for number in range(300):
        (folder / f"{number:03}.txt").write_text(
            "\n\n".join(f"passage {n} of file {number}" for n in range(200))
        )
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout
    for line in process.stdout:
        if line.strip() == b"5":
            break
    process.kill()
    process.wait()
    process.stdout.close()
    before = len(found(collection, "passage"))
    with collection.index() as index:
        records = index.files()
    assert before
    assert 5 <= len(records) < 300
    assert len({record.passages for record in records}) == 1
    for path in folder.glob("[12]*.txt"):
        path.unlink()
    assert update(collection).read == 100 - len([r for r in records if Path(r.origin).name < "100"])


def test_an_index_that_is_damaged_or_of_another_format_is_made_anew(
    folder: Path, collection: Collection
) -> None:
    (folder / "a.txt").write_text("words")
    update(collection)
    db = sqlite3.connect(collection.index_path)
    db.execute("UPDATE meta SET value = '0'")
    db.commit()
    db.close()
    assert update(collection).read == 1
    collection.index_path.write_bytes(b"no database at all" * 100)
    assert update(collection).read == 1
    assert found(collection, "words") == ["words"]


def test_an_index_with_holes_is_made_anew_by_an_update(folder: Path, collection: Collection) -> None:
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"words {number} " * 400)
    update(collection)
    size = collection.index_path.stat().st_size
    with open(collection.index_path, "r+b") as file:
        file.seek(4096 * 5)
        file.write(b"\xff" * (size - 4096 * 6))
    with pytest.raises(DamagedIndexError):
        found(collection, "words")
    assert update(collection).read == 40
    assert found(collection, "words")


async def test_an_index_that_was_thrown_away_is_made_again_before_an_answer(
    folder: Path, collection: Collection
) -> None:
    (folder / "a.txt").write_text("words")
    update(collection)
    collection.index_path.write_bytes(b"no database at all" * 100)
    assert [source.title for source in await DocumentProvider(collection).search("words")] == ["a.txt"]


def test_what_is_added_by_name_and_not_read_is_an_error(folder: Path, collection: Collection) -> None:
    (folder / "picture.png").write_bytes(b"\x89PNG\0\1")
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "broken").write_bytes(b"\x81\xff\xfe words")
    assert [Path(path).name for path, _why in update(collection).errors] == ["old.doc"]
    for name in ("picture.png", "broken"):
        collections.add("named", folder / name)
    assert len(update(collections.get("named")).errors) == 2


@pytest.mark.usefixtures("plain_pages")
def test_addresses_are_fetched_once(tmp_path: Path) -> None:
    fetched = []

    def fetch(url: str) -> Fetched:
        fetched.append(url)
        return Fetched(b"<title>Page</title><p>About llamas.</p>", "page.html")

    collection = collections.add("web", "https://example.org/a")
    assert update(collection, fetch=fetch).read == 1
    assert update(collection, fetch=fetch).unchanged == 1
    assert fetched == ["https://example.org/a"]
    assert found(collection, "llama") == ["About llamas."]


@pytest.mark.parametrize("login", ["ada:s3cret", "s3cret", "ada:s3@cret"])
def test_an_address_with_a_password_is_not_kept(login: str) -> None:
    with pytest.raises(BadValueError) as told:
        collections.add("web", f"https://{login}@example.org/a")
    assert "cret" not in str(told.value)
    assert collections.names() == []
    assert collections.add("web", "https://example.org/@ada?at=@b").roots


def test_that_a_file_is_empty_is_said_where_it_was_added_itself(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    assert update(collections.add("named", tmp_path / "empty.txt")).notes
    assert not update(collections.add("folder", tmp_path)).notes


def test_a_collection_that_is_removed_while_it_is_read_is_gone(folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.txt").write_text("words")
    collection = collections.add("notes", folder)
    looked_at = []

    def progress(done: int, _total: int, _name: str) -> None:
        looked_at.append(done)
        if done == 1:
            collections.remove("notes")

    with pytest.raises(NotFoundError, match="removed"):
        update(collection, progress)
    assert 2 not in looked_at
    assert list(collections.folder().iterdir()) == []


# --- collections ---


def test_collections_have_roots_and_names(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("other words")
    (folder / "a.txt").write_text("words")
    collections.add("notes", folder)
    collection = collections.add("notes", other)
    assert collection.roots == (str(folder), str(other))
    assert update(collection).read == 2
    assert collections.names() == ["notes"]
    assert collections.find("notes") == collection
    update(collections.take_out("notes", str(other)))
    assert found(collection, "words") == ["words"]
    assert collections.follow("notes", True).follows
    collections.remove("notes")
    assert collections.names() == []
    assert not collection.index_path.exists()
    assert other.exists()


def test_names_are_free_and_allowed(folder: Path) -> None:
    assert collections.free_name(folder) == "documents"
    collections.add("documents", folder)
    assert collections.free_name(folder) == "documents-2"
    assert collections.free_name("https://example.org/x") == "example.org"
    assert collections.add("Documents", folder).name == "documents"
    for name in (
        "",
        "../up",
        "a/b",
        ".hidden",
        "x" * 70,
        "none",
        "NONE",
        "Off",
        "con",
        "LPT1.x",
        "end ",
        "end.",
    ):
        with pytest.raises(BadValueError):
            collections.add(name, folder)


@pytest.mark.parametrize("name", ["none", "con", "...", "x" * 59 + "- tail"])
def test_a_folder_of_any_name_can_be_added(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir()
    assert collections.add(collections.free_name(path), path).roots == (str(path),)


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing-here"):
        collections.add("notes", folder / "nothing-here")
    with pytest.raises(NotFoundError, match="nowhere"):
        collections.find("nowhere")
    collections.add("notes", folder)
    with pytest.raises(NotFoundError, match="notes"):
        collections.find("nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_name_that_is_not_utf_8_costs_its_own_document(folder: Path, collection: Collection) -> None:
    (folder / "good.txt").write_text("good")
    with open(os.fsencode(folder) + b"/\xff.txt", "w") as file:
        file.write("bad")
    for _time in range(2):
        (error,) = update(collection).errors
        assert "not UTF-8" in str(error[1])
        assert found(collection, "good") == ["good"]
    with pytest.raises(BadValueError, match="not UTF-8"):
        collections.add("kept", os.fsdecode(os.fsencode(folder) + b"/\xff.txt"))

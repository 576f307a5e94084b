"""The folder of conversations: listing, searching, the trash, and an index that may vanish or lie."""

import errno
import json
import os
import shutil
import threading
import zlib
from datetime import datetime, timedelta, timezone
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.chat import library as library_module
from glmtui.chat import search_index as index_module
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.chat.search_index import fold
from glmtui.errors import NotFoundError, UserError

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return again(tmp_path)


def again(tmp_path: Path) -> Library:
    """The library as another process sees it."""
    return Library(tmp_path / "conversations", cache=tmp_path / "cache")


def talk(library: Library, *texts: str, day: int = 0, model: str = "") -> Conversation:
    conversation = library.create()
    for number, text in enumerate(texts):
        conversation.append(
            "assistant" if number % 2 else "user",
            text,
            time=START + timedelta(days=day, minutes=number),
            meta={"model": model} if model and number % 2 else None,
        )
    return conversation


def titles(library: Library) -> list[str]:
    return [summary.title for summary in library.list()]


def found(library: Library, text: str) -> list[tuple[str | None, str]]:
    return [(hit.message_id, hit.line) for hit in library.search(text)]


def test_nothing_is_made_by_looking(library: Library, tmp_path: Path) -> None:
    assert library.list() == []
    assert library.search("x") == []
    assert library.trashed() == []
    assert not library.refresh()
    assert not (tmp_path / "conversations").exists()


def test_the_default_folder_is_in_the_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    assert Library().folder == tmp_path / "data" / "conversations"


def test_sorted_by_last_use_with_pinned_ones_first(library: Library) -> None:
    old = talk(library, "an old question", day=1)
    talk(library, "a newer question", "answer", day=2, model="nano")
    oldest = talk(library, "the oldest question", day=0)
    assert titles(library) == ["a newer question", "an old question", "the oldest question"]
    old.append("assistant", "late", time=START + timedelta(days=9))
    assert titles(library)[0] == "an old question"
    oldest.pin()
    summary = library.list()[0]
    assert (summary.title, summary.pinned, summary.messages) == ("the oldest question", True, 1)
    oldest.pin(False)
    assert titles(library)[-1] == "the oldest question"


def test_filter_by_model(library: Library) -> None:
    talk(library, "to nano", "answer", model="nano")
    talk(library, "to glm", "answer", model="chatglm-6b")
    talk(library, "unanswered")
    assert library.models() == ["chatglm-6b", "nano"]
    assert [summary.title for summary in library.list(model="nano")] == ["to nano"]
    assert [hit.summary.title for hit in library.search("answer", model="chatglm-6b")] == ["to glm"]


def test_open_by_id_and_by_path(library: Library, tmp_path: Path) -> None:
    conversation = talk(library, "hello")
    assert conversation.path is not None
    assert library.open(conversation.id).branch() == conversation.branch()
    assert library.open(conversation.path).id == conversation.id
    assert library.open(str(conversation.path)).id == conversation.id
    with pytest.raises(UserError, match="no-such-id"):
        library.open("no-such-id")
    with pytest.raises(UserError, match="gone"):
        library.open(tmp_path / "gone.jsonl")


def test_renaming_shows_in_the_list_and_in_the_open_conversation(library: Library) -> None:
    conversation = talk(library, "hello there")
    library.open(conversation.id).rename(" 新的\n名字 ")
    assert titles(library) == ["新的 名字"]
    assert conversation.refresh()
    assert conversation.title == "新的 名字"
    library.open(conversation.id).rename("")
    assert titles(library) == ["hello there"]


def test_what_others_do_to_the_folder_is_noticed(library: Library, tmp_path: Path) -> None:
    conversation = talk(library, "first one")
    assert conversation.path is not None
    assert titles(library) == ["first one"]
    other = again(tmp_path)
    talk(other, "from elsewhere", day=1)
    assert titles(library) == ["from elsewhere", "first one"]
    with conversation.path.open("a", encoding="utf-8") as file:
        file.write('{"type": "title", "title": "by hand"}\n')
    assert titles(library) == ["from elsewhere", "by hand"]
    conversation.path.unlink()
    assert titles(library) == ["from elsewhere"]
    assert library.refresh() is False
    talk(other, "one more", day=2)
    assert library.refresh() is True


def test_strange_files_in_the_folder_do_no_harm(library: Library) -> None:
    talk(library, "good one")
    folder = library.folder
    (folder / "empty.jsonl").touch()
    (folder / "noise.jsonl").write_bytes(os.urandom(5000))
    (folder / "notes.txt").write_text("mine")
    (folder / ".hidden.jsonl").write_text('{"role": "user", "text": "x"}')
    (folder / "folder.jsonl").mkdir()
    (folder / "dangling.jsonl").symlink_to(folder / "nowhere")
    assert titles(library) == ["good one"]


def test_a_copied_file_is_a_conversation_of_its_own(library: Library) -> None:
    conversation = talk(library, "original text")
    assert conversation.path is not None
    copy = conversation.path.with_name("备份.jsonl")
    shutil.copy(conversation.path, copy)
    by_id = {summary.id: summary.path for summary in library.list()}
    assert by_id == {conversation.id: conversation.path, "备份": copy}
    library.trash("备份")
    assert [summary.path for summary in library.list()] == [conversation.path]
    (deleted,) = library.trashed()
    library.restore(deleted.path)
    library.trash(copy)
    assert [summary.path for summary in library.list()] == [conversation.path]


def test_a_conversation_with_all_messages_deleted_can_still_be_found(library: Library) -> None:
    conversation = talk(library, "oops 删除")
    conversation.delete(next(iter(conversation.messages)))
    assert titles(library) == ["oops 删除"], "from the name of the file"
    assert library.search("oops") == []


# --- trash ---


def test_trash_and_restore(library: Library, tmp_path: Path) -> None:
    _, go = talk(library, "keep this"), talk(library, "throw away")
    deleted = library.trash(go.id)
    assert titles(library) == ["keep this"]
    assert library.search("throw") == []
    assert [summary.title for summary in library.trashed()] == ["throw away"]
    assert [summary.title for summary in again(tmp_path).trashed()] == ["throw away"]
    library.restore(deleted)
    assert set(titles(library)) == {"keep this", "throw away"}
    assert library.trashed() == []
    with pytest.raises(NotFoundError):
        library.restore(deleted)


def test_a_conversation_in_the_trash_goes_on_there(library: Library) -> None:
    conversation = talk(library, "being answered")
    deleted = library.trash(conversation.id)
    conversation.append("assistant", "the end of the answer")
    assert library.list() == []
    library.restore(deleted)
    assert [m.text for m in library.open(conversation.id).branch()] == [
        "being answered",
        "the end of the answer",
    ]


def test_names_do_not_collide_in_the_trash(library: Library) -> None:
    for text in ("one", "two"):
        conversation = Conversation(path=library.folder / "same.jsonl")
        conversation.append("user", text)
        library.trash(conversation.id)
    assert sorted(summary.title for summary in library.trashed()) == ["one", "two"]
    for summary in library.trashed():
        library.restore(summary.path)
    assert sorted(titles(library)) == ["one", "two"]


# --- copies ---


def test_save_as_overwrites_only_when_told(library: Library, tmp_path: Path) -> None:
    conversation = talk(library, "q", "a")
    target = tmp_path / "新文件夹" / "copy.jsonl"
    library.save_as(conversation, target)
    assert Conversation.open(target).branch() == conversation.branch()
    with pytest.raises(UserError, match=r"copy\.jsonl"):
        library.save_as(Conversation(), target)
    library.save_as(Conversation(), target, overwrite=True)
    assert not Conversation.open(target).messages
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        library.save_as(conversation, tmp_path / "file" / "copy.jsonl")


# --- search ---


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("量化", ["如何使用 INT4 量化模型？"]),
        ("量", ["如何使用 INT4 量化模型？"]),
        ("int4", ["如何使用 INT4 量化模型？"]),
        ("nt4 化模", ["如何使用 INT4 量化模型？"]),
        ("DEQUANT", ["it dequantises Weights"]),
        ("first weights", ["it dequantises Weights"]),
        ('"quantises weights"', ["it dequantises Weights"]),
        ('"weights quantises"', []),
        ("cafÉ", ["third line: Café 🙂"]),
        ("🙂", ["third line: Café 🙂"]),
        ("量化 weights", ["it dequantises Weights"]),
        ("nowhere", []),
        ("量化 nowhere", []),
        ("   ", []),
        ('"', []),
        (r"\d", []),
    ],
)
def test_search(library: Library, tmp_path: Path, query: str, lines: list[str]) -> None:
    talk(library, "如何使用 INT4 量化模型？", "first line\nit dequantises Weights\nthird line: Café 🙂")
    talk(library, "something else entirely")
    assert [line for _id, line in found(library, query)] == lines
    library.refresh()
    assert [line for _id, line in found(again(tmp_path), query)] == lines, "from the cache"


def test_a_hit_names_the_message_on_whatever_branch(library: Library) -> None:
    conversation = talk(library, "question", "the wanted answer")
    wanted = conversation.branch()[-1]
    conversation.append("assistant", "another", parent=wanted.parent)
    assert found(library, "wanted") == [(wanted.id, "the wanted answer")]
    conversation.delete(wanted.id)
    assert found(library, "wanted") == []


def test_a_growing_answer_is_found_in_its_latest_form(library: Library) -> None:
    conversation = talk(library, "question")
    answer = conversation.append("assistant", "", state="partial")
    conversation.extend(answer.id, "half")
    assert found(library, "half") == [(answer.id, "half")]
    conversation.finish(answer.id, "whole")
    assert found(library, "half") == []
    assert found(library, "whole") == [(answer.id, "whole")]


def test_given_titles_are_searched(library: Library) -> None:
    conversation = talk(library, "question")
    conversation.rename("旅行计划")
    assert found(library, "旅行") == [(None, "旅行计划")]


def test_ids_are_not_text(library: Library) -> None:
    conversation = talk(library, "question")
    assert found(library, next(iter(conversation.messages))) == []
    assert found(library, conversation.id) == []


def test_long_lines_are_cut_around_the_word(library: Library) -> None:
    talk(library, "字" * 500 + "目标" + "字" * 500)
    ((_id, line),) = found(library, "目标")
    assert "目标" in line
    assert len(line) <= 121
    assert line[0] == line[-1] == "…"


def test_hits_are_limited_and_newest_first(library: Library) -> None:
    for day in range(5):
        talk(library, *["the word"] * 10, day=day)
    hits = library.search("word", limit=8, per_conversation=3)
    assert len(hits) == 8
    days = [hit.summary.updated for hit in hits]
    assert days == sorted(days, reverse=True)
    assert len(set(days)) == 3


def test_hand_written_messages_without_ids_are_found(library: Library) -> None:
    library.folder.mkdir()
    (library.folder / "hand.jsonl").write_text('{"role":"user","text":"a"}\n{"role":"user","text":"手写"}')
    ((message_id, line),) = found(library, "手写")
    assert line == "手写"
    assert library.open("hand").messages[message_id or ""].text == "手写"


@given(st.data())
def test_search_finds_every_substring(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    alphabet = st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters='"\u2028')
    text = data.draw(st.text(alphabet, min_size=1, max_size=40))
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    library = Library(tmp_path_factory.mktemp("any"), cache=tmp_path_factory.mktemp("cache"))
    conversation = talk(library, f"before\n{text}\nafter")
    wanted = text[start:end]
    # Not so for ς and its kin, whose small form depends on the neighbours, and for marks that join a letter.
    if fold(wanted) in fold(text):
        assert next(iter(conversation.messages)) in [hit.message_id for hit in library.search(f'"{wanted}"')]


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9"), ("ＧＬＭ－４", "glm-4"),
        ("glm-4", "ＧＬＭ－４"),
        ("ｶﾅ", "カナ"), ("カナ", "ｶﾅ"), ("你好，世界", "你好,世界"), ("a\u3000b", '"a b"'), ("ﬁne", "fine"),
    ],
)  # fmt: skip
def test_search_sees_through_the_forms_of_characters(library: Library, written: str, typed: str) -> None:
    talk(library, f"…… before {written} after")
    assert [hit.line for hit in library.search(typed)] == [f"…… before {written} after"]


def test_an_excerpt_shows_the_word_where_folding_changes_lengths(library: Library) -> None:
    talk(library, "…" * 5000 + "ﷺ" * 100 + " the needle " + "…" * 300)
    assert "the needle" in found(library, "needle")[0][1]


# --- the index is a cache ---


def entries(library: Library) -> int:
    return len(library._opened().entries)


def test_the_index_is_used_and_not_made_anew(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk(library, "cached text")
    library.refresh()
    monkeypatch.setattr(library_module, "make_entry", None)
    other = again(tmp_path)
    assert titles(other) == ["cached text"]
    assert other.complete
    assert found(other, "cached")


@pytest.mark.parametrize("damage", ["delete", "truncate text", "truncate entries", "noise", "folder", "swap"])
def test_a_damaged_index_is_made_anew(library: Library, tmp_path: Path, damage: str) -> None:
    for number in range(20):
        talk(library, f"question {number}", "共同的答案", day=number)
    library.refresh()
    (text,) = (tmp_path / "cache").rglob("text.bin")
    lines = text.with_name("entries.jsonl")
    if damage == "delete":
        shutil.rmtree(tmp_path / "cache")
    elif damage == "truncate text":
        os.truncate(text, text.stat().st_size // 2)
    elif damage == "truncate entries":
        os.truncate(lines, lines.stat().st_size // 2 + 7)
    elif damage == "noise":
        lines.write_bytes(
            b'\xff\n[1, 2]\n{}\n["x"]\n' + lines.read_bytes().replace(b"question 3", b"\xff\xff")
        )
    elif damage == "folder":
        text.unlink()
        text.mkdir()
    else:
        text.write_bytes(b"\1" * text.stat().st_size)
    other = again(tmp_path)
    assert len(other.list()) == 20
    other.search("答案")  # notices a text that is not what was written there
    assert len(other.search("答案", limit=50)) == 20
    assert len(other.search('"question 3"')) == 1
    other.refresh()
    assert len(again(tmp_path).search("答案", limit=50)) == 20


def test_a_flipped_bit_in_the_index_gives_no_wrong_hit(library: Library, tmp_path: Path) -> None:
    for number in range(3):
        talk(library, f"question {number}", "the common answer", day=number)
    library.refresh()
    expected = (
        found(library, "common"),
        found(library, "question 1"),
        found(library, "nowhere"),
        titles(library),
    )
    for name in ("text.bin", "entries.jsonl"):
        (path,) = (tmp_path / "cache").rglob(name)
        whole = path.read_bytes()
        for place in range(0, len(whole), 11):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
            other = again(tmp_path)
            seen = found(other, "common"), found(other, "question 1"), found(other, "nowhere"), titles(other)
            assert seen == expected, (name, place)
        path.write_bytes(whole)


@pytest.mark.parametrize("updated", [1e18, float("nan"), float("inf"), -1e18, 253402300799.0])
def test_a_time_that_no_calendar_shows_costs_its_entry(
    library: Library, tmp_path: Path, updated: float
) -> None:
    talk(library, "question", "answer")
    library.refresh()
    (lines,) = (tmp_path / "cache").rglob("entries.jsonl")
    values = json.loads(lines.read_bytes().partition(b" ")[2])
    values[5] = updated
    line = json.dumps(values).encode()
    lines.write_bytes(b"%08x %b\n" % (zlib.crc32(line), line))
    assert again(tmp_path).list() == library.list()


def test_odd_ids_are_found_and_left_as_they_are(library: Library) -> None:
    library.folder.mkdir()
    odd = ["\x01\x02", "a\nb", "\ud800", "\\x01", "é" * 3000, "../..", "[red]", "\0"]
    records = [{"role": "user", "text": f"needle {n}", "id": id_} for n, id_ in enumerate(odd)]
    (library.folder / "odd.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    hits = library.search("needle", per_conversation=20)
    assert sorted(hit.line for hit in hits) == [f"needle {n}" for n in range(len(odd))]
    assert library.search("x01") == []


def test_tidying_removes_what_killed_programs_left(library: Library) -> None:
    talk(library, "question")
    left = library.folder / ".x.jsonl.abc.tmp"
    left.touch()
    os.utime(left, (0, 0))
    library.tidy()
    assert not left.exists()


def test_without_a_place_for_the_cache_everything_works(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    library = again(tmp_path)
    talk(library, "still found")
    library.refresh()
    assert found(library, "found")


def test_outdated_text_is_thrown_away(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_GARBAGE", 2000)
    conversation = talk(library, "question")
    for number in range(30):
        conversation.append("user", f"{number} " + "some text " * 20)
        library.refresh()
    (text,) = (tmp_path / "cache").rglob("text.bin")
    assert text.stat().st_size < 4 * 30 * 210
    assert len(again(tmp_path).search("some", per_conversation=50)) == 30


def test_two_processes_share_the_cache(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = again(tmp_path)
    talk(library, "first text")
    library.refresh()
    other.refresh()
    talk(other, "second text", day=1)
    monkeypatch.setattr(index_module, "_GARBAGE", -1)
    library.refresh()
    talk(library, "third text", day=2)
    library.refresh()
    other.refresh()
    for each in (library, other, again(tmp_path)):
        assert [hit.line for hit in each.search("text")] == ["third text", "second text", "first text"]


def test_many_new_files_are_listed_by_name_at_once_and_read_later(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        talk(library, f"问题 {number}", day=number)
    monkeypatch.setattr(library_module, "LIST_BUDGET", 0)
    other = again(tmp_path)
    assert sorted(titles(other)) == sorted(f"问题 {number}" for number in range(30))
    assert not other.complete
    by_name = other.list()[0]
    assert again(tmp_path).open(by_name.id).path == by_name.path
    assert other.refresh(lambda: False)
    assert other.open(by_name.id).path == by_name.path, "also by the id it had before"
    assert other.complete
    assert len(other.search("问题")) == 30


def test_an_id_that_was_not_read_yet_is_found(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = [talk(library, f"question {number}") for number in range(5)]
    monkeypatch.setattr(library_module, "LIST_BUDGET", 0)
    for conversation in conversations:
        assert again(tmp_path).find(conversation.id).path == conversation.path


def test_refreshing_stops_when_told(library: Library, tmp_path: Path) -> None:
    for number in range(3):
        talk(library, f"question {number}")
    other = again(tmp_path)
    other.refresh(lambda: True)
    assert not other.complete


def test_listing_searching_and_refreshing_from_several_threads(library: Library, tmp_path: Path) -> None:
    for number in range(40):
        talk(library, f"question {number}", "answer", day=number)
    other = again(tmp_path)
    failures: list[BaseException] = []

    def work(call: object) -> None:
        assert callable(call)
        try:
            for _ in range(10):
                call()
        except BaseException as error:
            failures.append(error)
            raise

    calls = [
        other.list,
        other.refresh,
        lambda: other.search("answer"),
        lambda: talk(library, "more", "answer"),
    ]
    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(other.list()) == 50
    assert len(other.search("answer")) == 50


def test_what_cannot_be_taken_away_is_not_moved(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = library.create()
    conversation.append("user", "hi")
    assert conversation.path is not None
    real = os.unlink

    def refuse(path: str | Path) -> None:
        if Path(path) == conversation.path:
            raise PermissionError(errno.EACCES, "refused")
        real(path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(UserError, match="cannot be moved"):
        library.trash(conversation.id)
    assert [summary.id for summary in library.list()] == [conversation.id]
    assert not library.trashed()


def test_files_are_moved_where_there_are_no_links(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = library.create()
    conversation.append("user", "hi")
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EPERM, "no links")))
    deleted = library.trash(conversation.id)
    assert [summary.id for summary in library.trashed()] == [conversation.id]
    library.restore(deleted)
    assert [summary.id for summary in library.list()] == [conversation.id]


def test_a_clock_that_was_wrong_once_does_not_keep_a_conversation_on_top(library: Library) -> None:
    wrong = talk(library, "from the future", day=365 * 40)
    assert wrong.path is not None
    talk(library, "from today")
    os.utime(wrong.path, 2 * ((START - timedelta(days=1)).timestamp(),))
    assert titles(library) == ["from today", "from the future"]
    assert max(library.list(), key=lambda each: each.updated).title == "from today"
    wrong.append("user", "the clock is right again")
    assert titles(library)[0] == "from the future"


@pytest.mark.parametrize("seconds", [-(1 << 40), 0, 1 << 40, 1 << 62])
def test_a_file_from_a_time_that_no_calendar_has_is_listed(
    library: Library, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    talk(library, "one"), talk(library, "two", day=1)
    real = list(library_module._conversation_files(library.folder))
    stat = Mock(st_mtime_ns=seconds * 10**9, st_mtime=float(seconds), st_size=5)
    monkeypatch.setattr(library_module, "_conversation_files", lambda _: [(name, stat) for name, _s in real])
    monkeypatch.setattr(library_module, "LIST_BUDGET", 0)
    assert len(library.list()) == 2
    assert not library.complete

"""Prompt history and drafts: shared by processes, bounded, and never in the way."""

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.chat import state_log
from glmtui.chat.state_log import (
    LARGEST,
    LONGEST,
    Draft,
    Drafts,
    PromptHistory,
    QueuedMessage,
    QueuedMessages,
)
from glmtui.errors import StorageError
from glmtui.protocol.messages import Attachment, Text

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "log.jsonl"


def test_the_files_are_in_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    assert PromptHistory().entries() == []
    assert Drafts().get("x").text == ""
    assert list(tmp_path.iterdir()) == [], "nothing is made by looking"
    PromptHistory().add("你好")
    Drafts().set("x", Draft("半句"))
    assert {p.name for p in (tmp_path / "state").iterdir()} == {"prompts.jsonl", "drafts.jsonl"}


def test_prompts_are_kept_once_oldest_first(path: Path) -> None:
    history = PromptHistory(path)
    for text in ("one", "two\u2028still two\nmore", "one", "  ", "x" * (LONGEST + 1)):
        history.add(text)
    assert history.entries() == PromptHistory(path).entries() == ["two\u2028still two\nmore", "one"]


def test_two_processes_share_their_prompts(path: Path) -> None:
    ours, theirs = PromptHistory(path), PromptHistory(path)
    ours.add("ours")
    theirs.add("theirs")
    ours.add("ours again")
    assert theirs.entries() == ["ours", "theirs", "ours again"]


def test_the_history_is_bounded(path: Path) -> None:
    history = PromptHistory(path, most=5)
    for number in range(100):
        history.add(str(number))
    assert history.entries() == ["95", "96", "97", "98", "99"]
    assert path.read_bytes().count(b"{") <= 21


@given(st.lists(TEXT, max_size=10))
def test_any_prompts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("state") / "log.jsonl"
    for text in texts:
        PromptHistory(path).add(text)
    expected = [t for n, t in enumerate(texts) if t.strip() and t not in texts[n + 1 :]]
    assert PromptHistory(path).entries() == expected


def test_drafts_by_conversation(path: Path) -> None:
    drafts = Drafts(path)
    drafts.set("a", Draft("第一\u2028句"))
    drafts.set("", Draft("new"))
    drafts.set("a", Draft("第二句"))
    drafts.set("b", Draft("gone soon"))
    drafts.set("b", Draft(" \n"))
    for seen in (drafts, Drafts(path)):
        assert [seen.get(id_).text for id_ in ("a", "", "b", "c")] == ["第二句", "new", "", ""]


def test_drafts_are_bounded_and_the_latest_stay(path: Path) -> None:
    drafts = Drafts(path, most=3)
    for number in range(50):
        drafts.set(str(number), Draft(f"draft {number}"))
        drafts.set("same", Draft(f"version {number}"))
    again = Drafts(path, most=3)
    assert again.get("same").text == "version 49"
    assert again.get("49").text == "draft 49"
    assert again.get("1").text == ""
    assert path.read_bytes().count(b"{") <= 13


def test_a_long_draft_is_kept_without_filling_the_disk(path: Path) -> None:
    text = "长" * (LARGEST // 9)
    drafts = Drafts(path)
    for number in range(12):
        drafts.set("a", Draft(f"{text}{number}"))
    assert Drafts(path).get("a").text == f"{text}11"
    assert path.stat().st_size < 3 * LARGEST


def test_an_unchanged_draft_is_not_written_again(path: Path) -> None:
    drafts = Drafts(path)
    drafts.set("a", Draft("text"))
    size = path.stat().st_size
    drafts.set("a", Draft("text"))
    drafts.set("b", Draft(""))
    assert path.stat().st_size == size


@pytest.mark.parametrize("content", [b'{"text": "to', b"\0" * 50, b"[1]\n{}\n\xff", b'{"text": 3, "id": []}'])
def test_damage_costs_only_the_damaged_line(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(b'{"text": "before", "id": "a"}\n' + content)
    PromptHistory(path).add("after")
    assert PromptHistory(path).entries() == ["before", "after"]
    drafts = Drafts(path)
    drafts.set("b", Draft("draft"))
    assert (Drafts(path).get("a").text, Drafts(path).get("b").text) == ("before", "draft")


def test_without_a_place_for_them_all_goes_on(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")
    PromptHistory(path).add("x")
    assert PromptHistory(path).entries() == []
    drafts = Drafts(path)
    drafts.set("a", Draft("kept in memory"))
    assert drafts.get("a").text == "kept in memory"


# --- queued messages ---

NOTES = Attachment("notes.txt", "ab" * 32, 3, "/home/me/notes.txt")


def test_queued_messages_come_back_in_order(path: Path) -> None:
    queue = [
        QueuedMessage.of("一\u2028"),
        QueuedMessage((Text("read"), NOTES), edits="m1"),
        QueuedMessage((NOTES,)),
    ]
    queued = QueuedMessages(path)
    queued.set("a", queue[:1])
    queued.set("b", [QueuedMessage.of("gone soon")])
    queued.set("a", queue)
    queued.set("b", [])
    for seen in (queued, QueuedMessages(path)):
        assert [seen.get(id_) for id_ in ("a", "b", "c")] == [queue, [], []]


def test_queued_text_is_written_as_before(path: Path) -> None:
    queued = QueuedMessages(path)
    queued.set("a", [QueuedMessage.of("one"), QueuedMessage.of("two", edits="m1")])
    (line,) = filter(None, path.read_text().split("\n"))
    record = json.loads(line)
    assert record.pop("waiting")["items"] == [{"text": "one"}, {"text": "two", "edits": "m1"}]
    assert record == {"id": "a"}


def test_the_queue_is_synced_when_set_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(path.stat().st_size)

    monkeypatch.setattr("os.fsync", watched)
    queued = QueuedMessages(path)
    for count in (1, 2, 0):
        queued.set("a", [QueuedMessage.of("text")] * count)
        assert synced[-1] == path.stat().st_size
        before = len(synced)
        queued.set("a", [QueuedMessage.of("text")] * count)
        assert len(synced) == before, "nothing changed"


ITEM = st.dictionaries(
    st.sampled_from(["text", "parts", "edits", "id"]),
    st.none() | TEXT | st.lists(st.none() | TEXT, max_size=2),
)


@given(st.lists(ITEM | st.integers(), max_size=3), TEXT)
def test_any_items_are_read(tmp_path_factory: pytest.TempPathFactory, items: list[Any], text: str) -> None:
    path = tmp_path_factory.mktemp("state") / "log.jsonl"
    waiting = {"process": [0, 0.0], "items": [*items, {"text": text}]}
    path.write_text("".join(json.dumps({"id": id_, "waiting": waiting}) + "\n" for id_ in ("a", "")), "utf-8")
    assert [QueuedMessages(path).get(id_)[-1].text for id_ in ("a", "")] == [text, text]


def test_a_message_in_two_queues_is_that_of_the_conversation_with_a_file(path: Path) -> None:
    queued = QueuedMessages(path)
    item = QueuedMessage((Text("one"),), id="m1")
    queued.set("", [item])
    assert queued.get("") == [item]
    queued.set("a", [item])
    assert (queued.get(""), queued.get("a")) == ([], [item])


def test_nobody_writes_while_the_file_is_rewritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = QueuedMessages(path, most=1), QueuedMessages(path)
    write, others = state_log.write_atomically, []

    def write_slowly(target: Path, data: bytes) -> None:
        others.append(threading.Thread(target=lambda: theirs.set("b", [QueuedMessage.of("theirs")])))
        others[-1].start()
        others[-1].join(0.1)
        write(target, data)

    monkeypatch.setattr(state_log, "write_atomically", write_slowly)
    for number in range(5):
        mine.set("a", [QueuedMessage.of(f"mine {number}")])
    for other in others:
        other.join()
    assert others
    assert [item.text for item in QueuedMessages(path).get("b")] == ["theirs"]


def test_a_file_that_cannot_be_read_is_not_rewritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queued = QueuedMessages(path, most=1)
    queued.set("a", [QueuedMessage.of("kept")])
    with monkeypatch.context() as patch:
        patch.setattr(state_log, "read_regular", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        for number in range(6):
            queued.set("b", [QueuedMessage.of(f"{number}")])
    assert QueuedMessages(path).get("a")[0].text == "kept"


def test_what_cannot_be_made_durable_is_an_error_and_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued, drafts = QueuedMessages(path), Drafts(path.with_name("drafts.jsonl"))
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(StorageError, match="No space left"):
            queued.set("a", [QueuedMessage.of("one")])
        with pytest.raises(StorageError, match="No space left"):
            drafts.set("a", Draft("taken from the queue", place=1))
        drafts.set("b", Draft("begun"))
    queued.set("a", [QueuedMessage.of("one")])
    assert QueuedMessages(path).get("a")[0].text == "one"


def test_a_draft_keeps_what_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "drafts.jsonl"
    draft = Draft("see @a.txt", (Attachment("a.txt", "0" * 64, 3, "/a.txt"),), edits="m1", place=2)
    Drafts(path).set("a", draft)
    assert Drafts(path).get("a") == draft
    path.write_text('{"id": "a", "text": "as version 1 wrote it"}\n{"id": "b", "text": 5}\n{"id": "c"}\n')
    drafts = Drafts(path)
    assert [drafts.get(name) for name in "abc"] == [Draft("as version 1 wrote it"), Draft(), Draft()]


@pytest.mark.parametrize(
    "process", ["[Infinity, 1]", "[1e999, 1]", "[NaN, NaN]", "[-1, 0]", '["²", 1]', "{}", "[[], []]"]
)
def test_whatever_stands_for_a_process_is_none_that_runs(path: Path, process: str) -> None:
    path.parent.mkdir()
    path.write_text('{"id": "", "waiting": {"process": ' + process + ', "items": [{"text": "hi"}]}}')
    assert [item.text for item in QueuedMessages(path).get("")] == ["hi"]


@pytest.mark.skipif(os.name == "nt", reason="there are no permission bits")
def test_prompts_and_drafts_are_private_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", synced.append)
    for count, path in enumerate(
        (tmp_path / "home" / "prompts.jsonl", tmp_path / "home" / "drafts.jsonl"), 1
    ):
        if count == 1:
            PromptHistory(path).add("text")
        else:
            Drafts(path).set("a", Draft("text"))
        assert len(synced) >= count
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_a_device_in_the_place_of_the_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("fifo", "endless"):
        history = PromptHistory(tmp_path / name)
        assert history.entries() == []
        history.add("x")

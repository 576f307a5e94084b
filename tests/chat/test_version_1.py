"""A folder that version 1 wrote opens with nothing lost, and stays as it is until something is added."""

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.chat.state_log import Drafts, PromptHistory, QueuedMessages
from glmtui.protocol.messages import Text, Thought

FIXTURE = Path(__file__).parent / "version-1"
EXPECTED: dict[str, Any] = json.loads((FIXTURE / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "version-1"))


def library(folder: Path) -> Library:
    return Library(folder / "conversations", cache=folder.parent / "cache")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_version_1_wrote_it(text: str, thought: str, raw: str) -> bool:
    """Whether text and thought are all of `raw`, but for the marks and the space around them."""
    if not raw.lstrip().startswith("<think>"):
        return text == raw and not thought
    inside, _mark, after = raw.lstrip()[len("<think>") :].partition("</think>")
    return (thought, text) == (inside.strip(), after.lstrip())


@pytest.mark.parametrize("name", EXPECTED["conversations"])
def test_each_conversation_opens_with_nothing_lost(folder: Path, name: str) -> None:
    expected = EXPECTED["conversations"][name]
    conversation = Conversation.open(folder / name)
    assert conversation.id == expected["id"]
    assert conversation.title == expected["title"]
    assert conversation.created == datetime.fromisoformat(expected["created"])
    assert (conversation.pinned, dict(conversation.settings)) == (expected["pinned"], expected["settings"])
    assert list(conversation.damaged) == expected["damaged"]
    assert [message.id for message in conversation.branch()] == expected["branch"]
    assert list(conversation.messages) == list(expected["messages"])
    assert not conversation.newer_format
    for message in conversation.messages.values():
        told = expected["messages"][message.id]
        assert (message.parent, message.role, message.state) == (told["parent"], told["role"], told["state"])
        assert message.time == datetime.fromisoformat(told["time"])
        assert dict(message.meta) == told["meta"]
        assert conversation.is_deleted(message.id) == told["deleted"]
        assert [version.id for version in conversation.siblings(message.id)] == told["versions"]
        assert as_version_1_wrote_it(message.text, message.thought, told["text"])
        assert "<think>" not in message.text or message.role == "user" or told["text"] == message.text


def test_thoughts_are_parts_finished_or_not(folder: Path) -> None:
    (name,) = [name for name in EXPECTED["conversations"] if "17-23" in name]
    answers = [m for m in Conversation.open(folder / name).branch() if m.role == "assistant"]
    assert [answer.parts for answer in answers] == [
        (Thought("17 × 20 is 340, plus 51"), Text("**391**")),
        (Thought("Easy: 391 +"),),
        (Text("414"),),
        (Text("It begins a thought, as in <think>this</think>."),),
    ]
    (name,) = [name for name in EXPECTED["conversations"] if "line-breaks" in name]
    assert Conversation.open(folder / name).branch()[-1].parts == (Thought("U+2028 is one."),)


def test_the_model_sees_the_same(folder: Path) -> None:
    for name, expected in EXPECTED["conversations"].items():
        seen = [(m.role, m.text) for m in Conversation.open(folder / name).messages_for_model()]
        if not any("<think>" in text for _role, text in expected["turns"]):
            assert seen == [tuple(turn) for turn in expected["turns"]]


def test_listing_and_searching_find_the_same_and_change_no_byte(folder: Path) -> None:
    before = contents(folder)
    opened = library(folder)
    listed = [
        {
            "id": summary.id,
            "name": summary.name,
            "title": summary.title,
            "messages": summary.messages,
            "model": summary.model,
            "pinned": summary.pinned,
        }
        for summary in opened.list()
    ]
    assert listed == [{k: v for k, v in told.items() if k != "updated"} for told in EXPECTED["listed"]]
    updated = [datetime.fromisoformat(told["updated"]) for told in EXPECTED["listed"]]
    assert [summary.updated for summary in opened.list()] == updated
    assert [summary.id for summary in opened.trashed()] == EXPECTED["trashed"]
    for words, hits in EXPECTED["search"].items():
        assert [[hit.summary.id, hit.message_id] for hit in opened.search(words)] == hits
    for name in EXPECTED["conversations"]:
        assert Conversation.open(folder / name).refresh() is False
    assert contents(folder) == before


def test_drafts_queue_and_prompts_are_read(folder: Path) -> None:
    drafts = Drafts(folder / "state" / "drafts.jsonl")
    assert {id_: drafts.get(id_).text for id_ in EXPECTED["drafts"]} == EXPECTED["drafts"]
    queued = QueuedMessages(folder / "state" / "waiting.jsonl")
    for id_, items in EXPECTED["waiting"].items():
        assert [{"text": item.text, "edits": item.edits} for item in queued.get(id_)] == items
    assert PromptHistory(folder / "state" / "prompts.jsonl").entries() == EXPECTED["prompts"]


@pytest.mark.parametrize("name", EXPECTED["conversations"])
def test_what_is_added_is_appended(folder: Path, name: str) -> None:
    before = (folder / name).read_bytes()
    conversation = Conversation.open(folder / name)
    known = dict(conversation.messages)
    question = conversation.append("user", "and now?")
    conversation.append("assistant", (Thought("hm"), Text("well")))
    after = (folder / name).read_bytes()
    assert after.startswith(before)
    again = Conversation.open(folder / name)
    assert {id_: again.messages[id_] for id_ in known} == known
    assert again.branch() == conversation.branch()
    assert again.branch()[-2] == question
    assert not again.newer_format

"""Messages that wait for the answer before them: changed, moved, cancelled, held, there after a restart."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest
from scripted_engine import ScriptedEngine
from session.conftest import Chat, ready

from glmtui.chat.conversation import Conversation, Message, Role
from glmtui.chat.state_log import Draft, Drafts, QueuedMessage, QueuedMessages, _began
from glmtui.protocol.messages import Attachment, Part
from glmtui.session.attached_file import AttachedFile
from glmtui.session.events import ConversationShown

Make = Callable[..., Chat]


@pytest.fixture
def answering(make: Make) -> Callable[..., object]:
    """Make a session in which "first" is being answered and `texts` are queued."""

    async def answering(*texts: str) -> Chat:
        chat = await ready(make(*(f"Answer {n}." for n in range(len(texts) + 1)), hold=True))
        await chat.enter("first")
        await chat.until(lambda: chat.state.activity == "answering")
        for text in texts:
            await chat.enter(text)
        return chat

    return answering


def texts(chat: Chat) -> list[str]:
    assert list(chat.state.queued) == chat.queued
    return [item.text for item in chat.state.queued]


def stored(chat: Chat) -> list[str]:
    """What the disk has, as another program sees it after this one ended."""
    found = QueuedMessages()._file.get(chat.conversation.id)
    return [item["text"] for item in found["waiting"]["items"]] if found else []


async def test_every_change_is_on_disk_at_once(answering: Make) -> None:
    chat = await answering("one", "two", "three")
    assert stored(chat) == texts(chat) == ["one", "two", "three"]
    chat.move_queued(2, -1)
    assert stored(chat) == texts(chat) == ["one", "three", "two"]
    chat.cancel_queued(1)
    assert stored(chat) == texts(chat) == ["one", "two"]
    await chat.undo()
    assert stored(chat) == texts(chat) == ["one", "three", "two"]
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert stored(chat) == texts(chat) == ["three", "two"]


async def test_what_is_taken_back_stands_before_what_is_being_written(answering: Make) -> None:
    chat = await answering("one")
    chat.fake_ui.text = "begun"
    assert chat.unqueue()
    assert chat.fake_ui.text == "one\nbegun"
    assert not chat.unqueue()


async def test_the_command_lists_cancels_edits_and_sends(answering: Make) -> None:
    chat = await answering("one", "two", "three")
    await chat.enter("/queue")
    assert chat.fake_ui.shown[-1] == ("queue", "")
    await chat.enter("/queue cancel 2")
    assert texts(chat) == ["one", "three"]
    await chat.enter("/queue edit 2")
    assert chat.fake_ui.text == "three"
    for wrong in ("/queue cancel 9", "/queue up 1", "/queue send x"):
        await chat.enter(wrong)
        assert "/queue cancel 1" in chat.notices("error")[-1]
    chat.stop()
    await chat.idle()
    await chat.enter("/queue send")
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert chat.engine.generated[-1].messages[-1].text == "one"


async def test_a_cancel_holds_what_is_queued_until_it_is_sent(answering: Make) -> None:
    chat = await answering("one", "two", "three")
    engine = chat.engine
    chat.stop()
    await chat.idle()
    assert [item.on_hold for item in chat.state.queued] == [True] * 3
    assert len(engine.generated) == 1
    await chat.enter("another")
    engine.finish()
    await chat.idle()
    assert len(engine.generated) == 2, "what is on hold stays so"
    await chat.send_queued(1)
    assert engine.generated[-1].messages[-1].text == "two"
    engine.finish()
    await chat.idle()
    await chat.send_queued()
    for count in (4, 5):
        await chat.until(lambda count=count: len(engine.generated) == count)
        engine.finish()
    await chat.idle()
    said = [text for role, text in chat.texts() if role == "user"]
    assert said == ["first", "another", "two", "one", "three"]


async def test_a_failed_answer_holds_what_is_queued(answering: Make) -> None:
    chat = await answering("one")
    chat.engine.fail = "Out of memory."
    chat.engine.finish()
    await chat.idle()
    assert [item.on_hold for item in chat.state.queued] == [True]
    assert len(chat.engine.generated) == 1


async def test_what_is_queued_is_there_one_by_one_after_a_restart(answering: Make) -> None:
    chat = await answering("one\nline", "two")
    chat.fake_ui.text = "draft"
    chat.close()
    for _time in range(2):
        again = await ready(restarted(chat))
        assert texts(again) == ["one\nline", "two"]
        assert all(item.on_hold for item in again.queued)
        assert again.of(ConversationShown)[-1].on_hold == 2
        assert again.fake_ui.text == "draft"
        assert again.engine.generated == []
        again.close()
    again = await ready(restarted(chat))
    await again.send_queued()
    await again.until(lambda: len(again.engine.generated) == 2)
    await again.idle()
    assert texts(again) == []
    again.close()
    assert texts(await ready(restarted(chat))) == []


def restarted(chat: Chat) -> Chat:
    """A session of a program that was started when that of `chat` had ended."""
    pretend_it_ended(chat)
    again = Chat(ScriptedEngine())
    pretend_it_ended(again)
    path = chat.conversation.path
    assert path is not None
    again_open = again.open_first(path)
    try:
        again_open.send(None)
    except StopIteration:
        return again
    raise AssertionError("opening a conversation waits for nothing")


def pretend_it_ended(chat: Chat) -> None:
    """Let what a session stored belong to a process that is gone."""
    queued = chat.workspace._queued
    queued._owner = [os.getppid(), 1.0]
    for item in {each.conversation.id for each in chat.queued}:
        chat.workspace.keep_queued(item, [QueuedMessage(q.parts, q.edits) for q in chat.queued])


async def test_a_queued_version_stays_a_version(answering: Make) -> None:
    chat = await answering()
    first = chat.conversation.branch()[0].id
    chat.edit(first)
    await chat.enter("first!")
    chat.edit(first)  # begun, but not what is sent next
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert [message.text for message in chat.engine.generated[-1].messages] == ["first!"]
    assert chat.state.editing == first


async def test_a_queued_message_keeps_its_files_when_it_is_changed(answering: Make, tmp_path: Path) -> None:
    chat = await answering()
    await chat.enter("See @a.txt", [AttachedFile("a.txt", str(tmp_path / "a.txt"), "AAA")])
    chat.unqueue()
    chat.edit_no_more()
    await chat.enter("Look at @a.txt")
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert "AAA" in chat.engine.generated[-1].messages[-1].text


async def test_what_is_queued_elsewhere_is_shown_there_and_sent_there(answering: Make) -> None:
    chat = await answering()
    asked = chat.conversation
    await chat.new()
    await chat.enter("other")
    other = chat.conversation
    assert texts(chat) == ["other"]
    assert asked.path is not None
    await chat.open(asked.path)
    assert texts(chat) == []
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert [message.text for message in chat.engine.generated[-1].messages] == ["other"]
    assert [message.text for message in other.branch()] == ["other", ""]


async def test_a_conversation_in_which_messages_are_queued_is_not_deleted(answering: Make) -> None:
    chat = await answering("one")
    await chat.enter("/delete")
    assert "is being answered" in chat.notices("error")[-1]
    chat.stop()
    await chat.idle()
    await chat.enter("/delete")
    assert "send or cancel them first" in chat.notices("error")[-1]
    assert len(chat.library.list()) == 1


def test_only_one_of_two_running_programs_has_what_is_queued(home: Path) -> None:
    mine, other = QueuedMessages(), QueuedMessages()
    other._owner = [os.getppid(), _began(os.getppid())]
    other.set("c", [QueuedMessage.of("theirs")])
    assert mine.get("c") == []
    other._owner = [os.getppid(), 1.0]  # a process that is gone; its number is another's now
    other.set("c", [QueuedMessage.of("theirs", "m1"), QueuedMessage.of("more")])
    assert mine.get("c") == [QueuedMessage.of("theirs", "m1"), QueuedMessage.of("more")]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system remembers when a process began")
def test_what_is_queued_belongs_to_a_program_that_runs_also_after_the_clock_was_set(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = QueuedMessages(), QueuedMessages()
    other._owner = [os.getppid(), _began(os.getppid())]
    other.set("c", [QueuedMessage.of("theirs")])
    started = psutil.boot_time()
    for seconds in (-3600, 1, 10**8):  # what the system says of its own start moves with the clock
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda at=started + seconds: at)
        assert psutil.boot_time() == started + seconds
        assert mine.get("c") == []


@pytest.mark.parametrize("record", ["x", [1], {"process": 3, "items": "no"}, {"items": [1, {"text": 2}]}])
def test_a_damaged_file_of_queued_messages_is_no_trouble(record: object) -> None:
    QueuedMessages()._file.set("c", {"waiting": record})
    assert QueuedMessages().get("c") == []


async def test_a_queued_file_outlives_another_conversation_in_between(make: Make) -> None:
    chat = await ready(make(hold=True))
    await chat.enter("first")
    await chat.enter("look @a.txt", [AttachedFile("a.txt", "/a.txt", "AAA")])
    first = chat.conversation
    chat.unqueue()
    await chat.new()
    await chat.open(first.id)
    assert chat.fake_ui.text == "look @a.txt"
    chat.fake_ui.text = ""
    await chat.enter("look @a.txt")
    assert [part.name for part in chat.queued[0].parts if isinstance(part, Attachment)] == ["a.txt"]


async def test_what_is_taken_back_is_in_the_stored_draft_at_once(make: Make) -> None:
    chat = await ready(make(hold=True))
    await chat.enter("first")
    await chat.enter("second @a.txt", [AttachedFile("a.txt", "/a.txt", "AAA")])
    chat.unqueue()
    draft = Chat(ScriptedEngine()).workspace.draft(chat.conversation)
    assert draft.text == "second @a.txt"
    assert draft.place == 0
    assert [part.name for part in draft.parts] == ["a.txt"]  # type: ignore[union-attr]


async def test_a_message_leaves_the_stored_queue_after_it_is_in_the_file(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await ready(make("One.", "Two.", hold=True))
    await chat.enter("first")
    await chat.enter("second")
    seen: list[list[str]] = []
    append = Conversation.append

    def watched(self: Conversation, role: Role, content: str | Sequence[Part], **how: Any) -> Message:
        if role == "user":
            seen.append(stored(chat))
        return append(self, role, content, **how)

    monkeypatch.setattr(Conversation, "append", watched)
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert seen == [["second"]]
    assert stored(chat) == []


async def test_what_waits_in_a_new_conversation_goes_with_it_to_its_file(make: Make) -> None:
    chat = await ready(make("One.", "Two.", "Three.", hold=True))
    await chat.enter("elsewhere")
    await chat.new()
    await chat.enter("q1")
    await chat.enter("q2")
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert stored(chat) == ["q2"]
    assert "" not in QueuedMessages()._file._latest


async def test_a_queued_message_stays_where_its_file_became_newer(make: Make) -> None:
    chat = await ready(make("One.", "Two.", hold=True))
    await chat.enter("first")
    await chat.enter("second")
    path = chat.conversation.path
    assert path is not None
    with path.open("a", encoding="utf-8") as file:
        file.write('\n{"type": "conversation", "version": 99}\n')
    chat.engine.finish()
    await chat.until(lambda: not chat.answering)
    chat.conversation.refresh()
    await chat.send_queued()
    assert [item.text for item in chat.queued] == ["second"]
    assert len(chat.engine.generated) == 1


async def test_what_was_sent_before_a_kill_is_queued_no_more(answering: Make) -> None:
    """The message is in the conversation before it leaves the queue."""
    chat = await answering("one", "two")
    kept = list(QueuedMessages()._file.all().values())
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert chat.conversation.path is not None
    QueuedMessages()._file.set(chat.conversation.id, {"waiting": {**kept[0]["waiting"], "process": [0, 0]}})
    again = Chat(ScriptedEngine())
    await again.open(chat.conversation.path)
    assert texts(again) == ["two"]


async def test_what_was_sent_before_a_kill_is_no_draft(answering: Make) -> None:
    chat = await answering()
    assert chat.conversation.path is not None
    chat.draft_changed("second")
    kept = Drafts().get(chat.conversation.id)
    await chat.enter("second")
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    for draft, text in ((kept, ""), (Draft("third", id="other"), "third")):
        Drafts().set(chat.conversation.id, draft)
        again = Chat(ScriptedEngine())
        await again.open(chat.conversation.path)
        assert again.fake_ui.text == text


async def test_what_cannot_be_kept_as_a_draft_stays_in_the_queue(
    answering: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await answering("one")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        chat.unqueue()
    assert (texts(chat), chat.fake_ui.text) == (["one"], "")
    assert "No space left" in chat.notices("error")[-1]
    assert stored(chat) == ["one"]

"""The way of a message without a screen: from what a person typed to the file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from unittest.mock import Mock

import pytest
from scripted_engine import ScriptedEngine
from session.conftest import Chat, ready

from glmtui.chat.attachments import Attachments
from glmtui.chat.conversation import Conversation
from glmtui.chat.state_log import Drafts
from glmtui.errors import StorageError
from glmtui.protocol.messages import Attachment, Source, Text, Thought
from glmtui.protocol.phrases import Phrase
from glmtui.protocol.requests import Generate, Load, Request
from glmtui.session.answer_task import AnswerTask
from glmtui.session.attached_file import AttachedFile, in_full, parts_of
from glmtui.session.events import (
    AnswerBegun,
    AnswerEnded,
    AnswerGrew,
    ConversationShown,
    LoadRefused,
    MessageAdded,
    SettingsChanged,
    StateChanged,
)

Make = Callable[..., Chat]


async def test_a_message_is_answered_and_saved(make: Make) -> None:
    chat = await ready(make("你好，我是 nano。"))
    await chat.enter("你好")
    await chat.idle()
    question, answer = chat.saved().branch()
    assert (question.role, question.text, answer.text) == ("user", "你好", "你好，我是 nano。")
    assert answer.state == "done"
    assert (answer.meta["model"], answer.meta["tokens"]) == ("nano", 2)
    assert [message.text for message in chat.engine.generated[0].messages] == ["你好"]


async def test_events_carry_what_a_view_needs(make: Make) -> None:
    chat = await ready(make("One two."))
    await chat.enter("Go")
    await chat.idle()
    added, begun, ended = chat.of(MessageAdded), chat.of(AnswerBegun), chat.of(AnswerEnded)
    assert [event.message.text for event in added] == ["Go"]
    assert len(begun) == 1
    assert "".join(event.text for event in chat.of(AnswerGrew)) == "One two."
    assert ended[0].message.text == "One two."
    assert ended[0].shown
    order = [type(e) for e in chat.told if not isinstance(e, StateChanged)]
    assert order.index(MessageAdded) < order.index(AnswerBegun) < order.index(AnswerGrew)
    assert order.index(AnswerGrew) < order.index(AnswerEnded)


async def test_it_is_on_disk_before_anything_is_generated(make: Make) -> None:
    found: list[tuple[str, str]] = []

    class Watching(ScriptedEngine):
        def submit(self, request: Request):  # type: ignore[no-untyped-def]
            if isinstance(request, Generate):
                found.extend(chat.texts())
            return super().submit(request)

    chat = await ready(Chat(Watching()))
    await chat.enter("Keep this")
    assert found[0] == ("user", "Keep this")


async def test_thoughts_are_a_part_of_their_own(make: Make) -> None:
    chat = await ready(make("<think>Let me see.</think>Forty-two."))
    await chat.enter("What?")
    await chat.idle()
    answer = chat.saved().branch()[-1]
    assert answer.parts == (Thought("Let me see."), Text("Forty-two."))
    assert {event.thought for event in chat.of(AnswerGrew)} == {True, False}


async def test_a_cancel_keeps_what_came(make: Make) -> None:
    chat = await ready(make("half and half", hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    assert chat.stop()
    await chat.idle()
    answer = chat.saved().branch()[-1]
    assert (answer.text, answer.state) == ("half a", "stopped")
    assert not chat.stop(), "nothing runs any more"


async def test_partial_answers_are_in_the_file(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnswerTask, "CHECKPOINT_SECONDS", 0.0)
    chat = await ready(make("first second", hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    answer = chat.saved().branch()[-1]
    assert (answer.text, answer.state) == ("first ", "partial")


async def test_what_came_is_in_the_file_soon_though_nothing_follows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AnswerTask, "CHECKPOINT_SECONDS", 0.2)
    chat = await ready(make("first second", hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    assert chat.saved().branch()[-1].text == ""
    await chat.until(lambda: chat.saved().branch()[-1].text == "first ")


async def test_what_comes_during_an_answer_is_queued_on_disk_at_once(make: Make) -> None:
    chat = await ready(make("One.", "Two.", hold=True))
    await chat.enter("first")
    await chat.until(lambda: chat.state.activity == "answering")
    await chat.enter("second")
    await chat.enter("third")
    assert [item.text for item in chat.state.queued] == ["second", "third"]
    stored = [item.text for item in chat.workspace.queued(chat.conversation)]
    other = Chat(ScriptedEngine())
    assert stored == [] or stored == ["second", "third"]  # of a process that runs nobody else takes them
    assert [item.text for item in other.queued] == []
    chat.unqueue()
    assert chat.fake_ui.text == "third"
    chat.engine.finish()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    chat.engine.finish()
    await chat.idle()
    assert chat.texts() == [
        ("user", "first"),
        ("assistant", "One."),
        ("user", "second"),
        ("assistant", "Two."),
    ]


async def test_a_queued_message_keeps_its_place_when_it_is_changed(make: Make) -> None:
    chat = await ready(make(hold=True))
    for text in ("a", "b", "c", "d"):
        await chat.enter(text)
    chat.unqueue(1)
    assert chat.fake_ui.text == "c"
    await chat.enter("C")
    assert [item.text for item in chat.queued] == ["b", "C", "d"]
    assert chat.move_queued(2, -1) == 1
    assert [item.text for item in chat.queued] == ["b", "d", "C"]
    chat.cancel_queued(0)
    assert [item.text for item in chat.queued] == ["d", "C"]
    await chat.undo()
    assert [item.text for item in chat.queued] == ["b", "d", "C"]


async def test_a_cancel_holds_the_queue_until_it_is_sent(make: Make) -> None:
    chat = await ready(make("One.", "Two.", hold=True))
    await chat.enter("first")
    await chat.enter("second")
    chat.stop()
    await chat.idle()
    assert [item.on_hold for item in chat.queued] == [True]
    chat.engine.hold = False
    await chat.send_queued()
    await chat.idle()
    assert chat.queued == []
    assert chat.saved().branch()[-1].state == "done"


async def test_what_waits_for_a_model_is_answered_when_it_is_there(make: Make) -> None:
    chat = make("Here.", hold_load=True)
    chat.load()
    await chat.enter("early")
    assert chat.texts() == [("user", "early")]
    chat.engine.finish_load()
    await chat.idle()
    assert chat.texts()[-1] == ("assistant", "Here.")


async def test_without_a_model_the_words_come_back(make: Make) -> None:
    chat = make(hold_load=True)
    chat.engine.fail = "no such folder"
    chat.load()
    chat.engine.finish_load()
    await chat.until(lambda: chat.state.activity == "none")
    await chat.enter("hello")
    assert chat.fake_ui.text == "hello"
    assert chat.conversation.path is None
    assert chat.notices("error") == ["no such folder"]


async def test_a_load_that_fails_goes_back_to_the_model_before(make: Make) -> None:
    chat = await ready(make())
    chat.engine.fail, chat.engine.keeps = "There is no folder /nowhere.", True
    await chat.enter("/model /nowhere")
    await chat.until(lambda: chat.of(LoadRefused))
    assert chat.settings["model.source"] is None
    assert chat.state.activity == "ready"
    assert chat.state.info is not None
    assert chat.state.info.name == "nano"


async def test_a_new_option_of_loading_reaches_the_engine(chat: Chat) -> None:
    await chat.enter("/quant 4")
    assert [request.spec.quant for request in chat.engine.requests if isinstance(request, Load)] == [
        None,
        "4",
    ]


async def test_regenerate_and_versions(make: Make) -> None:
    chat = await ready(make("One.", "Two."))
    await chat.enter("Go")
    await chat.idle()
    await chat.enter("/regenerate")
    await chat.idle()
    assert [message.text for message in chat.saved().siblings(chat.conversation.branch()[-1].id)] == [
        "One.",
        "Two.",
    ]
    answer = chat.conversation.branch()[-1]
    await chat.select_version(answer.id, -1)
    assert chat.saved().branch()[-1].text == "One."
    shown = chat.of(ConversationShown)[-1]
    assert shown.versions[shown.messages[-1].id] == (1, 2)


async def test_continue_grows_the_same_answer(make: Make) -> None:
    chat = await ready(make("First half", hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    chat.stop()
    await chat.idle()
    chat.engine.answers, chat.engine.hold = [" and more"], False
    await chat.enter("/continue")
    await chat.idle()
    assert chat.engine.generated[-1].continue_answer
    assert len(chat.saved().branch()) == 2
    assert chat.saved().branch()[-1].text == "First and more"


async def test_an_edit_is_another_version(make: Make) -> None:
    chat = await ready(make("One.", "Two."))
    await chat.enter("old words")
    await chat.idle()
    await chat.enter("/edit")
    assert chat.fake_ui.text == "old words"
    assert chat.state.editing
    await chat.enter("new words")
    await chat.idle()
    first = chat.saved().branch()[0]
    assert first.text == "new words"
    assert len(chat.saved().siblings(first.id)) == 2
    assert not chat.state.editing


async def test_attached_files_keep_their_origin_and_reach_the_model(make: Make, tmp_path: Path) -> None:
    chat = await ready(make("Read."))
    file = AttachedFile("notes.txt", str(tmp_path / "notes.txt"), "line one\n```\nx\n```")
    await chat.enter("Summarise @notes.txt", [file])
    await chat.idle()
    question = chat.saved().branch()[0]
    text, attachment = question.parts
    assert text == Text("Summarise @notes.txt")
    assert isinstance(attachment, Attachment)
    assert (attachment.name, attachment.origin) == ("notes.txt", file.origin)
    assert chat.saved().attachments.text(attachment) == file.text
    prompt = chat.engine.generated[0].messages[0].text
    assert prompt.startswith("Summarise @notes.txt\n\nnotes.txt:\n````\nline one")


async def test_an_edited_message_keeps_the_files_it_still_names(make: Make) -> None:
    chat = await ready(make("One.", "Two.", "Three."))
    await chat.enter(
        "See @a.txt and @b.txt", [AttachedFile("a.txt", "/a.txt", "A"), AttachedFile("b.txt", "/b.txt", "B")]
    )
    await chat.idle()
    chat.edit(chat.conversation.branch()[0].id)
    await chat.enter("Only @b.txt now")
    await chat.idle()
    names = [part.name for part in chat.saved().branch()[0].parts if isinstance(part, Attachment)]
    assert names == ["b.txt"]


async def test_an_answer_belongs_to_the_conversation_it_was_asked_in(make: Make) -> None:
    chat = await ready(make("For the first.", hold=True))
    await chat.enter("first")
    await chat.until(lambda: chat.state.activity == "answering")
    first = chat.conversation
    await chat.new()
    chat.engine.finish()
    await chat.idle()
    assert first.path is not None
    assert Conversation.open(first.path).branch()[-1].text == "For the first."
    assert chat.conversation is not first
    assert chat.of(AnswerEnded)[0].shown is False


async def test_coming_back_to_a_running_answer_shows_all_of_it(make: Make) -> None:
    chat = await ready(make("Half and half", hold=True))
    await chat.enter("first")
    await chat.until(lambda: chat.state.activity == "answering")
    running = chat.conversation
    await chat.new()
    chat.told.clear()
    await chat.open(running.id)
    assert chat.conversation is running
    begun = chat.of(AnswerBegun)[0].message.text
    assert begun + "".join(event.text for event in chat.of(AnswerGrew)) == "Half a"


async def test_drafts_belong_to_their_conversation_and_are_on_disk(make: Make) -> None:
    chat = await ready(make("One."))
    await chat.enter("first")
    await chat.idle()
    first = chat.conversation.id
    chat.fake_ui.text = "half a thought"
    chat.draft_changed("half a thought")
    assert Chat(ScriptedEngine()).workspace.draft(chat.conversation).text == "half a thought"
    await chat.new()
    assert chat.fake_ui.text == ""
    await chat.open(first)
    assert chat.fake_ui.text == "half a thought"


async def test_the_limit_follows_a_preset(make: Make) -> None:
    chat = await ready(make())
    await chat.enter("/set max_length 512")
    await chat.enter("/preset save short")
    await chat.enter("/set max_length 1024")
    assert chat.state.limit == 1024
    chat.preferences.use_preset("short")
    assert chat.state.limit == 512
    assert chat.settings.preset == "short", "and not another one whose values are some of these"


async def test_only_what_changed_is_told(chat: Chat) -> None:
    chat.told.clear()
    await chat.enter("/set here temperature 0.3")
    assert [event.keys for event in chat.of(SettingsChanged)] == [frozenset({"generation.temperature"})]
    assert chat.preferences.own() == {"generation.temperature": 0.3}
    assert chat.settings["generation.temperature"] != 0.3


async def test_deleting_and_undoing(make: Make) -> None:
    chat = await ready(make("One."))
    await chat.enter("first")
    await chat.idle()
    await chat.delete(chat.conversation.branch()[-1].id)
    assert chat.texts() == [("user", "first")]
    await chat.undo()
    assert len(chat.texts()) == 2
    path = chat.conversation.path
    await chat.enter("/delete")
    assert path is not None
    assert not path.exists()
    await chat.enter("/undo")
    assert path.exists()


async def test_unknown_and_incomplete_commands_are_said(chat: Chat) -> None:
    await chat.enter("/qant 4")
    assert chat.fake_ui.text == "/qant 4"
    await chat.enter("/export")
    await chat.enter("/rename")
    assert len(chat.notices("error")) == 2
    assert chat.engine.generated == []


async def test_a_disk_that_is_full_is_said_once_and_nothing_is_lost(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await ready(make("One.", "Two."))
    await chat.enter("first")
    await chat.idle()
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "full")))
    await chat.enter("second")
    await chat.idle()
    monkeypatch.undo()
    assert len(chat.notices("error")) == 1
    chat.conversation.flush()
    assert [text for _role, text in chat.texts()] == ["first", "One.", "second", "Two."]
    assert os.write is real


async def test_one_message_through_the_session_is_quick(make: Make) -> None:
    chat = await ready(make("Answer."))
    await chat.enter("warm up")
    await chat.idle()
    times = []
    for number in range(9):
        start = perf_counter()
        await chat.enter(f"message {number}")
        await chat.idle()
        times.append(perf_counter() - start)
    print(f"one message through the session: median {sorted(times)[4] * 1000:.1f} ms with fsync")
    assert len(chat.texts()) == 20


async def test_a_conversation_of_a_newer_version_is_only_read(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "newer.jsonl"
    header = '{"type": "conversation", "version": 99, "id": "abc", "created": "2026-01-01T00:00:00Z"}'
    message = '{"type": "message", "id": "m1", "parent": null, "role": "user", "text": "hi"}'
    path.write_text(f"{header}\n{message}\n", encoding="utf-8")
    before = path.read_bytes()
    chat = await ready(make())
    await chat.open(path)
    assert len(chat.notices("warning")) == 1
    await chat.enter("hello")
    assert chat.fake_ui.text == "hello", "what was written comes back"
    for command in ("/regenerate", "/rename x", "/pin", "/set here temperature 0.1"):
        await chat.enter(command)
    await chat.delete("m1")
    assert path.read_bytes() == before
    assert [message.text for message in chat.conversation.branch()] == ["hi"]


async def test_a_file_whose_content_is_gone_costs_only_itself(make: Make) -> None:
    chat = await ready(make("One.", "Two."))
    await chat.enter("see @a.txt", [AttachedFile("a.txt", "/a.txt", "AAA")])
    await chat.idle()
    for blob in (chat.library.folder / "attachments").iterdir():
        blob.write_bytes(b"other")
    again = await ready(Chat(ScriptedEngine("Still.")))
    await again.open(chat.conversation.id)
    await again.enter("and now?")
    await again.idle()
    assert again.texts()[-1] == ("assistant", "Still.")
    assert "a.txt: (not available)" in again.engine.generated[0].messages[0].text
    again.draft_changed("typing")
    again.draft_changed("typing on")
    assert again.notices("error") == []


async def test_what_is_being_written_goes_along_when_its_conversation_is_deleted(make: Make) -> None:
    chat = await ready(make("One.", hold=True))
    await chat.enter("hi")
    await chat.enter("see @a.txt", [AttachedFile("a.txt", "/a.txt", "AAA")])
    chat.unqueue()
    chat.stop()
    await chat.idle()
    first, path = chat.conversation.id, chat.conversation.path
    assert path is not None
    await chat.trash(path)
    assert chat.fake_ui.text == "see @a.txt"
    assert Drafts().get(first).text == ""
    again = await ready(Chat(ScriptedEngine("Two.")))
    await again.open_first()
    assert again.fake_ui.text == "see @a.txt"
    await again.enter("see @a.txt")
    await again.idle()
    assert isinstance(again.saved().branch()[0].parts[1], Attachment)


@pytest.mark.parametrize("begun", [True, False])
async def test_a_file_that_a_draft_names_is_a_file_after_a_restart(begun: bool, make: Make) -> None:
    chat = await ready(make("One."))
    if begun:
        await chat.enter("hi")
        await chat.idle()
    chat.fake_ui.text = "see @a.txt"
    chat.fake_ui.files = [AttachedFile("a.txt", "/a.txt", "AAA")]
    chat.draft_changed(chat.fake_ui.draft(), chat.fake_ui.attached())
    # killed: nothing is closed
    again = await ready(Chat(ScriptedEngine("Two.")))
    await again.open_first()
    assert again.fake_ui.text == "see @a.txt"
    await again.enter("see @a.txt please")
    await again.idle()
    text, file = again.saved().branch()[-2].parts
    assert text == Text("see @a.txt please")
    assert isinstance(file, Attachment)
    assert again.saved().attachments.text(file) == "AAA"
    assert Drafts().get(again.conversation.id).text == ""


async def test_a_draft_whose_file_cannot_be_stored_is_kept_in_full(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await ready(make())
    file = AttachedFile("a.txt", "/a.txt", "AAA")
    full = OSError(errno.ENOSPC, "no space")
    monkeypatch.setattr("glmtui.chat.attachments.write_atomically", Mock(side_effect=full))
    chat.draft_changed("see @a.txt", [file])
    assert Drafts().get("").text == in_full("see @a.txt", [file])


async def test_continuing_keeps_all_parts(make: Make) -> None:
    chat = await ready(make(" and more"))
    await chat.enter("Go")
    await chat.idle()
    answer = chat.conversation.branch()[-1]
    source = Source(1, "A page", "words", "https://example.org")
    chat.conversation.finish(answer.id, (Text("First"), source), "stopped")
    await chat.enter("/continue")
    await chat.idle()
    assert chat.saved().branch()[-1].parts == (Text("First and more"), source)


async def test_a_file_sent_again_takes_the_place_of_its_former_content(make: Make) -> None:
    chat = await ready(make("One.", "Two."))
    await chat.enter("see @a.txt", [AttachedFile("a.txt", "/a.txt", "old")])
    await chat.idle()
    chat.edit(chat.conversation.branch()[0].id)
    await chat.enter("see @a.txt", [AttachedFile("a.txt", "/a.txt", "new")])
    await chat.idle()
    parts = chat.saved().branch()[0].parts
    assert [chat.conversation.attachments.text(part) for part in parts if isinstance(part, Attachment)] == [
        "new"
    ]


async def test_a_name_is_not_the_beginning_of_another(make: Make) -> None:
    file = AttachedFile("a.txt", "/a.txt", "AAA")
    assert in_full("@a.txt.bak and @a.txt.", [file]).startswith("@a.txt.bak and\na.txt:\n```")
    chat = await ready(make())
    parts = parts_of(
        "only @a.txt.bak",
        (),
        (Text("see @a.txt"), chat.conversation.attachments.attach("a.txt", "A")),
        chat.conversation.attachments,
    )
    assert parts == (Text("only @a.txt.bak"),)


async def test_a_file_that_cannot_be_stored_stays_in_the_draft(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await ready(make())

    def full(self: Attachments, data: bytes) -> str:
        raise StorageError(Phrase("full"))

    monkeypatch.setattr(Attachments, "put", full)
    await chat.enter("see @a.txt", [AttachedFile("a.txt", "/a.txt", "AAA")])
    assert "AAA" in chat.fake_ui.text
    assert "AAA" in chat.workspace.draft(chat.conversation).text
    assert chat.notices("error") == ["full"]


async def test_a_load_cancelled_before_it_began_leaves_the_model(make: Make) -> None:
    chat = await ready(make("One.", hold=True))
    await chat.enter("Go")
    chat.engine.slow_to_cancel = True
    await chat.enter("/model /other")
    chat._loader.cancel()
    await chat.until(lambda: not chat.loading)
    assert chat.state.info is not None
    assert chat.state.info.name == "nano"
    assert chat.settings["model.source"] is None


async def test_editing_keeps_files_that_the_text_never_named(make: Make) -> None:
    chat = await ready(make("One.", "Two."))
    imported = chat.conversation.attachments.attach("report.pdf", "R")
    question = chat.conversation.append("user", (Text("what is this?"), imported))
    chat.edit(question.id)
    await chat.enter("what is this about?")
    await chat.idle()
    assert imported in chat.saved().branch()[0].parts


async def test_of_several_loads_that_fail_the_last_good_one_is_gone_back_to(make: Make) -> None:
    chat = await ready(make())
    chat.engine.hold_load = True
    await chat.enter("/quant 8")
    await chat.enter("/model /nowhere")
    for message in ("first", "second"):
        chat.engine.fail = message
        chat.engine.finish_load()
        await chat.until(lambda message=message: message in chat.notices())
    chat.engine.finish_load()
    await chat.idle()
    assert chat.state.info is not None
    assert (chat.settings["model.source"], chat.settings["model.quant"]) == (None, None)


async def test_a_limit_changed_during_an_answer_holds_at_once(make: Make) -> None:
    chat = await ready(make(hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    await chat.enter("/set max_length 100")
    assert chat.state.limit == 100


async def test_a_conversation_whose_answer_waits_for_the_model_stays(make: Make) -> None:
    chat = await ready(make())
    await chat.enter("first")
    await chat.idle()
    chat.engine.hold_load = True
    await chat.enter("/quant 4")
    await chat.enter("second")
    await chat.enter("/delete")
    assert len(chat.notices("error")) == 1
    assert chat.conversation.path is not None


async def test_a_queued_message_that_comes_back_when_nothing_runs_is_sent(make: Make) -> None:
    chat = await ready(make("One.", "Two.", hold=True))
    await chat.enter("first")
    await chat.enter("second")
    chat.cancel_queued(0)
    chat.engine.finish()
    await chat.idle()
    chat.engine.hold = False
    await chat.enter("/undo")
    await chat.idle()
    assert ("user", "second") in chat.texts()

"""What goes wrong with an answer or a model, and what comes from outside, is told; nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_engine import ScriptedEngine
from session.conftest import Chat, ready

from glmtui.chat.conversation import Conversation
from glmtui.protocol.requests import CountTokens
from glmtui.session.answer_task import AnswerTask
from glmtui.session.events import (
    AnswerBegun,
    AnswerEnded,
    AnswerGrew,
    ConversationChanged,
    ConversationShown,
    LoadRefused,
    StateChanged,
)

Make = Callable[..., Chat]


async def test_a_load_that_fails_says_what_to_do_and_another_may_follow(make: Make, tmp_path: Path) -> None:
    chat = make("Fine.")
    chat.settings.override({"model.source": "/nowhere"})
    chat.engine.fail = "There is no folder /nowhere."
    chat.load()
    await chat.until(lambda: chat.state.activity == "none")
    assert chat.notices("error") == ["There is no folder /nowhere."]
    assert "/model nano" in chat.notices()[-1]
    await chat.enter("hello?")
    assert chat.fake_ui.text == "hello?"
    await chat.enter("/model nano")
    await chat.idle()
    await chat.enter("hello?")
    await chat.idle()
    assert chat.texts() == [("user", "hello?"), ("assistant", "Fine.")]


async def test_a_model_that_is_not_here_is_no_error_and_its_name_is_told(chat: Chat) -> None:
    engine = chat.engine
    engine.fail, engine.absent, engine.keeps = "chatglm-6b is not on this machine.", "chatglm-6b", True
    await chat.enter("/model chatglm-6b")
    await chat.until(lambda: chat.of(LoadRefused))
    assert [event.absent for event in chat.of(LoadRefused)] == ["chatglm-6b"]
    assert chat.notices("error") == []
    assert chat.settings["model.source"] is None
    assert chat.state.activity == "ready"
    assert len(engine.loads) == 2, "the model before is in memory still"


async def test_a_load_that_fails_late_loads_the_model_before(make: Make, tmp_path: Path) -> None:
    chat = await ready(make("Still here."))
    chat.engine.fail = "model-2.bin is damaged."
    await chat.enter(f"/model {tmp_path}")
    await chat.idle()
    assert [load.spec.source for load in chat.engine.loads] == [None, str(tmp_path), None]
    assert chat.settings["model.source"] is None
    await chat.enter("hello?")
    await chat.idle()
    assert chat.texts()[-1] == ("assistant", "Still here.")


async def test_going_back_is_tried_once(make: Make) -> None:
    chat = await ready(make())
    engine = chat.engine
    engine.hold_load, engine.fail = True, "damaged"
    await chat.enter("/model /x")
    engine.finish_load()
    await chat.until(lambda: len(engine.loads) == 3)
    engine.fail = "damaged too"
    engine.finish_load()
    await chat.idle()
    assert chat.state.activity == "none"
    assert len(engine.loads) == 3


async def test_what_was_still_on_its_way_is_gone_back_to(make: Make) -> None:
    chat = make(hold_load=True)
    chat.load()
    chat.engine.fail = "/x is no model."
    await chat.enter("/model /x")
    chat.engine.finish_load()
    await chat.until(lambda: len(chat.engine.loads) == 3)
    assert chat.engine.loads[-1].spec.source is None
    chat.engine.finish_load()
    await chat.idle()
    assert chat.state.activity == "ready"


async def test_a_failed_answer_is_explained_and_kept(make: Make) -> None:
    chat = await ready(make("never seen", hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    chat.engine.fail = "The device is out of memory. Try /quant 4."
    chat.engine.finish()
    await chat.idle()
    assert chat.notices("error") == ["The device is out of memory. Try /quant 4."]
    answer = chat.saved().branch()[-1]
    assert (answer.text, answer.state) == ("never", "failed")
    assert answer.meta["error"] == "The device is out of memory. Try /quant 4."
    assert chat.state.activity == "ready"


async def test_rounds_that_no_longer_fit_are_told(chat: Chat) -> None:
    chat.engine.dropped_rounds = 3
    await chat.enter("Go")
    await chat.idle()
    assert "3 oldest rounds" in chat.notices()[-1]


async def test_the_state_follows_an_answer(make: Make) -> None:
    chat = await ready(make("Yes.", hold=True))
    chat.told.clear()
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    chat.engine.finish()
    await chat.idle()
    activities = [event.state.activity for event in chat.of(StateChanged)]
    assert list(dict.fromkeys(activities)) == ["reading", "answering", "ready"]
    assert (chat.state.used, chat.state.limit) == (12, 2048), "prompt and answer, as the engine measured them"
    assert chat.state.tokens_per_second == 20


async def test_a_continued_answer_has_the_tokens_of_all_its_parts(make: Make) -> None:
    chat = await ready(make("one two ", hold=True))
    await chat.enter("Count")
    await chat.until(lambda: chat.state.activity == "answering")
    chat.stop()
    await chat.idle()
    chat.engine.answers, chat.engine.hold = ["two three"], False
    await chat.enter("/continue")
    await chat.idle()
    answer = chat.saved().branch()[-1]
    assert (answer.text, answer.state, answer.meta["tokens"]) == ("one two three", "done", 3)


async def test_each_stage_of_a_load_is_timed_on_its_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from glmtui.protocol.events import LoadProgress
    from glmtui.session import chat_session

    now = iter(range(100))
    monkeypatch.setattr(chat_session.time, "monotonic", lambda: float(next(now)))
    chat = make(hold_load=True)
    chat.load()
    stream = chat.engine.streams[0]
    stream.drain()
    for stage, done, begun in (("read", 1, 1), ("read", 2, 1), ("quantize", 3, 3), ("quantize", 5, 3)):
        before = chat.state.since
        stream.put(LoadProgress(stage, done, 9))
        await chat.poll()
        assert (chat.state.stage, chat.state.done, chat.state.total) == (stage, done, 9)
        assert chat.state.begun == begun, "what came before the first bytes of a stage says nothing"
        assert (chat.state.since > before) == (done == begun)


async def test_the_tokens_of_a_draft_are_counted_from_the_start_and_after_every_answer(make: Make) -> None:
    chat = make("Yes.", hold=True, hold_load=True)
    chat.load()
    chat.draft_changed("to be continued")
    assert chat.state.draft == 0
    chat.engine.finish_load()
    await chat.until(lambda: chat.state.draft == 15)
    await chat.enter("question")
    await chat.until(lambda: chat.state.activity == "answering")
    chat.draft_changed("meanwhile")
    counted = len([r for r in chat.engine.requests if isinstance(r, CountTokens)])
    chat.engine.finish()
    await chat.idle()
    chat.draft_changed("meanwhile")
    await chat.until(lambda: chat.state.draft == 9)
    assert len([r for r in chat.engine.requests if isinstance(r, CountTokens)]) > counted
    chat.draft_changed("/quant 4")
    await chat.until(lambda: chat.state.draft == 0)


async def test_that_nothing_can_be_saved_is_said_once_until_it_is_another_fault(make: Make) -> None:
    chat = await ready(make(*["Yes."] * 4))

    async def ask(text: str) -> int:
        await chat.enter(text)
        await chat.idle()
        return len([said for said in chat.notices("error") if "could not be saved" in said])

    chat.library.folder.parent.mkdir(parents=True, exist_ok=True)
    chat.library.folder.touch()  # where the folder is to be
    assert [await ask("first"), await ask("second")] == [1, 1]
    chat.library.folder.unlink()
    assert await ask("third") == 1
    assert [text for role, text in chat.texts() if role == "user"] == ["first", "second", "third"]
    path = chat.conversation.path
    assert path is not None
    path.rename(path.with_suffix(".moved"))
    path.mkdir()
    assert await ask("fourth") == 2


async def test_what_another_program_writes_is_shown_as_a_change(make: Make) -> None:
    chat = await ready(make())
    await chat.enter("Go")
    await chat.idle()
    first = chat.conversation.branch()[0].id
    chat.edit(first)
    chat.told.clear()
    await chat.reread()
    assert chat.of(ConversationShown) == []
    chat.saved().append("user", "from elsewhere")
    await chat.reread()
    (shown,) = chat.of(ConversationShown)
    assert [message.text for message in shown.messages] == ["Go", "Hello!", "from elsewhere"]
    assert shown.changed
    assert not shown.opened
    assert chat.state.editing == first, "an edit goes on"


async def test_a_file_that_cannot_be_read_any_more_is_named_once(make: Make) -> None:
    chat = await ready(make())
    await chat.enter("Go")
    await chat.idle()
    path = chat.conversation.path
    assert path is not None
    path.unlink()
    path.mkdir()
    for _time in range(3):
        await chat.reread()
    assert len(chat.notices("warning")) == 1


async def test_what_is_in_the_file_already_is_shown_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnswerTask, "CHECKPOINT_SECONDS", 0.0)  # all that came is in the file at once
    chat = await ready(make("One two. Three four.", hold=True))

    def shown() -> str:
        begun = [n for n, event in enumerate(chat.told) if isinstance(event, AnswerBegun)][-1]
        first = chat.told[begun]
        assert isinstance(first, AnswerBegun)
        grew = [event.text for event in chat.told[begun:] if isinstance(event, AnswerGrew)]
        return first.message.text + "".join(grew)

    async def do_nothing() -> None:
        pass

    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    await chat.rebuild(do_nothing)
    assert shown() == "One two. T"
    chat.stop()
    await chat.idle()
    await chat.enter("/continue")
    await chat.until(lambda: chat.state.activity == "answering")
    assert shown() == "One two. TOne two. T", "what there was, and half of what comes"
    await chat.rebuild(do_nothing)
    assert shown() == "One two. TOne two. T"


async def test_leaving_keeps_the_answer_and_the_draft(make: Make) -> None:
    chat = await ready(make("half and half", hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    chat.fake_ui.text = "not sent yet"
    chat.close()
    assert chat.engine.closed
    assert (chat.texts()[-1], chat.saved().branch()[-1].state) == (("assistant", "half a"), "stopped")
    again = Chat(ScriptedEngine())
    await again.open_first()
    assert again.conversation.id == chat.conversation.id
    assert again.fake_ui.text == "not sent yet"
    assert again.workspace.prompts.entries() == ["Go"]


async def test_an_answer_elsewhere_is_told_as_not_shown(make: Make) -> None:
    chat = await ready(make("Here it is.", hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    first = chat.conversation
    await chat.new()
    chat.told.clear()
    chat.engine.finish()
    await chat.idle()
    assert chat.of(AnswerGrew) == []
    assert [event.shown for event in chat.of(AnswerEnded)] == [False]
    assert first.branch()[-1].text == "Here it is."
    assert chat.conversation.messages == {}


async def test_a_find_whose_message_is_gone_opens_its_conversation(make: Make) -> None:
    chat = await ready(make())
    await chat.enter("question")
    await chat.idle()
    conversation, message = chat.conversation, chat.conversation.branch()[0]
    await chat.delete(message.id)
    await chat.new()
    await chat.open(conversation.id, message.id)
    assert chat.conversation.id == conversation.id
    assert chat.conversation.branch() == []
    assert chat.of(ConversationShown)[-1].focus is None


async def test_a_find_on_another_branch_goes_there(make: Make) -> None:
    chat = await ready(make("One.", "Two."))
    await chat.enter("question")
    await chat.idle()
    conversation, old = chat.conversation, chat.conversation.branch()[-1]
    await chat.enter("/regenerate")
    await chat.idle()
    await chat.new()
    await chat.open(conversation.id, old.id)
    shown = chat.of(ConversationShown)[-1]
    assert (shown.focus, shown.opened) == (old.id, True)
    assert [message.text for message in shown.messages] == ["question", "One."]


async def test_a_copied_file_is_what_is_meant_where_it_is_open(make: Make) -> None:
    """Its header has the id of the other one."""
    chat = await ready(make())
    await chat.enter("question")
    await chat.idle()
    original = chat.conversation.path
    assert original is not None
    copy = original.with_name("copy.jsonl")
    shutil.copy(original, copy)
    await chat.open(copy)
    assert chat.of(ConversationChanged)[-1].path == copy
    await chat.enter("/rename The copy")
    assert {each.path: each.title for each in chat.library.list()}[copy] == "The copy"
    await chat.enter("/delete")
    assert [each.path for each in chat.library.list()] == [original]
    await chat.undo()
    assert {each.path for each in chat.library.list()} == {original, copy}


async def test_a_copy_is_read_while_the_other_one_is_being_answered(make: Make) -> None:
    chat = await ready(make("One.", hold=True))
    await chat.enter("question")
    await chat.until(lambda: chat.answer is not None)
    original = chat.conversation.path
    assert original is not None
    copy = original.with_name("copy.jsonl")
    shutil.copy(original, copy)
    await chat.open(copy)
    assert chat.conversation.path == copy
    await chat.rename(original, "The first")
    assert Conversation.open(original).title == "The first"
    assert Conversation.open(copy).title != "The first"
    await chat.trash(copy)
    chat.stop()
    await chat.idle()


async def test_what_changes_in_the_list_is_told(make: Make) -> None:
    chat = await ready(make())
    await chat.enter("question")
    await chat.idle()
    id_, other = chat.conversation.id, chat.conversation.path
    assert other is not None
    await chat.new()
    chat.told.clear()
    chat.pin(other)
    await chat.rename(other, "Elsewhere")
    assert len(chat.of(ConversationChanged)) == 2
    (summary,) = chat.library.list()
    assert (summary.title, summary.pinned) == ("Elsewhere", True)
    await chat.trash(other)
    assert chat.library.list() == []
    (deleted,) = chat.library.trashed()
    await chat.restore(deleted.path)
    assert chat.conversation.id == id_
    assert Conversation.open(chat.library.list()[0].path).title == "Elsewhere"


async def test_changes_wait_for_a_running_answer(make: Make) -> None:
    chat = await ready(make(hold=True))
    await chat.enter("question")
    await chat.until(lambda: chat.state.activity == "answering")
    message = chat.conversation.branch()[0]
    for line in ("/regenerate", "/continue"):
        await chat.enter(line)
    await chat.delete(message.id)
    await chat.select(message.id)
    assert len(chat.notices("warning")) == 4
    assert len(chat.engine.generated) == 1
    assert chat.texts()[0] == ("user", "question")

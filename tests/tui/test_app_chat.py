"""The way of a message, from Enter to the file, as a person sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from textual import events
from tui.app_support import ScriptedEngine, app_of, running, saved, send, settled, spoken, visible_text
from tui_helpers import screen_lines, wait_until

from glmtui.chat.conversation import Conversation
from glmtui.protocol.messages import Text
from glmtui.session.answer_task import AnswerTask
from glmtui.session.chat_session import ChatSession
from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui


async def test_it_opens_with_the_built_in_model_and_says_so() -> None:
    async with running() as (_pilot, app, _engine):
        text = visible_text(app.screen)
        assert "nano (built in)" in text
        assert "demo model" in text
        assert "F5" in text
        assert app.chat.composer.prompt.has_focus


async def test_a_message_is_answered_and_saved() -> None:
    async with running(ScriptedEngine("你好，我是 **nano**。")) as (pilot, app, engine):
        await send(pilot, "你好")
        await wait_until(pilot, lambda: saved(app).branch()[-1].state == "done")
        question, answer = saved(app).branch()
        assert (question.role, question.text) == ("user", "你好")
        assert answer.text == "你好，我是 **nano**。"
        assert answer.meta["model"] == "nano"
        assert answer.meta["tokens"] == 2
        assert "你好，我是 nano。" in visible_text(app.chat.transcript)
        assert [message.text for message in engine.generated[0].messages] == ["你好"]


async def test_escape_stops_and_keeps_what_came() -> None:
    async with running(ScriptedEngine("half and half", hold=True)) as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        assert "Esc stop" in visible_text(app.chat.hints)
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.session.answer is None)
        answer = saved(app).branch()[-1]
        assert (answer.text, answer.state) == ("half a", "stopped")
        assert "half a" in visible_text(app.chat.transcript)


async def test_what_is_sent_while_it_answers_waits_and_can_be_taken_back() -> None:
    async with running(ScriptedEngine("One.", "Two.", hold=True)) as (pilot, app, engine):
        await send(pilot, "first")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        await send(pilot, "second")
        await send(pilot, "third")
        assert "second" in visible_text(app.chat.queue_strip)
        await pilot.press("alt+up")
        assert app.chat.composer.text == "third"
        assert [item.text for item in app.session.queued] == ["second"]
        engine.finish()
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        engine.finish()
        await wait_until(pilot, lambda: app.session.answer is None)
        assert [text for _role, text in spoken(app)] == ["first", "One.", "second", "Two."]


async def test_a_message_written_while_the_model_loads_is_answered_then() -> None:
    async with running(ScriptedEngine("Here.", hold_load=True)) as (pilot, app, engine):
        await wait_until(pilot, lambda: "Loading" in visible_text(app.chat.status_line))
        await send(pilot, "early")
        assert spoken(app) == [("user", "early")]
        engine.finish_load()
        await wait_until(pilot, lambda: "Here." in visible_text(app.chat.transcript))


async def test_a_load_that_fails_says_what_to_do_and_the_app_goes_on() -> None:
    engine = ScriptedEngine("Fine.", hold_load=True)
    engine.fail = "There is no folder /nowhere."
    async with running(engine, AppOptions({"model.source": "/nowhere"})) as (pilot, app, _engine):
        engine.finish_load()
        await wait_until(pilot, lambda: app.session.state.activity == "none")
        await settled(pilot)
        text = visible_text(app.chat.transcript)
        assert "There is no folder /nowhere." in text
        assert "/model nano" in text
        await send(pilot, "hello?")
        assert app.chat.composer.text == "hello?", "what cannot be answered stays in the composer"
        engine.hold_load = False
        await send(pilot, "/model nano")
        await wait_until(pilot, lambda: app.session.state.activity == "ready")
        await send(pilot, "hello?")
        await wait_until(pilot, lambda: "Fine." in visible_text(app.chat.transcript))


async def test_a_failed_answer_is_explained_and_kept() -> None:
    engine = ScriptedEngine("never seen", hold=True)
    async with running(engine) as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        engine.fail = "The device is out of memory. Try /quant 4."
        engine.finish()
        await wait_until(pilot, lambda: app.session.answer is None)
        await settled(pilot)
        assert "Try /quant 4" in visible_text(app.chat.transcript)
        assert saved(app).branch()[-1].state == "failed"
        assert app.session.state.activity == "ready"


async def test_regenerating_makes_another_version() -> None:
    async with running(ScriptedEngine("First.", "Second.")) as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: "First." in visible_text(app.chat.transcript))
        await wait_until(pilot, lambda: app.session.answer is None)
        await send(pilot, "/regenerate")
        await wait_until(pilot, lambda: "Second." in visible_text(app.chat.transcript))
        await wait_until(pilot, lambda: app.session.answer is None)
        assert "First." not in visible_text(app.chat.transcript)
        conversation = saved(app)
        assert [m.text for m in conversation.siblings(conversation.branch()[-1].id)] == ["First.", "Second."]


async def test_an_edited_message_makes_a_branch() -> None:
    async with running(ScriptedEngine("To A.", "To B.")) as (pilot, app, engine):
        await send(pilot, "question A")
        await wait_until(pilot, lambda: "To A." in visible_text(app.chat.transcript))
        await wait_until(pilot, lambda: app.session.answer is None)
        await send(pilot, "/edit")
        assert app.chat.composer.text == "question A"
        await send(pilot, "question B")
        await wait_until(pilot, lambda: "To B." in visible_text(app.chat.transcript))
        assert "question A" not in visible_text(app.chat.transcript)
        assert [message.text for message in engine.generated[-1].messages] == ["question B"]


async def test_continuing_an_answer_keeps_what_was_there() -> None:
    async with running(ScriptedEngine("one two ", "three four", hold=True)) as (pilot, app, engine):
        await send(pilot, "Count")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.session.answer is None)
        engine.answers, engine.hold = ["two three"], False
        await send(pilot, "/continue")
        await wait_until(pilot, lambda: saved(app).branch()[-1].state == "done")
        assert saved(app).branch()[-1].text == "one two three"
        assert engine.generated[-1].continue_answer
        await wait_until(pilot, lambda: "nano · 3 tokens ·" in visible_text(app.chat.transcript))


async def test_coming_back_to_a_running_answer_shows_it_grow() -> None:
    async with running(ScriptedEngine("Here it is.", hold=True)) as (pilot, app, engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        first = app.session.conversation
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: app.session.conversation is not first)
        await app.session.open(first.id)
        assert app.session.conversation is first
        await wait_until(pilot, lambda: "Here" in visible_text(app.chat.transcript))
        engine.finish()
        await wait_until(pilot, lambda: "Here it is." in visible_text(app.chat.transcript))


async def test_what_came_already_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnswerTask, "CHECKPOINT_SECONDS", 0.0)  # all that came is in the file at once
    async with running(ScriptedEngine("One two. Three four.", hold=True)) as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: "One two." in visible_text(app.chat.transcript))
        await app.session.rebuild(app.chat.rebuild)
        await wait_until(pilot, lambda: "One two." in visible_text(app.chat.transcript))
        assert visible_text(app.chat.transcript).count("One two.") == 1
        await pilot.press("escape")
        await wait_until(pilot, lambda: not app.session.busy)
        await send(pilot, "/continue")
        await wait_until(pilot, lambda: visible_text(app.chat.transcript).count("One two.") == 2)
        await settled(pilot)
        assert app.session.answer is not None
        both = "One two. TOne two. T"
        assert app.session.answer.parts == (Text(both),), "what there was, and half of what comes"
        assert visible_text(app.chat.transcript).count("One two.") == 2


@pytest.mark.parametrize(("kind", "said"), [("bell", "bell"), ("system", "\x1b]9;glmtui: the answer is")])
async def test_a_long_answer_calls_who_looks_elsewhere(
    kind: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as (pilot, app, _engine):
        written: list[str] = []
        monkeypatch.setattr(app._driver, "write", written.append)
        monkeypatch.setattr(app, "bell", lambda: written.append("bell"))
        app.settings.set("ui.notify", kind)
        app.call_back(60)
        assert said not in "".join(written), "the person looks at the answer"
        app.post_message(events.AppBlur())
        await wait_until(pilot, lambda: not app.app_focus)
        app.call_back(1)
        assert said not in "".join(written), "it was quick"
        app.call_back(60)
        assert said in "".join(written)


async def test_quitting_keeps_the_answer_and_the_draft(home: Path) -> None:
    engine = ScriptedEngine("half and half", hold=True)
    async with running(engine) as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        app.chat.composer.text = "not sent yet"
        await pilot.press("ctrl+q")
    assert engine.closed
    assert saved(app).branch()[-1].text == "half a"
    async with running() as (pilot, app, _engine):
        assert "half a" in visible_text(app_of(pilot).chat.transcript)
        assert app.chat.composer.text == "not sent yet"
        assert app.chat.composer.prompt.sent == ["Go"]


async def test_what_another_program_writes_leaves_what_is_read_where_it_is() -> None:
    async with running() as (pilot, app, _engine):
        transcript, conversation = app.chat.transcript, app.session.conversation
        for number in range(30):
            conversation.append("user", f"question {number}\n\nof three lines")
        await app.session.select(conversation.branch()[-1].id)
        await settled(pilot)

        def read() -> list[str]:
            area = transcript.scrollable_content_region
            return [
                line[area.x : area.right].rstrip() for line in screen_lines(app)[area.y : area.bottom - 1]
            ]

        async def elsewhere(change: Callable[[Conversation], object]) -> None:
            change(saved(app))
            await app.session.reread()
            await settled(pilot)

        assert "question 29" in "".join(read())
        await elsewhere(lambda other: other.append("assistant", "from elsewhere"))
        assert "from elsewhere" in "".join(read()), "who is at the end stays there"
        app.session.notice("a notice")
        await settled(pilot)
        await pilot.press("pageup", "pageup")
        await settled(pilot)
        reading = read()
        assert "from elsewhere" not in "".join(reading)
        first = conversation.branch()[0].id
        await elsewhere(lambda other: other.append("user", "another"))
        assert read() == reading
        assert "new text below" in screen_lines(app)[transcript.region.bottom - 1]
        await elsewhere(lambda other: other.delete(other.branch()[-2].id))
        assert read() == reading
        await elsewhere(lambda other: other.finish(first, "question 0\n" * 9))
        assert read() == reading
        assert transcript.column.entries[0].text == "question 0\n" * 9
        app.chat.action_to_end()
        await settled(pilot)
        assert "question 29" in "".join(read())
        assert "a notice" in "".join(read())
        assert "from elsewhere" not in "".join(read())


async def test_the_tokens_of_a_draft_are_told_from_the_start_and_after_every_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    draft_changed = ChatSession.draft_changed
    monkeypatch.setattr(
        ChatSession,
        "draft_changed",
        lambda self, text, *files: (told.append(text), draft_changed(self, text, *files)),
    )

    def shown(app: GlmTui) -> str:
        return str(app.chat.composer.prompt.border_subtitle)

    async with running() as (pilot, app, _engine):
        app.chat.composer.text = "to be continued"
        await wait_until(pilot, lambda: "uses 15 of" in shown(app))
    told.clear()
    engine = ScriptedEngine(hold=True, hold_load=True)
    async with running(engine) as (pilot, app, _engine):
        await wait_until(pilot, lambda: "to be continued" in told)
        engine.finish_load()
        await wait_until(pilot, lambda: "uses 15 of" in shown(app))
        await send(pilot, "question")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        app.chat.composer.text = "meanwhile"
        await wait_until(pilot, lambda: "meanwhile" in told)
        engine.finish()
        await wait_until(pilot, lambda: "uses 9 of" in shown(app))


async def test_the_language_may_change_while_an_answer_begins() -> None:
    engine = ScriptedEngine("one", "two", hold=True)
    async with running(engine) as (pilot, app, _engine):
        await send(pilot, "question")
        engine.finish()
        await wait_until(pilot, lambda: app.session.answer is None)
        former = app.chat.transcript
        app.session.preferences.set("ui.language", "zh_CN")
        while app.chat.transcript is former:  # the new one is not there yet
            await asyncio.sleep(0)
        app.session.notice("by the way")
        await app.session.regenerate()
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        engine.finish()
        await wait_until(pilot, lambda: "two" in visible_text(app.chat.transcript))
        assert "question" in visible_text(app.chat.transcript)

"""A stop holds whenever it comes: each test drives the order of what happens."""

from __future__ import annotations

import pytest
from scripted_engine import ScriptedEngine
from textual import events
from tui.app_support import running, saved, send, settled, visible_text, wait_until


@pytest.mark.parametrize("stop", ["escape", "ctrl+c"])
async def test_a_stop_right_behind_enter(stop: str) -> None:
    """Both keys are in the queue before the app looks at either."""
    async with running(ScriptedEngine("An answer.", hold=True)) as (pilot, app, engine):
        await pilot.press(*"hi")
        for key in ("enter", stop):
            app.post_message(events.Key(key, None))
        await settled(pilot)
        await wait_until(pilot, lambda: not app.session.busy)
        assert all(request.request_id in engine.cancelled for request in engine.generated)
        assert saved(app).branch()[0].text == "hi"
        assert app.session.state.activity == "ready"
        await send(pilot, "again")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")


@pytest.mark.parametrize("moment", ["add", "begin_answer", "conversation_changed"])
async def test_escape_while_a_message_is_on_its_way(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(ScriptedEngine("An answer.", hold=True)) as (pilot, app, engine):
        original = getattr(app.chat, moment)

        def stop_first(*arguments: object) -> object:
            assert app.session.stop()
            return original(*arguments)

        monkeypatch.setattr(app.chat, moment, stop_first)
        await send(pilot, "hi")
        monkeypatch.undo()
        await wait_until(pilot, lambda: not app.session.busy)
        assert engine.generated == []
        assert saved(app).branch()[0].text == "hi"
        await send(pilot, "again")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")


async def test_escape_between_an_answer_and_what_waits_behind_it() -> None:
    async with running(ScriptedEngine("An answer.", hold=True)) as (pilot, app, engine):
        await send(pilot, "first")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        await send(pilot, "second")
        engine.finish()  # the app has not heard of it
        assert app.session.stop()
        await wait_until(pilot, lambda: not app.session.busy)
        assert len(engine.generated) == 1
        assert "held second" in visible_text(app.chat.queue_strip)
        assert saved(app).branch()[-1].state == "done", "it was complete before"


async def test_escape_when_the_model_was_just_loaded() -> None:
    async with running(ScriptedEngine("An answer.", hold_load=True)) as (pilot, app, engine):
        await send(pilot, "hi")
        engine.finish_load()  # the app has not heard of it
        assert app.session.stop()
        await wait_until(pilot, lambda: not app.session.busy)
        assert app.session.state.activity == "ready"
        assert engine.generated == []


async def test_what_is_asked_for_while_the_model_loads_waits_for_it() -> None:
    async with running(ScriptedEngine("An answer.", hold=True)) as (pilot, app, engine):
        await send(pilot, "hi")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        await pilot.press("escape")
        await wait_until(pilot, lambda: not app.session.busy)
        for command, turns, continued in (
            ("/continue", ["hi"], True), ("/regenerate", ["hi"], False),
        ):  # fmt: skip
            engine.hold_load = True
            await send(pilot, "/quant 4" if command == "/continue" else "/quant 8")
            await wait_until(pilot, lambda: app.session.state.activity == "loading")
            count = len(engine.generated)
            await send(pilot, command)
            assert "as soon as the model is loaded" in visible_text(app.chat.transcript)
            assert len(engine.generated) == count
            engine.finish_load()
            await wait_until(pilot, lambda count=count: len(engine.generated) == count + 1)
            request = engine.generated[-1]
            assert request.continue_answer is continued
            assert [turn.text for turn in request.turns if turn.role == "user"] == turns
            engine.finish()
            await wait_until(pilot, lambda: not app.session.busy)
        assert len(saved(app).siblings(saved(app).branch()[-1].id)) == 2


async def test_an_edited_message_waits_for_the_model_as_a_version() -> None:
    async with running(ScriptedEngine("An answer.")) as (pilot, app, engine):
        await send(pilot, "hi")
        await wait_until(pilot, lambda: not app.session.busy)
        engine.hold_load = True
        await send(pilot, "/quant 4")
        await wait_until(pilot, lambda: app.session.state.activity == "loading")
        await send(pilot, "/edit")
        assert "Another version" in str(app.chat.composer.prompt.border_title)
        await pilot.press("!", "enter")
        await settled(pilot)
        engine.finish_load()
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        assert [message.text for message in engine.generated[-1].messages] == ["hi!"]
        assert not app.chat.composer.prompt.border_title


async def test_what_waits_for_the_model_is_given_up_when_its_message_is_deleted() -> None:
    async with running(ScriptedEngine("An answer.", hold_load=True)) as (pilot, app, engine):
        await send(pilot, "hi")
        await app.session.delete(app.session.conversation.branch()[0].id)
        engine.finish_load()
        await wait_until(pilot, lambda: app.session.state.activity == "ready")
        await settled(pilot)
        assert engine.generated == []


async def test_what_waits_is_sent_after_a_change_of_the_model() -> None:
    async with running(ScriptedEngine("An answer.", hold=True)) as (pilot, app, engine):
        await send(pilot, "first")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        await send(pilot, "second")
        await send(pilot, "/quant 4")
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        assert engine.generated[-1].messages[-1].text == "second"

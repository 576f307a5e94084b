"""A cancel holds whenever it comes: each test drives the order of what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from session.conftest import Chat, ready

from glmtui.session.events import AnswerBegun, ConversationChanged, MessageAdded, SessionEvent

Make = Callable[..., Chat]


async def test_a_cancel_right_behind_enter(make: Make) -> None:
    """It comes before the session has looked at what was entered."""
    chat = await ready(make("An answer.", hold=True))
    sending = asyncio.create_task(chat.enter("hi"))
    await asyncio.sleep(0)
    chat.stop()
    await sending
    await chat.idle()
    assert all(request in chat.engine.cancelled for request in chat.engine.generated)
    assert chat.texts()[0] == ("user", "hi")
    assert chat.state.activity == "ready"
    await chat.enter("again")
    await chat.until(lambda: chat.state.activity == "answering")


@pytest.mark.parametrize("moment", [MessageAdded, AnswerBegun, ConversationChanged])
async def test_a_cancel_while_a_message_is_on_its_way(make: Make, moment: type[SessionEvent]) -> None:
    chat = await ready(make("An answer.", hold=True))
    stopped: list[bool] = []

    def stop_first(event: SessionEvent) -> None:
        if isinstance(event, moment) and not stopped:
            stopped.append(chat.stop())

    chat.subscribe(stop_first)
    await chat.enter("hi")
    await chat.idle()
    assert stopped == [True]
    assert chat.engine.generated == []
    assert chat.texts()[0] == ("user", "hi")
    await chat.enter("again")
    await chat.until(lambda: chat.state.activity == "answering")


async def test_a_cancel_between_an_answer_and_what_is_queued_behind_it(make: Make) -> None:
    chat = await ready(make("An answer.", hold=True))
    await chat.enter("first")
    await chat.until(lambda: chat.state.activity == "answering")
    await chat.enter("second")
    chat.engine.finish()  # the session has not heard of it
    assert chat.stop()
    await chat.idle()
    assert len(chat.engine.generated) == 1
    assert [(item.text, item.on_hold) for item in chat.state.queued] == [("second", True)]
    assert chat.saved().branch()[-1].state == "done", "it was complete before"


async def test_a_cancel_when_the_model_was_just_loaded(make: Make) -> None:
    chat = make("An answer.", hold_load=True)
    chat.load()
    await chat.enter("hi")
    chat.engine.finish_load()  # the session has not heard of it
    assert chat.stop()
    await chat.idle()
    assert chat.state.activity == "ready"
    assert chat.engine.generated == []


async def test_a_load_is_cancelled(make: Make) -> None:
    chat = make(hold_load=True)
    chat.load()
    assert chat.stop()
    await chat.idle()
    assert chat.state.activity == "none"
    assert chat.notices()[0] == "Loading nano was stopped."
    assert "/model nano" in chat.notices()[1]


async def test_what_is_asked_for_while_the_model_loads_waits_for_it(make: Make) -> None:
    chat = await ready(make("An answer.", hold=True))
    engine = chat.engine
    await chat.enter("hi")
    await chat.until(lambda: chat.state.activity == "answering")
    chat.stop()
    await chat.idle()
    for command, load, continued in (("/continue", "/quant 4", True), ("/regenerate", "/quant 8", False)):
        engine.hold_load = True
        await chat.enter(load)
        assert chat.state.activity == "loading"
        count = len(engine.generated)
        await chat.enter(command)
        assert "as soon as the model is loaded" in chat.notices()[-1]
        assert len(engine.generated) == count
        engine.finish_load()
        await chat.until(lambda count=count: len(engine.generated) == count + 1)
        request = engine.generated[-1]
        assert request.continue_answer is continued
        assert [message.text for message in request.messages if message.role == "user"] == ["hi"]
        engine.finish()
        await chat.idle()
    assert len(chat.saved().siblings(chat.saved().branch()[-1].id)) == 2


async def test_an_edited_message_waits_for_the_model_as_a_version(make: Make) -> None:
    chat = await ready(make("An answer."))
    await chat.enter("hi")
    await chat.idle()
    chat.engine.hold_load = True
    await chat.enter("/quant 4")
    await chat.enter("/edit")
    assert chat.state.editing == chat.conversation.branch()[0].id
    await chat.enter("hi!")
    assert chat.state.editing is None
    chat.engine.finish_load()
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert [message.text for message in chat.engine.generated[-1].messages] == ["hi!"]


async def test_what_waits_for_the_model_is_given_up_when_its_message_is_deleted(make: Make) -> None:
    chat = make("An answer.", hold_load=True)
    chat.load()
    await chat.enter("hi")
    await chat.delete(chat.conversation.branch()[0].id)
    chat.engine.finish_load()
    await chat.idle()
    assert chat.state.activity == "ready"
    assert chat.engine.generated == []


async def test_what_is_queued_is_sent_after_a_change_of_the_model(make: Make) -> None:
    chat = await ready(make("An answer.", hold=True))
    await chat.enter("first")
    await chat.until(lambda: chat.state.activity == "answering")
    await chat.enter("second")
    await chat.enter("/quant 4")
    await chat.until(lambda: len(chat.engine.generated) == 2)
    assert chat.engine.generated[-1].messages[-1].text == "second"
    assert chat.saved().branch()[1].state == "stopped"


@pytest.mark.parametrize("line", ["stop", "/stop"])
async def test_stop_is_a_command_and_a_word(make: Make, line: str) -> None:
    chat = await ready(make(hold=True))
    await chat.enter("Go")
    await chat.until(lambda: chat.state.activity == "answering")
    await chat.enter(line)
    await chat.idle()
    assert chat.saved().branch()[-1].state == "stopped"
    await chat.enter(line)
    assert chat.fake_ui.said[-1] == "Nothing is running."


@pytest.mark.parametrize("moment", [MessageAdded, AnswerBegun])
async def test_leaving_while_a_message_is_being_sent(make: Make, moment: type[SessionEvent]) -> None:
    chat = await ready(make("One."))
    chat.subscribe(lambda event: chat.close() if isinstance(event, moment) else None)
    await chat.enter("first")
    assert [r for r in chat.engine.generated if r not in chat.engine.cancelled] == []
    assert chat.texts()[0] == ("user", "first")
    assert chat.engine.closed

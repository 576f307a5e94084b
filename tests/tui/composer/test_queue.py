"""The messages that wait for their turn: seen, changed, moved, cancelled, held, and there after a restart."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from scripted_engine import ScriptedEngine
from textual.pilot import Pilot
from tui.app_support import running, saved, send, settled, spoken, visible_text, wait_until

from glmtui.chat.state_log import Drafts, QueuedMessage, QueuedMessages
from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui


@asynccontextmanager
async def waiting(
    *texts: str,
    size: tuple[int, int] = (120, 36),
) -> AsyncIterator[tuple[Pilot[None], GlmTui, ScriptedEngine]]:
    """Run the app while one message is being answered and `texts` wait."""
    engine = ScriptedEngine(*(f"Answer {n}." for n in range(len(texts) + 1)), hold=True)
    async with running(engine, size=size) as (pilot, app, _engine):
        await send(pilot, "first")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        for text in texts:
            await send(pilot, text)
        yield pilot, app, engine


def texts(app: GlmTui) -> list[str]:
    return [item.text for item in app.session.queued]


async def test_a_few_are_seen_and_all_of_them_with_a_key() -> None:
    async with waiting(*(f"number {n}" for n in range(9))) as (pilot, app, _engine):
        strip = app.chat.queue_strip
        assert "number 1" in visible_text(strip)
        assert "… 7 more" in visible_text(strip)
        assert "F7" in visible_text(strip)
        await pilot.press("f7")
        await settled(pilot)
        shown = visible_text(strip)
        assert [n for n in range(9) if f"number {n}" not in shown] == [], shown
        await pilot.press("escape")
        assert app.chat.scope() == "composer"
        assert app.session.answer is not None, "only the queue was left, nothing was stopped"


async def test_more_than_fit_scroll() -> None:
    async with waiting(*(f"number {n}." for n in range(20)), size=(80, 24)) as (pilot, app, _engine):
        await pilot.press("f7", *["down"] * 19)
        await settled(pilot)
        assert "number 19." in visible_text(app.chat.queue_strip)
        assert app.chat.queue_strip.size.height <= 8


async def test_walk_move_and_cancel() -> None:
    async with waiting("one", "two", "three") as (pilot, app, engine):
        await pilot.press("f7", "down", "down", "K")
        assert texts(app) == ["one", "three", "two"]
        await pilot.press("K", "K")
        assert texts(app) == ["three", "one", "two"]
        await pilot.press("down", "d")
        assert texts(app) == ["three", "two"]
        await pilot.press("u")
        await settled(pilot)
        assert texts(app) == ["three", "one", "two"]
        engine.finish()
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        assert engine.generated[-1].messages[-1].text == "three"


async def test_a_message_that_is_changed_keeps_its_place() -> None:
    async with waiting("one", "two", "three") as (pilot, app, _engine):
        await pilot.press("f7", "down", "enter")
        assert app.chat.composer.text == "two"
        assert texts(app) == ["one", "three"]
        await pilot.press("!", "enter")
        await settled(pilot)
        assert texts(app) == ["one", "two!", "three"]


async def test_the_mouse_edits_moves_and_cancels() -> None:
    async with waiting("one", "two", "three") as (pilot, app, _engine):
        strip = app.chat.queue_strip
        end = strip.styles.padding.left + strip.content_size.width
        await pilot.click(strip, offset=(end - 3, 1))
        await settled(pilot)
        assert texts(app) == ["two", "one", "three"]
        await pilot.click(strip, offset=(end - 1, 1))
        await settled(pilot)
        assert texts(app) == ["two", "three"]
        await pilot.click(strip, offset=(8, 0))
        await settled(pilot)
        assert app.chat.composer.text == "two"
        assert texts(app) == ["three"]


async def test_the_last_one_cancelled_gives_the_composer_the_focus() -> None:
    async with waiting("one") as (pilot, app, _engine):
        await pilot.press("f7", "d")
        await settled(pilot)
        assert not app.chat.queue_strip.display
        assert app.chat.scope() == "composer"


async def test_stopping_holds_what_waits_until_it_is_sent() -> None:
    async with waiting("one", "two", "three") as (pilot, app, engine):
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.session.answer is None)
        await settled(pilot)
        assert texts(app) == ["one", "two", "three"]
        assert visible_text(app.chat.queue_strip).count("held") == 3
        assert len(engine.generated) == 1
        await send(pilot, "another")
        engine.finish()
        await wait_until(pilot, lambda: app.session.answer is None)
        assert len(engine.generated) == 2, "what is held stays so"
        await pilot.press("f7", "down", "s")
        await wait_until(pilot, lambda: len(engine.generated) == 3)
        assert engine.generated[-1].messages[-1].text == "two"
        engine.finish()
        await wait_until(pilot, lambda: app.session.answer is None)
        await pilot.press("S")
        for count in (4, 5):
            await wait_until(pilot, lambda count=count: len(engine.generated) == count)
            engine.finish()
        await wait_until(pilot, lambda: app.session.answer is None)
        said = [text for role, text in spoken(app) if role == "user"]
        assert said == ["first", "another", "two", "one", "three"]


async def test_a_failed_answer_holds_what_waits() -> None:
    async with waiting("one") as (pilot, app, engine):
        engine.fail = "Out of memory."
        engine.finish()
        await wait_until(pilot, lambda: app.session.answer is None)
        await settled(pilot)
        assert "held" in visible_text(app.chat.queue_strip)
        assert len(engine.generated) == 1


async def test_what_waits_is_there_one_by_one_after_a_restart() -> None:
    async with waiting("one\nline", "two") as (pilot, app, _engine):
        await pilot.press(*"draft")
        await wait_until(pilot, lambda: "draft" in Drafts().get(app.session.conversation.id))
        again = AppOptions(conversation=app.session.conversation.path)
    for _time in range(2):
        async with running(options=again) as (pilot, app, engine):
            await settled(pilot)
            assert texts(app) == ["one\nline", "two"]
            assert app.chat.composer.text == "draft"
            assert "held one line" in visible_text(app.chat.queue_strip)
            assert engine.generated == []
    async with running(options=again) as (pilot, app, engine):
        await pilot.press("f7", "S")
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        await wait_until(pilot, lambda: not app.session.busy)
        assert not app.chat.queue_strip.display
    async with running(options=again) as (pilot, app, _engine):
        assert texts(app) == []


async def test_a_waiting_version_stays_a_version() -> None:
    async with waiting() as (pilot, app, engine):
        first = app.session.conversation.branch()[0].id
        app.session.edit(first)
        await pilot.press("!", "enter")
        await settled(pilot)
        app.session.edit(first)  # begun, but not what is sent next
        engine.finish()
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        assert [message.text for message in engine.generated[-1].messages] == ["first!"]
        assert app.session.state.editing == first


async def test_what_waits_elsewhere_is_shown_there_and_sent_there() -> None:
    async with waiting() as (pilot, app, engine):
        asked = app.session.conversation
        await pilot.press("ctrl+n")
        await settled(pilot)
        await send(pilot, "other")
        other = app.session.conversation
        await app.session.open_file(asked.path)  # type: ignore[arg-type]
        await settled(pilot)
        assert not app.chat.queue_strip.display
        engine.finish()
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        assert [message.text for message in engine.generated[-1].messages] == ["other"]
        assert [message.text for message in other.branch()] == ["other", ""]


async def test_a_conversation_in_which_messages_wait_is_not_deleted() -> None:
    async with waiting("one") as (pilot, app, _engine):
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.session.answer is None)
        await send(pilot, "/delete")
        await wait_until(pilot, lambda: "send or cancel them first" in visible_text(app.chat.transcript))
        assert app.library.list()


async def test_an_edit_goes_on_when_another_program_writes_to_the_conversation() -> None:
    async with waiting() as (pilot, app, engine):
        engine.finish()
        await wait_until(pilot, lambda: not app.session.busy)
        first = app.session.conversation.branch()[0].id
        app.session.edit(first)
        saved(app).append("user", "from elsewhere")
        await app.session.reread()
        await wait_until(pilot, lambda: "from elsewhere" in visible_text(app.chat.transcript))
        assert app.session.state.editing == first


def test_only_one_of_two_running_programs_has_what_waits(home: object) -> None:
    mine, other = QueuedMessages(), QueuedMessages()
    other._owner = [os.getppid(), _since(os.getppid())]
    other.set("c", [QueuedMessage.of("theirs")])
    assert mine.get("c") == []
    other._owner = [os.getppid(), 1.0]  # a process that is gone; its number is another's now
    other.set("c", [QueuedMessage.of("theirs", "m1"), QueuedMessage.of("more")])
    assert mine.get("c") == [QueuedMessage.of("theirs", "m1"), QueuedMessage.of("more")]


def _since(pid: int) -> float:
    import psutil

    return psutil.Process(pid).create_time()


@pytest.mark.parametrize("record", ["x", [1], {"process": 3, "items": "no"}, {"items": [1, {"text": 2}]}])
def test_a_damaged_file_of_waiting_messages_is_no_trouble(record: object) -> None:
    texts = QueuedMessages()
    texts._file.set("c", record)
    assert QueuedMessages().get("c") == []

"""The messages that wait for their turn: seen, changed, moved, cancelled, held, and there after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from scripted_engine import ScriptedEngine
from textual.pilot import Pilot
from tui.app_support import running, send, settled, spoken, visible_text
from tui_helpers import wait_until

from glmtui.chat.state_log import Drafts
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
        assert visible_text(app.chat.queue_strip).count("on hold") == 3
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


@pytest.mark.slow
async def test_what_waits_is_there_one_by_one_after_a_restart() -> None:
    async with waiting("one\nline", "two") as (pilot, app, _engine):
        await pilot.press(*"draft")
        await wait_until(pilot, lambda: "draft" in Drafts().get(app.session.conversation.id).text)
        again = AppOptions(conversation=app.session.conversation.path)
    for _time in range(2):
        async with running(options=again) as (pilot, app, engine):
            await settled(pilot)
            assert texts(app) == ["one\nline", "two"]
            assert app.chat.composer.text == "draft"
            assert "on hold one line" in visible_text(app.chat.queue_strip)
            assert engine.generated == []
    async with running(options=again) as (pilot, app, engine):
        await pilot.press("f7", "S")
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        await wait_until(pilot, lambda: not app.session.busy)
        assert not app.chat.queue_strip.display
    async with running(options=again) as (pilot, app, _engine):
        assert texts(app) == []

"""What nobody foresaw is told once, and the app goes on with all that it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Static
from tui.app_support import running, send, spoken
from tui_helpers import screen_text, wait_until

from glmtui.session import events as told
from glmtui.tui.app import GlmTui
from glmtui.tui.screens.help import HelpScreen
from glmtui.tui.transcript.column import Entry
from glmtui.tui.transcript.message import MessageEntry, NoticeEntry

pytestmark = pytest.mark.faults


def fail(*_arguments: Any, **_options: Any) -> Any:
    raise ZeroDivisionError("nobody foresaw it")


async def fail_later() -> None:
    fail()


def said(app: GlmTui) -> list[str]:
    """The notices of the transcript that are about unexpected errors."""
    entries = app.chat.transcript.column.entries
    return [each.text for each in entries if isinstance(each, NoticeEntry) and "Unexpected" in each.text]


class Broken(Static):
    """Cannot be drawn, or cannot be measured."""

    def render(self) -> Any:
        fail()


class Unmeasured(Widget):
    DEFAULT_CSS = "Unmeasured { height: auto; }"

    def get_content_height(self, *_arguments: Any) -> int:
        return int(fail())


async def by_timer(app: GlmTui, _pilot: Pilot[None], _patch: pytest.MonkeyPatch) -> None:
    app.set_interval(0.01, fail)


async def by_key(_app: GlmTui, pilot: Pilot[None], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GlmTui, "action_help", fail)
    await pilot.press("f1")


async def by_worker(app: GlmTui, _pilot: Pilot[None], _patch: pytest.MonkeyPatch) -> None:
    app.run_worker(fail_later())


async def by_command(app: GlmTui, pilot: Pilot[None], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(type(app.session), "undo", fail)
    await send(pilot, "/undo")


async def by_event(app: GlmTui, _pilot: Pilot[None], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(app.chat.title_bar, "show", fail)
    app.session._publish(told.ConversationChanged("x", "x"))


async def by_drawing(app: GlmTui, _pilot: Pilot[None], _patch: pytest.MonkeyPatch) -> None:
    await app.chat.mount(Broken())


async def by_layout(app: GlmTui, _pilot: Pilot[None], _patch: pytest.MonkeyPatch) -> None:
    await app.chat.mount(Unmeasured())


async def by_a_dialog(app: GlmTui, _pilot: Pilot[None], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HelpScreen, "body", fail)
    await app.show("help")


WAYS = (by_timer, by_key, by_worker, by_command, by_event, by_drawing, by_layout, by_a_dialog)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_app_goes_on(way: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    async with running() as (pilot, app, _engine):
        app.chat.composer.text = "" if way is by_command else "a draft"
        with monkeypatch.context() as patch:
            await way(app, pilot, patch)
            await wait_until(pilot, lambda: said(app))
            await pilot.pause(0.1)
            assert len(said(app)) == 1, "it is told once"
            if app.screen is not app.chat:
                app.pop_screen()
        assert app.chat.composer.text == ("" if way is by_command else "a draft")
        app.chat.composer.focus()
        await send(pilot, "still there?")
        await wait_until(pilot, lambda: len(spoken(app)) == 2)
    log = (home / "state" / "glmtui.log").read_text("utf-8")
    assert log.count("builtins.ZeroDivisionError") == 1
    assert "still there" not in log


async def test_a_message_that_cannot_be_set_into_lines_costs_itself_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lines(entry: MessageEntry, width: int) -> Any:
        return fail() if entry.text == "broken" else body(entry, width)

    body = MessageEntry.body
    async with running() as (pilot, app, _engine):
        await send(pilot, "sound")
        monkeypatch.setattr(MessageEntry, "body", lines)
        await send(pilot, "broken")
        await wait_until(pilot, lambda: said(app))
        text = screen_text(app)
        assert "sound" in text
        assert "Unexpected error (ZeroDivisionError)" in text
        broken = [each for each in app.chat.transcript.column if each.text == "broken"]
        assert all(isinstance(each, Entry) for each in broken)


async def test_without_memory_it_ends_and_says_so() -> None:
    def use_up() -> None:
        raise MemoryError

    async with running() as (pilot, app, _engine):
        app.set_timer(0.01, use_up)
        await wait_until(pilot, lambda: app.ended_by is not None)
        assert app.return_code == 1


async def test_an_answer_of_which_the_end_cannot_be_taken_in_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as (pilot, app, _engine):
        with monkeypatch.context() as patch:
            patch.setattr(type(app.session), "_on_answer", fail)
            await send(pilot, "hi")
            await wait_until(pilot, lambda: not app.session.answering)
        await send(pilot, "again")
        await wait_until(pilot, lambda: len(spoken(app)) == 4)


async def test_what_half_made_widgets_miss_while_it_ends_does_not_change_how_it_ends() -> None:
    async with running() as (_pilot, app, _engine):
        app.quit(143)
        del app.__dict__["session"]  # as when it is ended before there is one
        app.fault(LookupError("no such widget"))
        assert app.ended_by is None
        assert app.return_code == 143

"""Keys that mean the same everywhere, and where typing goes."""

from __future__ import annotations

from typing import get_args

import pytest
from textual.events import Key
from tui.app_support import running, send, settled
from tui_helpers import wait_until

from glmtui.session.ui import View
from glmtui.tui.screens.prompt import PromptScreen


@pytest.mark.slow
async def test_ctrl_c_twice_quits_over_every_dialog(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as (pilot, app, _engine):
        quits: list[str] = []
        monkeypatch.setattr(app, "quit", lambda: quits.append(type(app.screen).__name__))

        async def press_twice() -> None:
            app._interrupted = -app.INTERRUPT_SECONDS
            await pilot.press("ctrl+c", "ctrl+c")
            while app.screen is not app.chat:
                app.pop_screen()
                await pilot.pause()

        views = [view for view in get_args(View) if view not in ("queue", "conversations", "settings")]
        for view in views:
            app.run_worker(app.show(view))
            await pilot.pause(0.05)
            await press_twice()
        app.push_screen(PromptScreen("title", "text"))
        await pilot.pause()
        assert app.screen.query_one("Input").selected_text == "text"  # type: ignore[attr-defined]
        await press_twice()
        await pilot.press("w", "o", "shift+home")
        await press_twice()
        app.action_command_palette()
        await pilot.pause()
        await press_twice()
        assert len(quits) == len(views) + 3


async def test_what_input_methods_type_arrives_everywhere() -> None:
    typed = "全　角\xa0می\u200cخ👩\u200d💻\ue000"
    async with running() as (pilot, app, _engine):
        app.chat.history.search.focus()
        for character in typed:
            app.post_message(Key(character, character))
        await wait_until(pilot, lambda: app.chat.history.search.value == typed)
        app.chat.composer.focus()
        await pilot.pause()
        for character in typed:
            app.post_message(Key(character, character))
        await wait_until(pilot, lambda: app.chat.composer.text == typed)


async def test_who_types_a_command_for_a_pane_writes_on_and_who_presses_a_key_goes_there() -> None:
    async with running() as (pilot, app, _engine):
        for line in ("/history", "/history", "/trash", "/search words", "/settings"):
            await send(pilot, line)
            assert app.chat.scope() == "composer", line
        await pilot.press("f3", "f3")
        await settled(pilot)
        assert app.chat.scope() == "settings"


async def test_below_128_columns_one_pane_leaves_room_for_the_chat() -> None:
    async with running(size=(110, 36)) as (pilot, app, _engine):
        await pilot.press("f3")
        await settled(pilot)
        assert app.chat.has_class("-settings")
        assert not app.chat.has_class("-history")
        assert app.chat.query_one("#chat").size.width > 60
        await pilot.press("f2")
        await settled(pilot)
        assert app.chat.has_class("-history")
        assert not app.chat.has_class("-settings")


async def test_what_was_opened_ends_the_search() -> None:
    async with running() as (pilot, app, _engine):
        await send(pilot, "question")
        app.chat.history.search.value = "nothing like it"
        await pilot.press("ctrl+n")
        await settled(pilot)
        assert app.chat.history.search.value == ""

"""A stop holds whenever it comes: each test drives the order of what happens."""

from __future__ import annotations

import pytest
from scripted_engine import ScriptedEngine
from textual import events
from tui.app_support import running, saved, send, settled
from tui_helpers import wait_until


@pytest.mark.parametrize("stop", ["escape", "ctrl+c"])
async def test_a_stop_right_behind_enter(stop: str) -> None:
    """Both keys are in the queue before the app looks at either."""
    async with running(ScriptedEngine("An answer.", hold=True)) as (pilot, app, engine):
        await pilot.press(*"hi")
        for key in ("enter", stop):
            app.post_message(events.Key(key, None))
        await settled(pilot)
        await wait_until(pilot, lambda: not app.session.busy)
        assert all(request in engine.cancelled for request in engine.generated)
        assert saved(app).branch()[0].text == "hi"
        assert app.session.state.activity == "ready"
        await send(pilot, "again")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")


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

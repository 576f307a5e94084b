"""The app around an engine that does what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from scripted_engine import ScriptedEngine
from textual.pilot import Pilot
from textual.widget import Widget
from tui_helpers import wait_until

from glmtui.chat.conversation import Conversation
from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui


def app_of(pilot: Pilot[Any]) -> GlmTui:
    assert isinstance(pilot.app, GlmTui)
    return pilot.app


@asynccontextmanager
async def running(
    engine: ScriptedEngine | None = None,
    options: AppOptions = AppOptions(),  # noqa: B008 (frozen)
    size: tuple[int, int] = (120, 36),
    *,
    notifications: bool = False,
) -> AsyncIterator[tuple[Pilot[None], GlmTui, ScriptedEngine]]:
    """Run the app until the model is loaded (or half loaded, if the engine holds it)."""
    engine = engine or ScriptedEngine()
    app = GlmTui(options, engine=engine)
    async with app.run_test(size=size, notifications=notifications) as pilot:
        expected = ("loading",) if engine.hold_load else ("ready", "none")
        await wait_until(pilot, lambda: app.session.state.activity in expected)
        await settled(pilot)
        yield pilot, app, engine


async def settled(pilot: Pilot[None]) -> None:
    """Wait until nothing is under way."""
    await wait_until(pilot, lambda: not any(worker.is_running for worker in pilot.app.workers))
    await pilot.pause()


async def send(pilot: Pilot[None], text: str) -> None:
    """Write `text` into the composer and press Enter; offers are turned down first."""
    app = app_of(pilot)
    app.chat.composer.text = text
    await pilot.pause()
    if app.chat.composer.popup.is_open:
        await pilot.press("escape")
    await pilot.press("enter")
    await settled(pilot)


def visible_text(widget: Widget) -> str:
    """All text a person can read in `widget`, top to bottom."""
    lines = []
    for node in widget.walk_children(Widget, with_self=True):
        if not node.display or node.children:
            continue
        if node.size:
            lines += [line.text.rstrip() for line in node.render_lines(node.size.region)]
    return "\n".join(line for line in lines if line)


def saved(app: GlmTui) -> Conversation:
    """The open conversation as its file has it."""
    path = app.session.conversation.path
    assert path is not None
    return Conversation.open(path)


def spoken(app: GlmTui) -> list[tuple[str, str]]:
    """Role and text of what is on disk."""
    return [(message.role, message.text) for message in saved(app).branch()]

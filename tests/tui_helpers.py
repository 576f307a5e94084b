"""What tests of widgets share: waiting for conditions, a bare app, messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from textual.app import App, ComposeResult
from textual.message import Message as TextualMessage
from textual.pilot import Pilot
from textual.widget import Widget

import glmtui.tui
from glmtui.chat.conversation import Message

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


async def wait_until(pilot: Pilot[Any], condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until `condition` holds; one pause of the pilot is no promise."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        await pilot.pause(0.01)
        if condition():
            return
        if loop.time() > deadline:
            raise AssertionError(f"not within {seconds} s: {condition}")


class Host(App[None]):
    """An app of nothing but the widgets under test; it keeps the messages that reach it."""

    CSS_PATH = str(Path(glmtui.tui.__file__).with_name("app.tcss"))
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None

    def __init__(self, *widgets: Widget, keep: tuple[type[TextualMessage], ...] = ()) -> None:
        super().__init__()
        self.widgets = widgets
        self.keep = keep
        self.kept: list[TextualMessage] = []

    def compose(self) -> ComposeResult:
        yield from self.widgets

    async def _on_message(self, message: TextualMessage) -> None:
        if isinstance(message, self.keep):
            self.kept.append(message)
        await super()._on_message(message)


def screen_lines(app: App[Any]) -> list[str]:
    """Return what is on the screen, line by line, without the blanks at the ends."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def screen_text(app: App[Any]) -> str:
    """Return what is on the screen."""
    return "\n".join(screen_lines(app))


def dialogue(count: int, *, text: Callable[[int], str] | None = None) -> list[Message]:
    """Return `count` messages by turns of the user and the assistant."""
    return list(_dialogue(count, text or (lambda number: f"message number {number}")))


def _dialogue(count: int, text: Callable[[int], str]) -> Iterator[Message]:
    for number in range(count):
        role = "assistant" if number % 2 else "user"
        parent = f"m{number - 1}" if number else None
        meta = {"model": "nano", "quant": "8", "tokens": 42, "tokens_per_second": 31.4} if number % 2 else {}
        yield Message.of(f"m{number}", parent, role, text(number), NOON, meta=meta)

"""Everything that is written on the screen can be read: measured on what is drawn, in every theme."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.style import Style
from textual.color import Color
from tui.app_support import ScriptedEngine, running, send, settled
from tui.test_themes import contrast
from tui_helpers import wait_until

from glmtui.chat.library import Library
from glmtui.session.options import AppOptions
from glmtui.tui import themes
from glmtui.tui.app import GlmTui

pytestmark = pytest.mark.slow

SHIPPED = [name for name, file in themes.load().themes.items() if not file.theme.ansi]
ANSWER = """\
# A title

Some **bold**, *italic* and `code`, a [link](https://example.com), and ~~a mistake~~.

> Quoted words.

1. one
2. two

| A | B |
| --- | --- |
| 1 | 2 |

```python
class Plain:  # a comment
    def method(self, number: int = 42) -> str:
        return f"text {number}" if number else None
```
"""


def drawn(app: GlmTui) -> Iterator[tuple[str, Style]]:
    """Yield every piece of text on the screen; under a dialog, which dims it, only that of the dialog."""
    dialogs = app.screen.query(".dialog, CommandPalette > Vertical")
    region = dialogs.first().region if dialogs else app.screen.region
    for strip in app.screen._compositor.render_strips()[region.y : region.bottom]:
        for text, style, _control in strip.crop(region.x, region.right):
            if style is not None and any(character.isalnum() for character in text):
                yield text, style


def weak_text(app: GlmTui, needed: float) -> Iterator[str]:
    """Yield what stands out too little, with its colours."""
    for text, style in drawn(app):
        if style.color is None or style.bgcolor is None:
            continue
        front, back = Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)
        if (ratio := contrast(front, back)) < needed:
            yield f"{text.strip()!r}: {front.hex} on {back.hex} is {ratio:.2f}"


@pytest.mark.parametrize("name", SHIPPED)
async def test_what_is_written_can_be_read(name: str) -> None:
    needed = 7.0 if name == "high-contrast" else 4.5
    for question in ("First question", "量化的问题"):
        Library().create().append("user", question)
    weak: set[str] = set()
    async with running(ScriptedEngine(ANSWER), AppOptions({"ui.theme": name}), (150, 44)) as (
        pilot,
        app,
        _engine,
    ):

        async def look(where: str) -> None:
            await settled(pilot)
            weak.update(f"{where}: {problem}" for problem in weak_text(app, needed))

        await look("welcome")
        await send(pilot, "Ask")
        await wait_until(pilot, lambda: app.session.answer is None)
        await look("conversation")
        app.chat.transcript.focus()
        await pilot.press("k")
        await look("chosen message")
        app.chat.transcript.text_select_all()
        await look("selection")
        app.screen.clear_selection()
        await pilot.press("f3")
        app.chat.settings_pane.focus_row("generation.temperature")
        await pilot.press("o", "left")
        await look("settings")
        app.chat.settings_pane.focus_row("generation.seed")
        await pilot.press("enter", *"forty", "enter")
        await look("wrong value")
        app.chat.history.search.value = "question"
        await wait_until(pilot, lambda: bool(app.chat.history._hits))
        app.chat.history.list.focus()
        await pilot.press("down")
        await look("search")
        app.session.notice("Something to know", "warning")
        app.session.notice("Something wrong", "error")
        app.say("Said for a moment")
        app.chat.composer.focus()
        await pilot.press("/", "s")
        await look("completion, notices, toast")
        await pilot.press("escape")
        app.chat.composer.text = ""
        for key in ("f1", "ctrl+p"):
            await pilot.press(key)
            await wait_until(pilot, lambda: app.screen is not app.chat)
            await look(key)
            await pilot.press("escape")
            await wait_until(pilot, lambda: app.screen is app.chat)
        await send(pilot, "/keys")
        await look("keys")
    assert not weak, "\n".join(sorted(weak))

"""Wide characters stay whole where one widget lies over others."""

from __future__ import annotations

import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.geometry import Offset, Region
from textual.screen import Screen
from textual.widgets import Static
from tui.app_support import running
from tui_helpers import dialogue, screen_lines, wait_until

from glmtui.chat.library import Library
from glmtui.tui.textual_patches import compositor
from glmtui.tui.transcript.transcript import Transcript

OVER = "中文字符不应该消失"


class Layers(Screen[None]):
    def __init__(self, *, mended: bool = True) -> None:
        super().__init__()
        if mended:
            compositor.install(self)

    def compose(self) -> ComposeResult:
        with Horizontal():
            for number in range(6):
                yield Static(str(number) * 15, classes="cell")
        yield Static(OVER, id="over")


class LayersApp(App[None]):
    CSS = """
    Layers { layers: base over; }
    Horizontal { height: 3; }
    .cell { width: 5; height: 3; }
    #over { layer: over; dock: left; width: 20; height: 2; }
    """

    def __init__(self, *, mended: bool = True) -> None:
        super().__init__()
        self.mended = mended

    def get_default_screen(self) -> Screen[None]:
        return Layers(mended=self.mended)


async def test_textual_still_loses_them() -> None:
    app = LayersApp(mended=False)
    async with app.run_test(size=(40, 4)) as pilot:
        await pilot.pause()
        assert OVER not in screen_lines(app)[0], "Textual keeps them: remove CompleteGlyphs"


async def test_nothing_is_lost_and_what_lies_below_stays_where_it_is() -> None:
    app = LayersApp()
    async with app.run_test(size=(40, 4)) as pilot:
        await pilot.pause()
        lines = screen_lines(app)
        assert lines[0].rstrip() == OVER + "  " + "44444" + "55555"
        assert lines[1].rstrip() == " " * 20 + "44444" + "55555"
        assert lines[2].rstrip() == "000001111122222333334444455555"
        app.screen.query_one("#over").offset = Offset(3, 1)
        await wait_until(pilot, lambda: screen_lines(app)[0].startswith("00000"))
        assert screen_lines(app)[1].rstrip() == "000" + OVER + "  " + "44" + "55555"


async def test_a_part_drawn_again_is_as_it_was() -> None:
    app = LayersApp()
    async with app.run_test(size=(40, 4)) as pilot:
        await pilot.pause()
        app.screen.query(".cell").last(Static).update("x" * 15)
        app.screen._compositor._dirty_regions = {Region(10, 0, 3, 1), Region(25, 0, 5, 1)}
        update = app.screen._compositor.render_partial_update()
        assert update is not None
        drawn = Text.from_ansi(update.render_segments(app.console)).plain
        assert OVER in drawn
        assert drawn.endswith("xxxxx")


@pytest.mark.parametrize("title", ["怎样把模型量化到四比特", "a怎样把模型量化到四比特"])
async def test_titles_are_whole_in_the_history_over_the_chat(title: str) -> None:
    conversation = Library().create()
    conversation.append("user", title)
    conversation.append("assistant", "# 标题\n\n- 一\n- 二\n\n```python\nprint(1)\n```")
    async with running(size=(80, 24)) as (pilot, app, _engine):
        await pilot.press("f2")
        await wait_until(pilot, lambda: any(title in line for line in screen_lines(app)))


class Padded(Screen[None]):
    def __init__(self, *, mended: bool) -> None:
        super().__init__()
        self.transcript = Transcript()
        self.transcript.styles.padding = (0, 4)
        if mended:
            compositor.install(self)

    def compose(self) -> ComposeResult:
        yield self.transcript


@pytest.mark.parametrize("mended", [True, False])
async def test_left_of_a_scrolled_text_is_the_start_of_the_line_next_to_it(mended: bool) -> None:
    app: App[None] = App()
    async with app.run_test(size=(60, 10)) as pilot:
        screen = Padded(mended=mended)
        await app.push_screen(screen)
        screen.transcript.show(dialogue(40))
        await pilot.pause()
        _widget, inside = screen.get_widget_and_offset_at(4, 5)
        _widget, left = screen.get_widget_and_offset_at(1, 5)
        assert (inside == left) is mended, "Textual finds it itself: remove get_widget_and_offset_at"

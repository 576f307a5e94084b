"""A Markdown text as a widget: what is drawn, clicked, selected."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from textual import events
from textual.pilot import Pilot
from tui_helpers import Host, screen_lines, screen_text, wait_until

from glmtui.tui.transcript.text_scroll import MarkdownEntry, MarkdownScroll, TextScroll


@pytest_asyncio.fixture
async def pilot() -> AsyncIterator[Pilot[None]]:
    keep = (TextScroll.LinkClicked, TextScroll.CodeClicked)
    async with Host(MarkdownScroll(), keep=keep).run_test(size=(60, 20)) as pilot:
        yield pilot


async def show(pilot: Pilot[None], text: str) -> MarkdownScroll:
    widget = pilot.app.query_one(MarkdownScroll)
    widget.clear_entries()
    widget.append_entries([MarkdownEntry(text)], follow=False)
    await wait_until(pilot, lambda: screen_text(pilot.app).strip())
    await pilot.pause()
    return widget


async def drag(pilot: Pilot[None], start: tuple[int, int], end: tuple[int, int]) -> str | None:
    """Select with the mouse from cell to cell; return what is copied."""
    await pilot.mouse_down(offset=start)
    await pilot._post_mouse_events([events.MouseMove], offset=end, button=1)
    await pilot.mouse_up(offset=end)
    await pilot.pause()
    return pilot.app.screen.get_selected_text()


async def test_links_are_posted_and_not_opened(pilot: Pilot[None], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(pilot.app, "open_url", lambda url, **_options: opened.append(url))
    await show(pilot, "https://a.b/c 后")
    await pilot.click(offset=(3, 0))
    await wait_until(pilot, lambda: pilot.app.kept)  # type: ignore[attr-defined]
    assert [message.href for message in pilot.app.kept] == ["https://a.b/c"]  # type: ignore[attr-defined]
    assert opened == []


async def test_the_word_copy_on_a_code_block_copies_it(pilot: Pilot[None]) -> None:
    await show(pilot, "```py\nx = 1\n```")
    await pilot.click(offset=(screen_lines(pilot.app)[0].index("copy") + 1, 0))
    await wait_until(pilot, lambda: pilot.app.kept)  # type: ignore[attr-defined]
    assert [message.code for message in pilot.app.kept] == ["x = 1"]  # type: ignore[attr-defined]


async def test_what_is_selected_with_the_mouse_is_text_without_frames(pilot: Pilot[None]) -> None:
    await show(pilot, "第一行文字\n\n```py\nx = '中文'\ny = 2\n```\n\n" + "很长的句子" * 15)
    assert await drag(pilot, (2, 0), (5, 0)) == "一行"
    assert await drag(pilot, (0, 3), (20, 4)) == "x = '中文'\ny = 2"
    assert await drag(pilot, (0, 7), (59, 9)) == "很长的句子" * 15


async def test_a_double_click_selects_a_word_and_a_third_the_paragraph(pilot: Pilot[None]) -> None:
    text = "Select words, please. " + "一个很长的段落" * 8
    await show(pilot, text)
    await pilot.click(offset=(9, 0), times=2)
    await pilot.pause()
    assert pilot.app.screen.get_selected_text() == "words"
    await pilot.click(offset=(9, 1), times=3)
    await pilot.pause()
    assert pilot.app.screen.get_selected_text() == text


async def test_a_theme_is_followed(pilot: Pilot[None]) -> None:
    widget = await show(pilot, "# 标题\n\n```python\ndef f(): pass\n```")

    def colours() -> set[object]:
        return {
            segment.style.color
            for strip in widget.render_lines(widget.size.region)
            for segment in strip
            if segment.style and segment.text.strip()
        }

    pilot.app.theme = "textual-dark"
    await pilot.pause()
    dark = colours()
    pilot.app.theme = "textual-light"
    await wait_until(pilot, lambda: not colours() & dark)


async def test_a_text_is_the_same_after_other_widths(pilot: Pilot[None]) -> None:
    await show(pilot, "一\n\n二" * 30)
    before = screen_lines(pilot.app)
    for width in (30, 60):
        await pilot.resize_terminal(width, 20)
        await pilot.pause()
    assert screen_lines(pilot.app) == before

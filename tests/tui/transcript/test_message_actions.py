"""What is done with messages, links and selections, in the whole app."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from textual import events
from textual.pilot import Pilot
from tui.app_support import ScriptedEngine, running, saved, send, settled
from tui_helpers import screen_text, wait_until

from glmtui.chat.library import Library
from glmtui.session.attached_file import AttachedFile
from glmtui.tui.app import GlmTui
from glmtui.tui.screens.links import LinkScreen
from glmtui.tui.transcript.transcript import Transcript


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reached the clipboard."""
    found: list[str] = []
    monkeypatch.setattr(GlmTui, "copy_to_clipboard", lambda _app, text: found.append(text))
    monkeypatch.setattr("glmtui.session.clipboard.copy_with_tool", lambda _text: True)
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was given to the browser."""
    found: list[str] = []
    monkeypatch.setattr(GlmTui, "open_url", lambda _app, url, **_options: found.append(url))
    return found


def place_of(app: GlmTui, text: str) -> tuple[int, int]:
    """Where a text stands in the transcript, in cells of the screen."""
    area = app.chat.transcript.region
    for y in area.line_range:
        line = app.screen._compositor.render_strips()[y].crop(area.x, area.right).text
        if text in line:
            return area.x + cell_len(line[: line.index(text)]), y
    raise AssertionError(f"{text} is not in the transcript")


async def drag(pilot: Pilot[None], start: tuple[int, int], end: tuple[int, int]) -> None:
    await pilot.mouse_down(offset=start)
    await pilot._post_mouse_events([events.MouseMove], offset=end, button=1)
    await pilot.mouse_up(offset=end)
    await pilot.pause()


async def press(pilot: Pilot[None], keys: Sequence[str]) -> None:
    await pilot.press(*keys)
    await settled(pilot)


async def test_a_clicked_link_is_shown_and_opened_only_when_one_says_so(opened: list[str]) -> None:
    async with running(ScriptedEngine("见[说明](https://example.org/a?b=1)。")) as (pilot, app, _engine):
        await send(pilot, "?")
        await wait_until(pilot, lambda: "说明" in screen_text(app))
        x, y = place_of(app, "说明")
        await pilot.click(offset=(x + 1, y))
        await wait_until(pilot, lambda: isinstance(app.screen, LinkScreen))
        assert "https://example.org/a?b=1" in screen_text(app)
        assert opened == []
        await pilot.press("escape")
        await pilot.click(offset=(x + 1, y))
        await wait_until(pilot, lambda: isinstance(app.screen, LinkScreen))
        await pilot.press("enter")
        await wait_until(pilot, lambda: opened == ["https://example.org/a?b=1"])


async def test_links_are_reached_by_key_and_copied(opened: list[str], copied: list[str]) -> None:
    answer = "https://a.b/c 和 [x](https://d.e) 和 https://a.b/c 和 [y](ftp://f.g)"
    async with running(ScriptedEngine(answer)) as (pilot, app, _engine):
        await send(pilot, "?")
        app.chat.transcript.focus()
        await press(pilot, ["x"])
        await wait_until(pilot, lambda: isinstance(app.screen, LinkScreen))
        await press(pilot, ["down", "c"])
        assert copied == ["https://d.e"]
        await press(pilot, ["x"])
        await wait_until(pilot, lambda: isinstance(app.screen, LinkScreen))
        await press(pilot, ["down", "down", "enter"])
        assert opened == [], "only addresses for browsers are opened"


async def test_what_is_selected_with_the_mouse_is_copied_by_ctrl_c(copied: list[str]) -> None:
    async with running(ScriptedEngine("第一段中文文字\n\n- 第二段")) as (pilot, app, engine):
        await send(pilot, "?")
        await wait_until(pilot, lambda: "第二段" in screen_text(app))
        x, y = place_of(app, "第一段")
        await drag(pilot, (x + 2, y), (x + 9, y))
        app.chat.composer.focus()
        await press(pilot, ["ctrl+c"])
        assert copied == ["一段中文"]
        assert engine.generated


async def test_from_the_composer_pages_are_read_and_the_end_is_reached() -> None:
    answer = "\n\n".join(f"段落 {number}" for number in range(60))
    async with running(ScriptedEngine(answer)) as (pilot, app, _engine):
        await send(pilot, "?")
        await wait_until(pilot, lambda: "段落 59" in screen_text(app))
        app.chat.composer.focus()
        await press(pilot, ["pageup", "pageup"])
        await wait_until(pilot, lambda: "段落 59" not in screen_text(app))
        assert app.chat.scope() == "composer"
        await press(pilot, ["ctrl+end"])
        await wait_until(pilot, lambda: "段落 59" in screen_text(app))


async def test_words_of_the_chosen_message_act_on_it() -> None:
    async with running(ScriptedEngine("一", "二", "三")) as (pilot, app, _engine):
        await send(pilot, "question")
        await pilot.click(offset=place_of(app, "question"))
        await wait_until(pilot, lambda: "copy  edit  delete" in screen_text(app))
        x, y = place_of(app, "copy  edit  delete")
        await pilot.click(offset=(x + 7, y))
        await wait_until(pilot, lambda: app.chat.composer.text == "question")
        await send(pilot, "another")
        await wait_until(pilot, lambda: "version 2 of 2" in screen_text(app))
        await pilot.click(offset=place_of(app, "‹"))
        await wait_until(pilot, lambda: "version 1 of 2" in screen_text(app))
        assert [message.text for message in saved(app).branch()] == ["question", "一"]


async def test_a_cut_answer_offers_to_go_on() -> None:
    engine = ScriptedEngine("one two three four", hold=True)
    async with running(engine) as (pilot, app, _engine):
        await send(pilot, "?")
        await wait_until(pilot, lambda: "one two" in screen_text(app))
        await press(pilot, ["escape"])
        await wait_until(pilot, lambda: "stopped · /continue" in screen_text(app))
        x, y = place_of(app, "/continue")
        await pilot.click(offset=(x + 1, y))
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        assert engine.generated[1].continue_answer
        engine.finish()
        await wait_until(pilot, lambda: "/continue" not in screen_text(app))


async def test_a_deleted_message_is_brought_back_by_a_key() -> None:
    async with running(ScriptedEngine("answer")) as (pilot, app, _engine):
        await send(pilot, "question")
        app.chat.transcript.focus()
        await press(pilot, ["k", "d"])
        await wait_until(pilot, lambda: not app.session.conversation.branch())
        app.chat.transcript.focus()
        await press(pilot, ["u"])
        await wait_until(pilot, lambda: "question" in screen_text(app))
        assert len(saved(app).branch()) == 2


async def test_to_edit_an_answer_is_to_edit_what_it_answers() -> None:
    async with running(ScriptedEngine("answer")) as (pilot, app, _engine):
        await send(pilot, "question")
        app.chat.transcript.focus()
        await press(pilot, ["G", "k", "j", "e"])
        assert app.chat.composer.text == "question"


async def test_to_edit_where_nothing_was_asked_says_so() -> None:
    conversation = Library().create()
    conversation.append("assistant", "An answer to nothing")
    async with running() as (pilot, app, _engine):
        await app.session.open(conversation.path)
        app.chat.transcript.focus()
        await press(pilot, ["g", "e"])
        await wait_until(pilot, lambda: len(app._notifications) == 1)
        assert app.chat.composer.text == ""


async def test_a_key_pressed_twice_acts_once() -> None:
    async with running(ScriptedEngine("first", "second")) as (pilot, app, _engine):
        await send(pilot, "?")
        await wait_until(pilot, lambda: app.session.answer is None)
        await app.session.regenerate()
        await wait_until(pilot, lambda: app.session.answer is None)
        chosen = app.session.conversation.branch()[-1]
        for action in ("delete", "delete", "previous_branch"):
            app.chat.transcript.post_message(Transcript.MessageAction(chosen.id, action, ""))
        await settled(pilot)
        assert [message.text for message in app.session.conversation.branch()] == ["?", "first"]
        await app.session.undo()
        assert len(app.session.conversation.branch()) == 2
        assert app.session.conversation.branch()[-1].text == "second"


async def test_an_attached_file_is_opened_from_the_store_by_key() -> None:
    async with running(ScriptedEngine("Read.")) as (pilot, app, _engine):
        await app.session.enter("@notes.txt", [AttachedFile("notes.txt", "/notes.txt", "what the file says")])
        await wait_until(pilot, lambda: "▸ notes.txt · 18 B" in screen_text(app))
        await wait_until(pilot, lambda: app.session.answer is None)
        app.chat.transcript.focus()
        await press(pilot, ["k", "t"])
        await wait_until(pilot, lambda: "what the file says" in screen_text(app))

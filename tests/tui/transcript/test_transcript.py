"""The transcript as a person sees it: what is mounted, what it follows, what its keys do."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from tui_helpers import NOON, Host, dialogue, screen_lines, screen_text, wait_until

from glmtui.chat.conversation import Message
from glmtui.errors import UserError
from glmtui.protocol.messages import (
    Attachment,
    Image,
    Part,
    Role,
    Source,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)
from glmtui.tui.composer.composer import Composer
from glmtui.tui.transcript import message
from glmtui.tui.transcript.column import Column, Entry
from glmtui.tui.transcript.message import Contents, MessageEntry, figures, show_time
from glmtui.tui.transcript.transcript import Transcript

LONG = "\n\n".join(f"段落 {number}" for number in range(30))
Run = tuple[Pilot[None], Transcript]


@asynccontextmanager
async def running(
    messages: list[Message] | None = None, *, height: int = 24, contents: Contents | None = None
) -> AsyncIterator[Run]:
    transcript = Transcript(contents)
    keep = (Transcript.BelowChanged, Transcript.MessageAction, Transcript.LinksRequested)
    async with Host(transcript, Composer(), keep=keep).run_test(size=(80, height)) as pilot:
        transcript.show(messages or [])
        await settled(pilot, transcript)
        yield pilot, transcript


async def settled(pilot: Pilot[None], transcript: Transcript) -> None:
    """Wait until all that is in view is measured and drawn."""

    def ready() -> bool:
        near = transcript.column.near(transcript.scroll_y, transcript.view_height)
        return all(transcript.column.entries[index].measured for index in near)

    await pilot.pause()
    await wait_until(pilot, ready)
    await pilot.pause()


def text_lines(pilot: Pilot[None]) -> list[str]:
    """The lines of the screen without the scrollbar."""
    return [line.rstrip(" ▁▂▃▄▅▆▇█") for line in screen_lines(pilot.app)]


def chosen(transcript: Transcript) -> list[str]:
    """The ids of the messages that are marked as chosen."""
    return [
        entry.message.id for entry in transcript.column if isinstance(entry, MessageEntry) and entry.chosen
    ]


def said(message: Message, text: str, **changes: Any) -> Message:
    """The message with another text."""
    return replace(message, parts=(Text(text),), **{"state": "done", **changes})


def kept(pilot: Pilot[None], kind: type) -> list[object]:
    assert isinstance(pilot.app, Host)
    return [message for message in pilot.app.kept if isinstance(message, kind)]


async def test_messages_say_who_when_and_how() -> None:
    async with running(dialogue(2)) as (pilot, _transcript):
        text = screen_text(pilot.app)
        assert "You" in text
        assert "ChatGLM" in text
        assert show_time(NOON) in text
        assert "nano · INT8 · 42 tokens · 31.4 tok/s" in text
        assert screen_lines(pilot.app)[0].strip().startswith("▌ You"), (
            "a short conversation begins at the top"
        )


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("stopped", "stopped"),
        ("partial", "not finished"),
        ("length", "cut off at the length limit"),
        ("failed", "failed: out of memory"),
    ],
)
async def test_states_are_said_in_words(state: str, words: str) -> None:
    message = replace(dialogue(2)[1], state=state, meta={"error": "out of\nmemory"})  # type: ignore[arg-type]
    async with running([message]) as (pilot, _transcript):
        assert words in screen_text(pilot.app)


def test_figures_leave_out_what_is_not_known_or_not_sane() -> None:
    message = replace(dialogue(2)[1], meta={"tokens": "many", "tokens_per_second": None, "quant": "none"})
    assert figures(message) == []
    assert figures(replace(message, meta={"tokens": 1234})) == ["1,234 tokens"]


def test_times_have_a_date_when_it_is_not_today() -> None:
    assert show_time(NOON, now=NOON) == f"{NOON.astimezone():%H:%M}"
    assert show_time(NOON, now=NOON + timedelta(days=3)) == f"{NOON.astimezone():%Y-%m-%d %H:%M}"


async def test_versions_are_counted() -> None:
    messages = dialogue(2)
    async with running() as (pilot, transcript):
        transcript.show(messages, branches={"m1": (2, 3)})
        await settled(pilot, transcript)
        assert "version 2 of 3" in screen_text(pilot.app)


async def test_what_people_wrote_is_shown_as_they_wrote_it() -> None:
    message = Message.of("a", None, "user", "# no *heading*\n[b]no markup[/b]\x1b[31m", NOON)
    async with running([message]) as (pilot, _transcript):
        assert "# no *heading*" in screen_text(pilot.app)
        assert "[b]no markup[/b]" in screen_text(pilot.app)


# --- a long conversation ---


async def test_only_what_is_near_the_view_is_laid_out() -> None:
    async with running(dialogue(3000)) as (pilot, transcript):
        assert "message number 2999" in screen_text(pilot.app)
        assert sum(entry.measured for entry in transcript.column) < 40
        for share in (0.5, 0.25, 0.9, 0.0, 1.0):
            transcript.scroll_to(y=transcript.max_scroll_y * share, animate=False, immediate=True)
            await settled(pilot, transcript)
            expected = transcript.column.at(transcript.scroll_y + 2)
            assert f"message number {expected}" in screen_text(pilot.app)
            assert sum(entry._lines is not None for entry in transcript.column) < 80
        assert sum(entry.measured for entry in transcript.column) < 200


async def test_scrolling_up_page_by_page_shows_every_message() -> None:
    messages = dialogue(60, text=lambda number: f"#{number}#\n\n" + "文字 " * (number * 37 % 90))
    async with running(messages) as (pilot, transcript):
        transcript.focus()
        seen = screen_text(pilot.app)
        for _page in range(80):
            before = text_lines(pilot)[0]
            await pilot.press("pageup")
            await settled(pilot, transcript)
            assert before in text_lines(pilot), "a page up must leave a line in common"
            seen += screen_text(pilot.app)
            if transcript.scroll_y == 0:
                break
        assert [number for number in range(60) if f"#{number}#" not in seen] == []


async def test_resizing_keeps_the_place() -> None:
    messages = dialogue(200, text=lambda number: f"#{number}# " + "很长的一段文字，" * 20)
    async with running(messages) as (pilot, transcript):
        assert transcript.go_to("m100")
        await settled(pilot, transcript)
        assert "#100#" in "".join(screen_lines(pilot.app)[:3])
        for width in (50, 100, 80):
            await pilot.resize_terminal(width, 24)
            await settled(pilot, transcript)
            assert "#100#" in "".join(screen_lines(pilot.app)[:3]), width


async def test_show_replaces_everything() -> None:
    async with running(dialogue(50)) as (pilot, transcript):
        transcript.show([Message.of("x", None, "user", "only this", NOON)])
        await settled(pilot, transcript)
        assert "only this" in screen_text(pilot.app)
        assert "message number" not in screen_text(pilot.app)
        transcript.show([])
        await pilot.pause()
        assert "only this" not in screen_text(pilot.app)
        assert not len(transcript.column)


# --- following the end ---


async def test_it_follows_the_end_until_one_scrolls_up_and_again_at_the_end() -> None:
    async with running(dialogue(20)) as (pilot, transcript):
        view = transcript.begin_answer(Message.of("a", None, "assistant", "", NOON, state="partial"))
        for number in range(30):
            view.append(f"第 {number} 行\n\n")
        await wait_until(pilot, lambda: "第 28 行" in screen_text(pilot.app))
        assert transcript.following

        transcript.focus()
        await pilot.press("pageup")
        await settled(pilot, transcript)
        assert not transcript.following
        place = text_lines(pilot)[:10]
        for number in range(30, 60):
            view.append(f"第 {number} 行\n\n")
        await wait_until(pilot, lambda: transcript.below and kept(pilot, Transcript.BelowChanged))
        now = text_lines(pilot)[:10]
        assert now == place, "the text that is read must not move"
        assert "↓ new text below" in screen_text(pilot.app)
        assert [event.below for event in kept(pilot, Transcript.BelowChanged)] == [True]

        await pilot.press("G")
        await wait_until(pilot, lambda: "第 58 行" in screen_text(pilot.app))
        assert transcript.following
        assert "↓ new text below" not in screen_text(pilot.app)
        view.append("最后\n\n末尾")
        await wait_until(pilot, lambda: "最后" in screen_text(pilot.app))


async def test_scrolling_down_to_the_end_takes_hold_again() -> None:
    async with running(dialogue(40)) as (pilot, transcript):
        transcript.focus()
        await pilot.press("pageup", "pageup")
        assert not transcript.following
        for _page in range(4):
            await pilot.press("pagedown")
            await settled(pilot, transcript)
        assert transcript.following


async def test_old_text_that_is_scrolled_away_is_no_news() -> None:
    async with running(dialogue(40)) as (pilot, transcript):
        transcript.focus()
        await pilot.press("pageup")
        await settled(pilot, transcript)
        assert not transcript.below


async def test_a_click_on_the_mark_goes_to_the_end() -> None:
    async with running(dialogue(40)) as (pilot, transcript):
        transcript.scroll_to(y=0, animate=False, immediate=True)
        await settled(pilot, transcript)
        transcript.begin_answer(Message.of("a", None, "assistant", "", NOON))
        await wait_until(pilot, lambda: "↓ new text below" in screen_text(pilot.app))
        await pilot.click(transcript, offset=(40, transcript.view_height - 1))
        await wait_until(pilot, lambda: transcript.following and not transcript.below)


# --- answers ---


async def test_an_answer_grows_and_finishes() -> None:
    async with running(dialogue(1)) as (pilot, transcript):
        started = Message.of("a", "m0", "assistant", "", NOON, state="partial")
        view = transcript.begin_answer(started)
        for piece in ["1. **一", "**\n2", ". 二"]:
            view.append(piece)
        await wait_until(pilot, lambda: "2. 二" in screen_text(pilot.app))
        assert "not finished" not in screen_text(pilot.app)
        done = said(started, "1. **一**\n2. 二", state="stopped", meta={"tokens": 1})
        view.finish(done)
        await wait_until(pilot, lambda: "1 token · stopped" in screen_text(pilot.app))
        assert "一" in screen_text(pilot.app)


async def test_finishing_shows_the_kept_text_where_the_stream_was_another() -> None:
    async with running(dialogue(1)) as (pilot, transcript):
        started = Message.of("a", "m0", "assistant", "", NOON, state="partial")
        view = transcript.begin_answer(started)
        view.append("half of")
        view.finish(said(started, "all of it"))
        await wait_until(pilot, lambda: "all of it" in screen_text(pilot.app))
        assert "half of" not in screen_text(pilot.app)


async def test_continuing_an_answer_goes_on_in_its_place() -> None:
    messages = [*dialogue(1), Message.of("a", "m0", "assistant", "```py\nx = 1\n", NOON, state="stopped")]
    async with running(messages) as (pilot, transcript):
        view = transcript.begin_answer(replace(messages[1], state="partial"))
        view.append("y = 2\n```\n后面")
        view.finish(said(messages[1], "```py\nx = 1\ny = 2\n```\n后面"))
        await settled(pilot, transcript)
        text = screen_text(pilot.app)
        assert text.count("x = 1") == 1
        assert "y = 2" in text
        assert "后面" in text
        assert len(transcript.column) == 2


async def test_an_answer_may_end_after_another_conversation_was_opened() -> None:
    async with running(dialogue(1)) as (pilot, transcript):
        started = Message.of("a", "m0", "assistant", "", NOON, state="partial")
        view = transcript.begin_answer(started)
        transcript.show(dialogue(1, text=lambda _number: "another"))
        view.append("late")
        view.finish(said(started, "late"))
        await pilot.pause()
        assert "late" not in screen_text(pilot.app)
        assert "another" in screen_text(pilot.app)


async def test_replacing_and_removing_messages() -> None:
    messages = dialogue(4)
    async with running(messages) as (pilot, transcript):
        transcript.replace(said(messages[2], "changed"), branches={"m2": (1, 2)})
        transcript.remove_message("m1")
        await settled(pilot, transcript)
        text = screen_text(pilot.app)
        assert "changed" in text
        assert "version 1 of 2" in text
        assert "message number 1" not in text
        assert "message number 3" in text


async def test_notices_are_the_apps_own() -> None:
    async with running(dialogue(2)) as (pilot, transcript):
        transcript.notice("loaded [x]")
        transcript.notice("no such folder", "error")
        transcript.notice("left out", "warning")
        transcript.notice("## Help\n\n- `/help`", "markdown")
        await settled(pilot, transcript)
        text = screen_text(pilot.app)
        assert "loaded [x]" in text
        assert "Error  no such folder" in text
        assert "Note  left out" in text
        assert "• /help" in text
        transcript.focus()
        await pilot.press("k")
        assert transcript.selected == "m0", "keys choose messages, not notices"


# --- keys ---


async def test_keys_choose_messages_and_ask_for_actions() -> None:
    async with running(dialogue(6)) as (pilot, transcript):
        transcript.focus()
        await pilot.press("k")
        await pilot.press("k")
        assert transcript.selected == "m3"
        assert chosen(transcript) == ["m3"]
        await pilot.press("y", "e", "r", "o", "q", "d", "left_square_bracket", "right_square_bracket")
        await pilot.pause()
        actions = [(event.message_id, event.action) for event in kept(pilot, Transcript.MessageAction)]
        names = [
            "copy",
            "edit",
            "regenerate",
            "continue",
            "quote",
            "delete",
            "previous_branch",
            "next_branch",
        ]
        assert actions == [("m3", name) for name in names]
        await pilot.press("g")
        assert transcript.selected == "m0"
        await pilot.press("j")
        assert transcript.selected == "m1"
        pilot.app.query_one(Composer).focus()
        await pilot.pause()
        assert not chosen(transcript)


async def test_code_blocks_are_copied_one_after_the_other() -> None:
    text = "```py\nfirst\n```\n\n```\nsecond\n```"
    async with running([Message.of("a", None, "assistant", text, NOON)]) as (pilot, transcript):
        transcript.focus()
        await pilot.press("b", "b", "b")
        await pilot.pause()
        assert [event.text for event in kept(pilot, Transcript.MessageAction)] == ["first", "second", "first"]


async def test_a_message_without_code_says_so() -> None:
    async with running(dialogue(2)) as (pilot, transcript):
        transcript.focus()
        await pilot.press("b")
        await pilot.pause()
        assert not kept(pilot, Transcript.MessageAction)
        assert [note.message for note in pilot.app._notifications] == [
            "There is no code block in this message."
        ]


async def test_a_message_longer_than_the_view_is_read_through() -> None:
    messages = [Message.of("a", None, "user", "q", NOON), Message.of("b", "a", "assistant", LONG, NOON)]
    messages.append(Message.of("c", "b", "user", "next", NOON))
    async with running(messages) as (pilot, transcript):
        transcript.focus()
        await pilot.press("g", "j")
        seen = ""
        for _press in range(10):
            await settled(pilot, transcript)
            seen += screen_text(pilot.app)
            if transcript.selected == "c":
                break
            await pilot.press("j")
        assert transcript.selected == "c"
        assert all(f"段落 {number}" in seen for number in range(30))


async def test_a_click_chooses() -> None:
    async with running(dialogue(4)) as (pilot, transcript):
        await pilot.click(Transcript, offset=(10, 1))
        await pilot.pause()
        assert transcript.selected == "m0"


async def test_a_clicked_link_is_asked_about() -> None:
    async with running([Message.of("a", None, "assistant", "https://a.b/c", NOON)]) as (pilot, _transcript):
        await pilot.click(Transcript, offset=(6, 1))
        await wait_until(pilot, lambda: kept(pilot, Transcript.LinksRequested))
        assert [event.links for event in kept(pilot, Transcript.LinksRequested)] == [["https://a.b/c"]]


async def test_a_theme_reaches_every_message() -> None:
    async with running(dialogue(2)) as (pilot, transcript):
        pilot.app.theme = "textual-dark"
        await pilot.pause()

        def colours() -> list[object]:
            lines = transcript.render_lines(transcript.size.region)
            return [segment.style for line in lines for segment in line]

        dark = colours()
        pilot.app.theme = "textual-light"
        await wait_until(pilot, lambda: not any(style in dark for style in colours()))


# --- the column, without widgets ---


def test_the_column_knows_what_is_where() -> None:
    column = Column(str)
    column.set_width(10)
    column.add(Entry("x" * 5) for _each in range(100))
    assert column.height == 300
    assert column.near(0, 6, 0) == range(3)
    assert column.near(150, 6, 30) == range(40, 63)
    place = column.place(151)
    assert place is not None
    column.set_height(column.entries[0], 13)
    assert column.line(place) == 161
    column.remove(column.entries[10])
    assert column.line(place) == 158
    assert [entry.index for entry in column] == list(range(99))
    column.set_width(3)
    assert column.line(place) > 158
    column.clear()
    assert column.near(0, 10, 10) == range(0)
    assert column.place(3) is None


# --- what a model thinks before it answers ---

THOUGHT = Thought("First [b]this[/b].\nThen that.")
ANSWER = Text("The **answer**.")


def thoughtful(*parts: Part) -> list[Message]:
    question, answer = dialogue(2)
    return [question, replace(answer, parts=parts)]


async def test_a_thought_is_folded_and_opens_by_key() -> None:
    async with running(thoughtful(THOUGHT, ANSWER)) as (pilot, transcript):
        assert "▸ Thought · 2 lines" in screen_text(pilot.app)
        assert "First" not in screen_text(pilot.app)
        assert "The answer." in screen_text(pilot.app)
        transcript.focus()
        await pilot.press("t")
        await wait_until(pilot, lambda: "First [b]this[/b]." in screen_text(pilot.app))
        assert "▾ Thought" in screen_text(pilot.app)
        assert "think>" not in screen_text(pilot.app)
        await pilot.press("t")
        await wait_until(pilot, lambda: "First" not in screen_text(pilot.app))


async def test_a_thought_opens_by_a_click() -> None:
    async with running(thoughtful(THOUGHT, ANSWER)) as (pilot, _transcript):
        await pilot.click(Transcript, offset=(5, 4))
        await wait_until(pilot, lambda: "Then that." in screen_text(pilot.app))


async def test_an_answer_without_a_thought_has_no_fold() -> None:
    async with running(thoughtful(ANSWER)) as (pilot, _transcript):
        assert "Thought" not in screen_text(pilot.app)


async def test_a_thought_and_an_answer_stream_into_their_places() -> None:
    question, answer = thoughtful()
    async with running([question]) as (pilot, transcript):
        handle = transcript.begin_answer(answer)
        for piece in ("First this.", "\nThen", " that."):
            handle.append(piece, thought=True)
        await wait_until(pilot, lambda: "▸ Thinking · 2 lines" in screen_text(pilot.app))
        assert "First" not in screen_text(pilot.app)
        for piece in ("The ", "**answer**."):
            handle.append(piece)
        await wait_until(pilot, lambda: "The answer." in screen_text(pilot.app))
        handle.finish(replace(answer, parts=(THOUGHT, ANSWER)))
        await settled(pilot, transcript)
        assert "▸ Thought · 2 lines" in screen_text(pilot.app)
        assert screen_text(pilot.app).count("The answer.") == 1


# --- what belongs to a message besides its text ---


def rich(role: Role, *parts: Part, id_: str = "r") -> Message:
    return Message(id_, None, role, parts, NOON)


NOTES = Attachment("notes/plan.md", "a" * 64, 1200)


async def test_an_attachment_is_a_line_that_opens() -> None:
    read: list[Attachment] = []

    def contents(part: Attachment) -> str:
        read.append(part)
        return "first [b]line[/b]\nsecond line\n"

    async with running([rich("user", Text("See this."), NOTES)], contents=contents) as (pilot, transcript):
        assert "▸ notes/plan.md · 1.2 KB" in screen_text(pilot.app)
        assert not read
        transcript.focus()
        height = transcript.virtual_size.height
        await pilot.press("t")
        await wait_until(pilot, lambda: "first [b]line[/b]" in screen_text(pilot.app))
        assert transcript.virtual_size.height == height + 2, "and no empty line at its end"
        assert read[0] == NOTES
        await pilot.click(Transcript, offset=(5, 2))
        await wait_until(pilot, lambda: "second line" not in screen_text(pilot.app))
        assert "▸ notes/plan.md" in screen_text(pilot.app)


async def test_an_attachment_that_cannot_be_read_says_so() -> None:
    def contents(part: Attachment) -> str:
        raise UserError("the file is gone")

    async with running([rich("user", NOTES)], contents=contents) as (pilot, transcript):
        transcript.focus()
        await pilot.press("t")
        await wait_until(pilot, lambda: "the file is gone" in screen_text(pilot.app))


async def test_sources_tools_and_images_are_lines_of_which_each_opens_by_a_click() -> None:
    answer = rich(
        "assistant",
        Thought("Let me look."),
        Text("It is **so** [1]."),
        Source(1, "Handbook", "The passage.", "https://a.b/c", "p. 3"),
        ToolCall("1", "weather", '{"city": "北京"}'),
        Image("b" * 64, "image/png", "cat.png"),
    )
    result = rich("tool", ToolResult("1", "sunny\nand warm", "weather"), id_="t")
    async with running([answer, result]) as (pilot, transcript):
        lines = text_lines(pilot)
        for line in ("▸ Thought · 1 line", "▸ [1] Handbook · p. 3 · https://a.b/c",
                     '▸ weather {"city": "北京"}', "[image] cat.png", "▸ weather → 2 lines"):  # fmt: skip
            assert any(line in shown for shown in lines), line
        assert "sunny" not in screen_text(pilot.app)
        row = next(number for number, line in enumerate(lines) if "Handbook" in line)
        await pilot.click(Transcript, offset=(6, row))
        await wait_until(pilot, lambda: "The passage." in screen_text(pilot.app))
        assert "Let me look." not in screen_text(pilot.app), "only what was clicked on opens"
        transcript.go_to("t")
        transcript.focus()
        await pilot.press("t")
        await wait_until(pilot, lambda: "and warm" in screen_text(pilot.app))


# --- selecting with the mouse ---


async def drag(pilot: Pilot[None], start: tuple[int, int], end: tuple[int, int]) -> str | None:
    """Select from cell to cell; return what is copied."""
    await pilot.mouse_down(offset=start)
    await pilot._post_mouse_events([events.MouseMove], offset=end, button=1)
    await pilot.mouse_up(offset=end)
    await pilot.pause()
    return pilot.app.screen.get_selected_text()


async def test_a_selection_goes_across_messages_and_their_gaps() -> None:
    async with running(dialogue(3)) as (pilot, _transcript):
        lines = text_lines(pilot)
        first = next(number for number, line in enumerate(lines) if "number 0" in line)
        last = next(number for number, line in enumerate(lines) if "number 1" in line)
        selected = await drag(pilot, (11, first), (8, last))
        assert selected is not None
        assert selected.startswith("number 0\nChatGLM")
        assert selected.endswith("\nmessag")
        assert await drag(pilot, (3, first), (30, first + 1)) == "message number 0", "it may end in a gap"


async def test_a_selection_stays_on_its_text_while_an_answer_grows_and_the_view_scrolls() -> None:
    async with running(dialogue(40)) as (pilot, transcript):
        row = next(number for number, line in enumerate(text_lines(pilot)) if "number 37" in line)
        assert await drag(pilot, (3, row), (30, row)) == "message number 37"
        view = transcript.begin_answer(Message.of("a", None, "assistant", "", NOON, state="partial"))
        view.append("\n\n".join(f"line {number}" for number in range(40)))
        await wait_until(pilot, lambda: "line 39" in screen_text(pilot.app))
        assert pilot.app.screen.get_selected_text() == "message number 37", "far out of view"
        transcript.go_to("m0")
        await settled(pilot, transcript)
        assert pilot.app.screen.get_selected_text() == "message number 37"


async def test_what_is_drawn_is_what_is_there_after_any_changes() -> None:
    """Rows that were drawn again one by one show what all of them drawn at once show."""
    chooser = random.Random(5)
    async with running(dialogue(30)) as (pilot, transcript):
        view = transcript.begin_answer(Message.of("a", None, "assistant", "", NOON, state="partial"))
        transcript.focus()
        for number in range(60):
            match chooser.randrange(7):
                case 0:
                    await pilot.press(chooser.choice(["k", "j", "pageup", "pagedown", "g", "G"]))
                case 1:
                    transcript.replace(said(dialogue(30)[chooser.randrange(30)], "x\n" * number))
                case 2:
                    transcript.notice(f"notice {number}")
                case 3:
                    transcript.remove_message(f"m{chooser.randrange(30)}")
                case _:
                    view.append(f"text {number}，" * 9 + "\n" * chooser.randrange(3))
            await wait_until(pilot, lambda: view._timer is None)
            await pilot.pause()
            shown = screen_lines(pilot.app)
            transcript.refresh()
            await pilot.pause()
            assert screen_lines(pilot.app) == shown
            assert transcript.virtual_size.height == transcript.column.height


@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_of_a_text_that_no_context_holds_the_beginning_is_laid_out(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message, "SHOWN_CHARACTERS", 300)

    def shown(text: str) -> str:
        part = ToolResult("1", text) if role == "tool" else Text(text)
        entry = MessageEntry(Message("a", None, role, (part,), NOON))
        entry.unfold()
        return " ".join(line.content.plain for line in entry.make_lines(80))

    assert shown("words " * 1000).count("words") == 50
    assert "5,700 more characters" in shown("words " * 1000)
    assert shown("words " * 50).count("words") == 50
    assert "more characters" not in shown("words " * 50)


def test_names_of_any_length_are_cut() -> None:
    entry = MessageEntry(Message("a", None, "tool", (ToolResult("1", "r", "名" * 3_000_000),), NOON))
    assert all(line.content.cell_length <= 80 for line in entry.make_lines(80))

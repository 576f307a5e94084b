"""The composer by its keys: what a person types, pastes, takes from the popup and finds again."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual import events
from textual.pilot import Pilot
from textual.widgets import Static
from tui_helpers import Host, screen_lines, screen_text, wait_until

from glmtui.errors import UserError
from glmtui.session.attached_file import AttachedFile, take
from glmtui.tui.composer.completion import Completion
from glmtui.tui.composer.composer import Composer

COMMANDS = [
    Completion("/help ", "What can be typed here", label="/help [COMMAND]"),
    Completion("/new", "Begin a new conversation"),
    Completion("/quant ", "量化", label="/quant 4|8|none"),
]


def complete(before: str) -> Sequence[Completion]:
    if before.startswith("/theme "):
        return [
            Completion(f"/theme {name}", label=name)
            for name in ("dawn", "mist")
            if name.startswith(before[7:])
        ]
    return [offer for offer in COMMANDS if offer.text.startswith(before)]


@asynccontextmanager
async def running(
    history: Sequence[str] = (), *, enter_sends: bool = True
) -> AsyncIterator[tuple[Pilot[None], Composer]]:
    composer = Composer(completions=complete, history=history, enter_sends=enter_sends)
    above = Static("above")
    above.styles.height = "1fr"
    app = Host(above, composer, keep=(Composer.Submitted, Composer.Changed))
    async with app.run_test(size=(80, 24)) as pilot:
        composer.focus()
        await pilot.pause()
        yield pilot, composer


def sent(pilot: Pilot[None]) -> list[str]:
    assert isinstance(pilot.app, Host)
    return [message.text for message in pilot.app.kept if isinstance(message, Composer.Submitted)]


def attached(pilot: Pilot[None]) -> list[AttachedFile]:
    assert isinstance(pilot.app, Host)
    return [file for each in pilot.app.kept if isinstance(each, Composer.Submitted) for file in each.attached]


async def type_text(pilot: Pilot[None], text: str) -> None:
    for character in text:
        pilot.app.screen.focused.post_message(events.Key(character, character))  # type: ignore[union-attr]
    await pilot.pause()


async def paste(pilot: Pilot[None], composer: Composer, text: str) -> None:
    composer.prompt.post_message(events.Paste(text))
    await pilot.pause()


# --- sending ---


async def test_enter_sends_and_ctrl_j_makes_a_line() -> None:
    async with running() as (pilot, composer):
        await type_text(pilot, "你好")
        await pilot.press("ctrl+j", "x", "enter")
        await pilot.pause()
        assert sent(pilot) == ["你好\nx"]
        assert composer.text == ""
        assert composer.prompt.sent == ["你好\nx"]


async def test_keys_that_come_all_at_once_do_what_they_do_one_by_one() -> None:
    async with running() as (pilot, composer):
        for key in ("a", "b", "backspace", "c", "ctrl+j", "d", "e", "left", "f", "enter", "n"):
            composer.prompt.post_message(events.Key(key, key if len(key) == 1 else None))
        await pilot.pause()
        assert (sent(pilot), composer.text) == (["ac\ndfe"], "n")
        composer.text = ""
        await pilot.pause()
        for key in (*"/he", "tab", "x"):
            composer.prompt.post_message(events.Key(key, key if len(key) == 1 else None))
        await pilot.pause()
        assert composer.text == "/help x"


async def test_an_earlier_prompt_that_is_changed_is_completed_like_any_other() -> None:
    async with running(history=["old"]) as (pilot, composer):
        await pilot.press("up", "backspace", "backspace", "backspace")
        await type_text(pilot, "/he")
        assert composer.popup.is_open


@pytest.mark.parametrize("ahead", range(4))
async def test_no_line_begins_with_a_closing_mark_or_ends_with_an_opening_one(ahead: int) -> None:
    async with running() as (pilot, composer):
        composer.text = "x" * ahead + "你好，世界。（中文）「引号」！" * 12
        await pilot.pause()
        lines = [row for section in composer.prompt.wrapped_document.lines for row in section]
        assert len(lines) > 3
        assert all(line[0] not in "，。）」！" and line[-1] not in "（「" for line in lines)
        assert "".join(lines) == composer.text


async def test_the_cursor_stays_in_the_text_area_behind_blanks() -> None:
    async with running() as (pilot, composer):
        prompt = composer.prompt
        text = "word " * 16 + " " * 60
        composer.text = text
        prompt.move_cursor(prompt.document.end)
        await pilot.press(*" " * 20)
        await pilot.pause()
        assert prompt.cursor_screen_offset.x < prompt.content_region.right
        assert composer.text == text + " " * 20


async def test_the_reverse_by_setting_at_any_time() -> None:
    async with running(enter_sends=False) as (pilot, composer):
        assert "Ctrl+J sends" in screen_text(pilot.app)
        await pilot.press("a", "enter", "b", "ctrl+j")
        await pilot.pause()
        assert sent(pilot) == ["a\nb"]
        composer.enter_sends = True
        await pilot.pause()
        assert "Enter sends" in screen_text(pilot.app)
        await pilot.press("c", "enter")
        await pilot.pause()
        assert sent(pilot) == ["a\nb", "c"]


async def test_blank_text_is_not_sent_and_not_lost() -> None:
    async with running() as (pilot, composer):
        await pilot.press("space", "ctrl+j", "enter")
        await pilot.pause()
        assert sent(pilot) == []
        assert composer.text == " \n"


async def test_it_grows_to_a_third_of_the_screen() -> None:
    async with running() as (pilot, composer):
        heights = []
        for _line in range(12):
            await pilot.press("ctrl+j")
            await pilot.pause()
            heights.append(composer.region.height)
        assert heights[0] == 4
        assert heights[-1] in (7, 8), "a third of 24 lines"
        assert composer.region.bottom == 24


async def test_the_terminals_caret_is_where_input_methods_need_it() -> None:
    async with running() as (pilot, composer):
        await type_text(pilot, "你好")
        for action in ("ctrl+j", "ctrl+j", "left"):
            await pilot.press(action)
            await pilot.pause()
            assert pilot.app.cursor_position == composer.prompt.cursor_screen_offset
        await pilot.resize_terminal(60, 18)
        await pilot.pause()
        await wait_until(pilot, lambda: pilot.app.cursor_position == composer.prompt.cursor_screen_offset)
        assert pilot.app.cursor_position.y < 18


# --- history ---


async def test_up_and_down_at_the_edges_walk_the_history_and_keep_the_draft() -> None:
    async with running(["one", "two\nlines"]) as (pilot, composer):
        await type_text(pilot, "draft")
        await pilot.press("up")
        assert composer.text == "two\nlines"
        await pilot.press("up")
        assert composer.text == "two\nlines", "the cursor goes up in the text first"
        await pilot.press("up")
        assert composer.text == "one"
        await pilot.press("up")
        assert composer.text == "one"
        await pilot.press("down")
        assert composer.text == "two\nlines"
        await pilot.press("down")
        assert composer.text == "draft"
        await pilot.press("down")
        assert composer.text == "draft"


async def test_undo_brings_back_what_the_history_replaced() -> None:
    async with running(["one"]) as (pilot, composer):
        await type_text(pilot, "draft")
        await pilot.press("up", "ctrl+z")
        assert composer.text == "draft"


async def test_a_command_from_the_history_opens_no_popup() -> None:
    async with running(["first", "/help "]) as (pilot, composer):
        await pilot.press("up")
        assert not composer.popup.is_open
        await pilot.press("up")
        assert composer.text == "first"


async def test_searching_the_history() -> None:
    async with running(["怎么量化模型", "hello", "模型在哪里"]) as (pilot, composer):
        await type_text(pilot, "模型")
        await pilot.press("ctrl+up")
        await pilot.pause()
        assert "怎么量化模型" in screen_text(pilot.app)
        assert "hello" not in screen_text(pilot.app)
        await pilot.press("up", "enter")
        await pilot.pause()
        assert composer.text == "怎么量化模型"
        assert sent(pilot) == []


# --- the popup ---


async def test_the_popup_lies_above_and_says_what_commands_do() -> None:
    async with running() as (pilot, composer):
        await pilot.press("slash")
        await pilot.pause()
        lines = screen_lines(pilot.app)
        top = composer.prompt.region.y
        assert [line.split("  ")[0].strip() for line in lines[top - 3 : top]] == [
            "/help [COMMAND]", "/new", "/quant 4|8|none",
        ]  # fmt: skip
        assert "What can be typed here" in lines[top - 3]
        assert composer.region.height == 3, "nothing moves"
        await pilot.press("escape")
        await pilot.pause()
        assert "/new" not in screen_text(pilot.app)
        assert composer.text == "/"


async def test_tab_takes_an_offer_and_enter_sends_what_is_complete() -> None:
    async with running() as (pilot, composer):
        await pilot.press("slash", "q", "tab")
        assert composer.text == "/quant "
        await pilot.press("4", "enter")
        await pilot.pause()
        assert sent(pilot) == ["/quant 4"]
        await pilot.press("slash", "down", "enter")
        await pilot.pause()
        assert sent(pilot)[1:] == ["/new"]
        await pilot.press("slash", "h", "enter")
        await pilot.pause()
        assert composer.text == "/help ", "it may take an argument"
        await pilot.press("enter")
        await pilot.pause()
        assert sent(pilot)[2:] == ["/help "]


async def test_arguments_are_completed_too() -> None:
    async with running() as (pilot, composer):
        await type_text(pilot, "/theme m")
        assert composer.popup.current == Completion("/theme mist", label="mist")
        await pilot.press("enter")
        await pilot.pause()
        assert sent(pilot) == ["/theme mist"]


async def test_a_new_name_is_taken_as_typed_unless_an_offer_was_walked_to() -> None:
    async with running() as (pilot, composer):
        for optional, walk, expected in (
            (True, False, "/save notes"), (True, True, "/save notes-old"), (False, False, "/save notes-old"),
        ):  # fmt: skip
            offer = Completion("/save notes-old", optional=optional)
            composer.completions = lambda _before, offer=offer: [offer]
            await type_text(pilot, "/save notes")
            await pilot.press(*(["down"] if walk else []), "enter")
            await pilot.pause()
            assert sent(pilot)[-1] == expected


async def test_a_click_takes_an_offer() -> None:
    async with running() as (pilot, composer):
        await pilot.press("slash")
        await pilot.pause()
        await pilot.click(composer.popup, offset=(3, 1))
        await pilot.pause()
        assert composer.text == "/new"


async def test_a_slash_within_a_text_is_a_slash() -> None:
    async with running() as (pilot, composer):
        await type_text(pilot, "a /h")
        assert not composer.popup.is_open


# --- pasting ---


async def test_pastes_are_cleaned_and_never_sent_by_themselves() -> None:
    async with running() as (pilot, composer):
        await paste(pilot, composer, "a\x1b[31mb\r\nc\u2028d\x07\n")
        assert composer.text == "ab\nc\nd\n"
        assert sent(pilot) == []


async def test_a_long_paste_is_folded_and_sent_in_full() -> None:
    long = "\n".join(f"行 {number}" for number in range(200))
    async with running() as (pilot, composer):
        await type_text(pilot, "看：")
        await paste(pilot, composer, long)
        await type_text(pilot, "。")
        assert "看：⟦pasted text 1, 200 lines⟧。" in screen_text(pilot.app)
        assert composer.text == f"看：{long}。"
        await pilot.press("enter")
        await pilot.pause()
        assert sent(pilot) == [f"看：{long}。"]


async def test_a_folded_paste_is_one_character_to_the_keys() -> None:
    async with running() as (pilot, composer):
        await type_text(pilot, "ab")
        await pilot.press("left")
        await paste(pilot, composer, "x" * 2000)
        await pilot.press("left", "y", "right", "z")
        assert composer.text == "ay" + "x" * 2000 + "zb"
        await pilot.press("left", "backspace")
        assert composer.text == "ayzb"
        await pilot.press("ctrl+z")
        assert composer.text == "ay" + "x" * 2000 + "zb"
        await pilot.press("home", "ctrl+right")
        composer.prompt.move_cursor((0, 10))
        await type_text(pilot, "!")
        assert "x" * 2000 in composer.text, "no key gets inside"


# --- words ---


@pytest.mark.parametrize(
    ("text", "keys", "left"),
    [
        ("我喜欢看电影", ["ctrl+w"], "我喜欢看电"),
        ("我们的模型没有加载", ["ctrl+w", "ctrl+w"], "我们的模型"),
        ("加载 ChatGLM-6B", ["ctrl+w"], "加载 ChatGLM-"),
        ("模型没有加载", ["home", "ctrl+delete"], "没有加载"),
        ("a👍🏽", ["backspace"], "a"),
        ("你好", ["backspace"], "你"),
        ("一\n二", ["backspace", "ctrl+w"], "一"),
    ],
)
async def test_deleting(text: str, keys: list[str], left: str) -> None:
    async with running() as (pilot, composer):
        composer.text = text
        await pilot.press(*keys)
        assert composer.text == left


async def test_quoting_and_inserting() -> None:
    async with running() as (pilot, composer):
        composer.text = "见下："
        composer.quote("第一行\n\n第二行\n")
        await type_text(pilot, "对吗？")
        assert composer.text == "见下：\n> 第一行\n>\n> 第二行\n\n对吗？"
        composer.text = ""
        composer.prompt.insert_text("a\x1b[1mb")
        assert composer.text == "ab"


async def test_changes_are_told() -> None:
    async with running() as (pilot, _composer):
        await pilot.press("a")
        await pilot.pause()
        assert isinstance(pilot.app, Host)
        assert any(isinstance(message, Composer.Changed) for message in pilot.app.kept)


# --- folded files, the draft's size, editing elsewhere ---


async def test_an_at_sign_takes_a_file_in() -> None:
    async with running() as (pilot, composer):
        composer.files = lambda name: [Completion("我的 notes.md", "1 KB")] if "note".startswith(name) else []
        composer.take_file = lambda path: (
            f"{path}, about 9 tokens",
            AttachedFile(path, f"/{path}", "全部内容"),
        )
        await type_text(pilot, "看 @no")
        await wait_until(pilot, lambda: composer.popup.is_open)
        await pilot.press("enter")
        await type_text(pilot, "?")
        assert "看 ⟦我的 notes.md, about 9 tokens⟧?" in screen_text(pilot.app)
        assert composer.text == "看 我的 notes.md:\n```\n全部内容\n```?", "a draft has the file in full"
        await pilot.press("left", "backspace", "ctrl+z", "enter")
        await pilot.pause()
        assert sent(pilot) == ["看 @我的 notes.md?"]
        assert attached(pilot) == [AttachedFile("我的 notes.md", "/我的 notes.md", "全部内容")]


async def test_a_file_that_is_refused_leaves_the_text_as_it_is() -> None:
    def refuse(_path: str) -> tuple[str, AttachedFile]:
        raise UserError("a.bin is not a text file")

    async with running() as (pilot, composer):
        composer.files, composer.take_file = lambda _name: [Completion("a.bin")], refuse
        await type_text(pilot, "@a")
        await wait_until(pilot, lambda: composer.popup.is_open)
        await pilot.press("tab")
        assert [each.message for each in pilot.app._notifications] == ["a.bin is not a text file"]
        assert composer.text == "@a"


async def test_a_slow_folder_blocks_no_keys_and_what_comes_too_late_is_dropped() -> None:
    there = threading.Event()

    def files(name: str) -> list[Completion]:
        assert name != "s" or there.wait(30)
        return [Completion(f"{name}.txt"), Completion(f"{name}ome.txt")]

    def offered() -> list[str]:
        return [offer.text for offer in composer.popup.offers]

    async def found() -> None:
        there.set()
        looking = [thread for thread in threading.enumerate() if thread.name == "glmtui-files"]
        await wait_until(pilot, lambda: not any(thread.is_alive() for thread in looking))
        await pilot.pause()

    async with running() as (pilot, composer):
        composer.files = files
        await type_text(pilot, "@s")
        assert "@s" in screen_text(pilot.app)
        assert offered() == []
        await type_text(pilot, "o")
        await wait_until(pilot, lambda: offered() == ["so.txt", "soome.txt"])
        await found()
        assert offered() == ["so.txt", "soome.txt"], "what comes late is not for this text"
        there.clear()
        await pilot.press("backspace")
        await pilot.pause()
        assert offered() == ["so.txt", "soome.txt"], "these may be meant still"
        await pilot.press("escape")
        await found()
        assert offered() == [], "nobody wants them any more"


async def test_a_file_whose_whole_name_is_typed_is_taken_before_it_was_found(tmp_path: Path) -> None:
    there = threading.Event()
    (tmp_path / "notes.md").write_text("written down", "utf-8")

    def files(_name: str) -> list[Completion]:
        there.wait(30)
        return []

    async with running() as (pilot, composer):
        composer.files, composer.take_file = files, lambda path: take(path, 0)
        await type_text(pilot, f"@{tmp_path}/notes.md")
        await pilot.press("enter")
        await pilot.pause()
        assert ("written down" in composer.text, sent(pilot)) == (True, [])
        there.set()


async def test_what_is_folded_can_be_shown_in_full() -> None:
    async with running() as (pilot, composer):
        await paste(pilot, composer, "行\n" * 20)
        await pilot.press("alt+e")
        await pilot.pause()
        assert "⟦" not in screen_text(pilot.app)
        assert composer.text == "行\n" * 20
        await pilot.press("ctrl+z")
        await pilot.pause()
        assert "⟦pasted text 1" in screen_text(pilot.app)


async def test_a_long_prompt_gives_way_to_a_short_one_and_back() -> None:
    long = "\n".join("行" for _number in range(30))
    async with running(["short", long]) as (pilot, composer):
        await pilot.press("up")
        composer.prompt.move_cursor((0, 0))
        await pilot.press("up")
        assert composer.text == "short"
        await pilot.press("ctrl+z")
        assert composer.text == long
        await pilot.press("ctrl+y")
        assert composer.text == "short"


async def test_the_draft_is_measured_against_what_is_left() -> None:
    async with running() as (pilot, composer):
        await type_text(pilot, "你好")
        composer.show_count(34, 1980)
        await pilot.pause()
        assert "uses 34 of 1,980 tokens" in screen_text(pilot.app)
        composer.show_count(34, 12)
        assert composer.prompt.has_class("-too-long")
        composer.show_count(34, -1)
        await pilot.pause()
        assert "uses 34 of 0 tokens" in screen_text(pilot.app)
        composer.show_count(0, 12)
        await pilot.pause()
        assert "left" not in screen_text(pilot.app)


KEYS = st.sampled_from(
    ["left", "right", "up", "down", "home", "end", "backspace", "delete", "ctrl+w", "ctrl+left", "ctrl+right",
     "alt+d", "ctrl+j", "ctrl+z", "ctrl+y", "shift+left", "shift+right", "alt+e"]
)  # fmt: skip
TYPED = st.text("你好世界的abc 1，。👍🏽é@/⟦⟧", min_size=1, max_size=4)
STEPS = st.lists(st.one_of(KEYS, TYPED, st.integers(11, 30)), max_size=25)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
async def test_no_keys_lose_what_was_written(steps: list[str | int]) -> None:
    """After any keys, undoing all and doing it again gives the same text, and what is sent is what stands."""
    async with running() as (pilot, composer):
        for step in steps:
            if isinstance(step, int):
                await paste(pilot, composer, "粘贴的一行\n" * step)
            elif step in KEYS.elements:  # type: ignore[attr-defined]
                await pilot.press(step)
            else:
                await type_text(pilot, step)
        while composer.prompt.history.redo_stack:  # what the keys undid
            composer.prompt.redo()
        text = composer.text
        while composer.prompt.history.undo_stack:
            composer.prompt.undo()
        assert composer.text == ""
        while composer.prompt.history.redo_stack:
            composer.prompt.redo()
        assert composer.text == text
        composer.send()
        await pilot.pause()
        assert sent(pilot) == ([text] if text.strip() else [])

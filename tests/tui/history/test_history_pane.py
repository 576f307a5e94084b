"""The conversations on the left, by keyboard alone."""

from __future__ import annotations

import threading
from datetime import date, datetime, timedelta

import pytest
from rich.cells import cell_len
from textual.widgets import Input
from tui.app_support import running, send, settled, visible_text
from tui_helpers import wait_until

from glmtui.chat.library import Library
from glmtui.tui.history.history import HistoryPane
from glmtui.tui.history.rows import day_name, hit_row
from glmtui.tui.screens.choice import ChoiceScreen
from glmtui.tui.screens.prompt import PromptScreen

TODAY = date(2026, 3, 15)


@pytest.mark.parametrize(
    ("days", "name"),
    [
        (-1, "Today"),
        (0, "Today"),
        (1, "Yesterday"),
        (3, "Last 7 days"),
        (20, "Last 30 days"),
        (60, "2026-01"),
    ],
)
def test_days_have_names(days: int, name: str) -> None:
    assert day_name(TODAY - timedelta(days=days), TODAY) == name


@pytest.fixture(autouse=True)
def calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days are counted from a fixed one, so that midnight makes no difference."""
    monkeypatch.setattr(HistoryPane, "today", staticmethod(lambda: TODAY))


def write(*questions: str, days: int = 0) -> list[str]:
    """Write conversations of `days` ago, oldest first; return their ids."""
    library = Library()
    begin = datetime(TODAY.year, TODAY.month, TODAY.day, 12).astimezone() - timedelta(days=days)
    ids = []
    for minute, question in enumerate(questions):
        conversation = library.create()
        time = begin + timedelta(minutes=minute)
        conversation.append("user", question, time=time)
        conversation.append("assistant", f"An answer to {question}", time=time)
        conversation.rename(question)
        ids.append(conversation.id)
    return ids


async def test_conversations_are_grouped_by_day_newest_first() -> None:
    write("old one", days=1)
    write("first", "second")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "second" in visible_text(app.chat.history))
        lines = [line.strip() for line in visible_text(app.chat.history.list).split("\n")]
        assert lines == ["Today", "second", "first", "Yesterday", "old one"]


async def test_open_with_the_arrow_keys_and_mark_it() -> None:
    write("first", "second")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "second" in visible_text(app.chat.history))
        app.chat.history.list.focus()
        await pilot.press("down", "down", "enter")
        await wait_until(pilot, lambda: "An answer to first" in visible_text(app.chat.transcript))
        assert app.chat.composer.prompt.has_focus
        await wait_until(pilot, lambda: "▌first" in visible_text(app.chat.history))


async def test_search_finds_text_and_opens_it() -> None:
    write("怎样量化模型？", "something else")
    async with running() as (pilot, app, _engine):
        await pilot.press("ctrl+o")
        assert app.chat.history.search.has_focus
        app.chat.history.search.value = "量化"
        await wait_until(pilot, lambda: "something else" not in visible_text(app.chat.history.list))
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: "An answer to 怎样量化模型？" in visible_text(app.chat.transcript))
        app.chat.history.search.value = "nowhere"
        await wait_until(pilot, lambda: "Nothing found." in visible_text(app.chat.history))


async def test_what_was_found_is_pinned_and_then_deleted() -> None:
    write("怎样量化模型？", "something else")
    async with running() as (pilot, app, _engine):
        await pilot.press("ctrl+o")
        app.chat.history.search.value = "量化"
        await wait_until(pilot, lambda: "something else" not in visible_text(app.chat.history.list))
        await pilot.press("enter", "down", "p")
        await settled(pilot)
        await pilot.press("d")
        await wait_until(pilot, lambda: len(Library().list()) == 1)


async def test_rename_delete_and_undo() -> None:
    write("first")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "first" in visible_text(app.chat.history))
        app.chat.history.list.focus()
        await pilot.press("down", "r")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        app.screen.query_one(Input).value = "A better name"
        await pilot.press("enter")
        await wait_until(pilot, lambda: "A better name" in visible_text(app.chat.history))
        app.chat.history.list.focus()
        await pilot.press("delete")
        await wait_until(pilot, lambda: "A better name" not in visible_text(app.chat.history))
        assert Library().list() == []
        await pilot.press("u")
        await wait_until(pilot, lambda: "A better name" in visible_text(app.chat.history))


async def test_a_key_that_comes_twice_closes_a_dialog_once() -> None:
    write("first")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "first" in visible_text(app.chat.history))
        app.chat.history.list.focus()
        await pilot.press("down", "r")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        field = app.screen.query_one(Input)
        field.value = "renamed"
        for _time in range(3):
            await field.action_submit()  # as Enter does, before the dialog knows of it
        await wait_until(pilot, lambda: "renamed" in visible_text(app.chat.history))
        assert app.screen is app.chat


async def test_pinned_conversations_come_first() -> None:
    first, _second = write("first", "second")
    Library().open(first).pin()
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "Pinned" in visible_text(app.chat.history))
        lines = [line.strip() for line in visible_text(app.chat.history.list).split("\n")]
        assert lines == ["Pinned", "first", "Today", "second"]


async def test_more_appear_on_the_way_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HistoryPane, "STEP", 30)
    write(*(f"number {index}" for index in range(70)))
    async with running() as (pilot, app, _engine):
        options = app.chat.history.list
        await wait_until(pilot, lambda: options.option_count == 31)
        options.focus()
        await pilot.press("end")
        await wait_until(pilot, lambda: options.option_count == 61)
        await pilot.press("end")
        await wait_until(pilot, lambda: options.option_count == 71)


async def test_markup_and_escapes_in_titles_are_text() -> None:
    write("[red]not red[/red] \x1b[31m")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "[red]not red[/red]" in visible_text(app.chat.history))


async def test_what_appears_in_the_folder_appears_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HistoryPane, "LOOK_AGAIN", 0.05)
    async with running() as (pilot, app, _engine):
        write("from elsewhere")
        assert app.chat.history.library.list()  # who else reads the folder keeps nothing from the pane
        await wait_until(pilot, lambda: "from elsewhere" in visible_text(app.chat.history))


async def test_pin_from_the_list() -> None:
    write("first", "second")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "second" in visible_text(app.chat.history))
        app.chat.history.list.focus()
        await pilot.press("down", "down", "p")
        await wait_until(pilot, lambda: "Pinned" in visible_text(app.chat.history.list))
        lines = [line.strip() for line in visible_text(app.chat.history.list).split("\n")]
        assert lines == ["Pinned", "first", "Today", "second"]
        await settled(pilot)
        await pilot.press("p")
        await wait_until(pilot, lambda: "Pinned" not in visible_text(app.chat.history.list))


async def test_only_the_conversations_of_one_model() -> None:
    library = Library()
    for model in ("nano", "chatglm-6b"):
        conversation = library.create()
        conversation.append("user", f"Asked of {model}")
        conversation.append("assistant", "An answer", meta={"model": model})
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "Asked of nano" in visible_text(app.chat.history.list))
        app.chat.history.list.focus()
        await pilot.press("m")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: "Asked of nano" not in visible_text(app.chat.history.list))
        assert "only chatglm-6b" in visible_text(app.chat.history)
        app.chat.history.search.value = "answer"
        await wait_until(pilot, lambda: "Found" in visible_text(app.chat.history))
        assert "Asked of nano" not in visible_text(app.chat.history.list)
        app.chat.history.search.value = ""
        app.chat.history.list.focus()
        await pilot.press("m")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("home", "enter")
        await wait_until(pilot, lambda: "Asked of nano" in visible_text(app.chat.history.list))


async def test_the_trash_is_shown_and_a_conversation_brought_back() -> None:
    first, _second = write("first", "second")
    Library().trash(first)
    async with running() as (pilot, app, _engine):
        await send(pilot, "/trash")
        await wait_until(pilot, lambda: "Trash" in visible_text(app.chat.history))
        await wait_until(pilot, lambda: "first" in visible_text(app.chat.history.list))
        assert app.chat.scope() == "composer", "who types a command writes on"
        app.chat.history.list.focus()
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: "An answer to first" in visible_text(app.chat.transcript))
        app.chat.history.list.focus()
        await pilot.press("t")
        await wait_until(pilot, lambda: "first" in visible_text(app.chat.history.list))
        assert {summary.title for summary in Library().list()} == {"first", "second"}


async def test_changes_by_others_appear() -> None:
    (written,) = write("first")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "first" in visible_text(app.chat.history))
        app.chat.history.list.focus()
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: "An answer to first" in visible_text(app.chat.transcript))
        other = Library().open(written)
        other.append("user", "Asked elsewhere")
        other.rename("Renamed elsewhere")
        write("Begun elsewhere")
        await wait_until(pilot, lambda: "Asked elsewhere" in visible_text(app.chat.transcript))
        await wait_until(pilot, lambda: "Renamed elsewhere" in visible_text(app.chat.history))
        assert "Begun elsewhere" in visible_text(app.chat.history)


def test_a_find_shows_the_words_however_far_along_the_line() -> None:
    (found,) = write("title")
    Library().open(found).append("user", f"{'很长的前文，' * 5}然后才说到量化和 Quantise，{'还有后文，' * 9}")
    (hit,) = Library().search("量化 quantise")  # one that looks at the folder, however slow that was before
    row = hit_row(hit, "量化 quantise", 28, first=True)
    assert row.plain.startswith(" title\n")
    line = row.plain.split("\n")[1]
    assert cell_len(line[: line.index("量化")]) < 20
    marked = [row.plain[span.start : span.end] for span in row.spans if "accent" in str(span.style)]
    assert marked == ["量化", "Quantise"]


async def test_a_find_can_be_opened_while_the_list_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on = threading.Event(), threading.Event()
    async with running() as (pilot, app, _engine):
        await send(pilot, "question")
        await wait_until(pilot, lambda: app.session.answer is None)
        conversation, pane = app.session.conversation, app.chat.history
        await app.session.new()
        await settled(pilot)
        pane.search.value = "question"
        await wait_until(pilot, lambda: pane.list.option_count > 0 and pane.list.options[0].id == "hit-0")
        list_now = app.library.list

        def list_slowly(**options: str | None) -> object:
            reading.set()
            go_on.wait(10)
            return list_now(**options)

        monkeypatch.setattr(app.library, "list", list_slowly)
        pane.search.value = ""
        await wait_until(pilot, reading.is_set)
        pane.list.highlighted = 0
        pane.list.action_select()
        await pilot.pause()
        go_on.set()
        await wait_until(pilot, lambda: app.session.conversation.id == conversation.id)


async def test_walking_through_what_was_found_lists_nothing_else_and_escape_lists_all_again() -> None:
    write("apple one", "apple two", "cherry")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "cherry" in visible_text(app.chat.history))
        await pilot.press("ctrl+o", *"apple")
        await wait_until(pilot, lambda: "Found" in visible_text(app.chat.history))
        await settled(pilot)
        await pilot.press("enter", "end", "home")
        assert "cherry" not in visible_text(app.chat.history)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.session.conversation.title == "apple two")
        await wait_until(pilot, lambda: "cherry" in visible_text(app.chat.history))

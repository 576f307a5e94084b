"""Panes, sizes and keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.driver import Driver
from textual.widget import Widget
from tui.app_support import ScriptedEngine, running, saved, send, settled, visible_text
from tui_helpers import screen_lines, wait_until

from glmtui.session import keys
from glmtui.tui.screens.help import HelpScreen


async def test_a_small_window_shows_the_chat_alone_and_panes_over_it() -> None:
    async with running(size=(80, 24)) as (pilot, app, _engine):
        chat = app.chat
        assert not chat.history.display
        assert not chat.settings_pane.display
        await pilot.press("ctrl+b")
        await settled(pilot)
        assert chat.history.display
        assert chat.query_one("#chat").size.width == 80, "the pane lies over the chat"
        await pilot.press("f3")
        assert not chat.history.display
        assert chat.settings_pane.display
        await pilot.press("escape")
        assert not chat.settings_pane.display
        assert chat.composer.prompt.has_focus
        assert app.settings["ui.history_pane"], "what a small window hides is no change of a setting"
        await send(pilot, "Go")
        await wait_until(pilot, lambda: "Hello!" in visible_text(chat.transcript))


async def test_a_tiny_window_shows_what_is_written() -> None:
    async with running(ScriptedEngine("Yes."), size=(20, 5)) as (pilot, app, _engine):
        await pilot.press(*"hi")
        await settled(pilot)
        assert any("hi" in line for line in screen_lines(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: saved(app).branch()[-1].state == "done")
        await pilot.press("pageup")
        assert any("Yes." in line for line in screen_lines(app))
        await pilot.resize_terminal(120, 36)
        await wait_until(pilot, lambda: any("Yes." in line for line in screen_lines(app)))
        assert app.chat.title_bar.display


async def test_a_window_without_room_for_a_letter_draws_nothing_there() -> None:
    async with running(size=(1, 1)) as (pilot, app, _engine):
        await settled(pilot)
        assert app.chat.composer.prompt.content_size.width == 0
        await pilot.press(*"hi")
        await pilot.resize_terminal(80, 24)
        await wait_until(pilot, lambda: any("hi" in line for line in screen_lines(app)))


async def test_a_tiny_window_shows_as_much_help_as_fits_and_the_rest_by_scrolling() -> None:
    async with running(size=(20, 5)) as (pilot, app, _engine):
        await pilot.press("f1")
        await settled(pilot)
        assert "Key: Enter" in "".join(screen_lines(app))
        await pilot.press("pagedown")
        await settled(pilot)
        assert "Key: Ctrl+J" in "".join(screen_lines(app))
        await pilot.press("escape")
        assert app.screen is app.chat


async def test_a_large_window_keeps_lines_readable() -> None:
    async with running(size=(200, 50)) as (pilot, app, _engine):
        await send(pilot, "word " * 100)
        assert app.chat.transcript.content_size.width <= 100
        assert app.chat.history.display


async def test_panes_stay_as_they_were_left() -> None:
    async with running() as (pilot, app, _engine):
        await pilot.press("ctrl+b", "f3")
        await settled(pilot)
        assert not app.chat.history.display
        assert app.chat.settings_pane.display
    async with running() as (_pilot, app, _engine):
        assert not app.chat.history.display
        assert app.chat.settings_pane.display


async def test_resizing_hides_and_brings_back_the_panes() -> None:
    async with running() as (pilot, app, _engine):
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert not app.chat.history.display
        await pilot.resize_terminal(120, 36)
        await settled(pilot)
        assert app.chat.history.display


async def test_f6_goes_round_the_panes() -> None:
    async with running() as (pilot, app, _engine):
        seen = []
        for _turn in range(3):
            await pilot.press("f6")
            await pilot.pause()
            seen.append(app.chat.scope())
        assert seen == ["transcript", "history", "composer"]


async def test_f1_shows_the_keys_of_where_one_is() -> None:
    async with running() as (pilot, app, _engine):
        app.chat.history.list.focus()
        await pilot.press("f1")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await wait_until(pilot, lambda: "Move to the trash" in visible_text(app.screen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat)


async def test_escape_leaves_a_pane_before_it_stops_a_load() -> None:
    async with running(ScriptedEngine(hold_load=True)) as (pilot, app, _engine):
        app.chat.history.list.focus()
        await pilot.press("escape")
        assert app.chat.composer.prompt.has_focus
        assert app.session.loading
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.session.state.activity == "none")
        await wait_until(pilot, lambda: "was stopped" in visible_text(app.chat.transcript))


async def test_ctrl_c_stops_then_quits() -> None:
    engine = ScriptedEngine(hold=True)
    async with running(engine) as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.state.activity == "answering")
        await pilot.press("ctrl+c")
        await wait_until(pilot, lambda: app.session.answer is None)
        assert not engine.closed
        await pilot.press("ctrl+c")
        await wait_until(pilot, lambda: engine.closed)


async def test_a_suggestion_is_sent_by_a_click() -> None:
    async with running() as (pilot, _app, engine):
        await pilot.click("Suggestion")
        await wait_until(pilot, lambda: bool(engine.generated))
        assert engine.generated[0].messages[0].text == "你好"


async def test_hints_can_be_clicked() -> None:
    async with running() as (pilot, app, _engine):
        text = visible_text(app.chat.hints)
        at = text.index("F3") + app.chat.hints.styles.padding.left - (len(text) - len(text.lstrip()))
        await pilot.click("#hints", offset=(at, 0))
        await settled(pilot)
        assert app.chat.settings_pane.display


# --- keys ---


async def test_a_key_can_be_bound_elsewhere(home: Path) -> None:
    path = home / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[keys]\n"app.settings" = "f8"\n', "utf-8")
    async with running(size=(160, 36)) as (pilot, app, _engine):
        await pilot.press("f3")
        assert not app.chat.settings_pane.display
        await pilot.press("f8")
        await settled(pilot)
        assert app.chat.settings_pane.display
        assert "F8 settings" in visible_text(app.chat.hints)


async def test_keys_that_clash_are_named(home: Path) -> None:
    path = home / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[keys]\n"app.settings" = "f1"\n"app.setings" = "f9"\n', "utf-8")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "F1 is bound to both" in visible_text(app.chat.transcript))
        assert "Did you mean app.settings?" in visible_text(app.chat.transcript)


def test_no_shipped_keys_clash() -> None:
    for scope in keys.SCOPES:
        names = [name for key in keys.KEYS if key.scope == scope for name in keys.keys_of(key, {})]
        assert len(names) == len(set(names)), scope


@pytest.mark.parametrize(
    ("name", "shown"),
    [("ctrl+b", "Ctrl+B"), ("escape", "Esc"), ("slash", "/"), ("j", "j"), ("alt+up", "Alt+↑")],
)
def test_keys_are_written_as_people_do(name: str, shown: str) -> None:
    assert keys.display(name) == shown


def test_the_table_for_people_has_every_key() -> None:
    table = keys.markdown_table()
    assert all(f"`{key.id}`" in table for key in keys.KEYS)


async def test_every_binding_of_the_app_is_in_the_table() -> None:
    async with running(size=(140, 50)) as (pilot, app, _engine):
        await pilot.press("f3")
        await settled(pilot)
        nodes = list(app.screen.walk_children(Widget))
        ids = {
            binding.id
            for node in [app, *nodes]
            for bindings in node._bindings.key_to_bindings.values()
            for binding in bindings
            if binding.id
        }
        assert ids <= set(keys.BY_ID), "a binding with an id is missing in glmtui.session.keys"


async def test_what_is_said_in_passing_covers_nothing_that_is_written() -> None:
    async with running(size=(80, 24), notifications=True) as (pilot, app, _engine):
        await pilot.press(*"ab", "ctrl+j", *"c", "alt+e")
        await wait_until(pilot, lambda: any("Nothing is folded" in line for line in screen_lines(app)))
        said = next(y for y, line in enumerate(screen_lines(app)) if "Nothing is folded" in line)
        assert said + 2 <= app.chat.composer.region.y
        assert any(line.rstrip().endswith("│") and "│ c " in line for line in screen_lines(app))
        await pilot.press("alt+e", "alt+e")
        assert len(app.screen.query("Toast")) == 1, "the same is not said twice"
        await pilot.press("ctrl+j", "ctrl+j")
        await wait_until(
            pilot, lambda: app.screen.query_one("Toast").region.bottom <= app.chat.composer.region.y
        )


@pytest.mark.parametrize("size", [(80, 24), (130, 36)])
async def test_what_is_said_in_passing_stands_next_to_the_settings(size: tuple[int, int]) -> None:
    async with running(size=size, notifications=True) as (pilot, app, _engine):
        app.say("Something that takes a line or two to say, as some of these things do.")
        await pilot.press("f3")
        await settled(pilot)
        pane = app.chat.settings_pane.region
        await wait_until(pilot, lambda: app.screen.query_one("Toast").region.right <= pane.x)
        assert app.screen.query_one("Toast").region.x >= 0


async def test_the_title_of_a_pane_shows_that_the_focus_is_in_it() -> None:
    async with running(size=(130, 36)) as (pilot, app, _engine):
        await settled(pilot)
        settings, history = (
            pane.query_one(".pane-title") for pane in (app.chat.settings_pane, app.chat.history)
        )
        plain = settings.styles.color
        await pilot.press("f3")
        await wait_until(pilot, lambda: settings.styles.color != plain)
        assert history.styles.color == plain
        app.chat.composer.focus()
        await wait_until(pilot, lambda: settings.styles.color == plain)
        app.chat.history.query_one("ConversationList").focus()
        await wait_until(pilot, lambda: history.styles.color != plain)


@pytest.mark.parametrize("size", [(80, 24), (100, 30)])
async def test_no_border_shows_beside_a_dialog(size: tuple[int, int]) -> None:
    async with running(size=size) as (pilot, app, _engine):
        await settled(pilot)
        border = app.chat.composer.prompt.styles.border
        for key, corners in (("f1", 1), ("ctrl+p", 0)):
            await pilot.press(key)
            await wait_until(pilot, lambda: app.screen is not app.chat)
            await settled(pilot)
            await wait_until(pilot, lambda n=corners: "".join(screen_lines(app)).count("╰") == n)
            await pilot.press("escape")
            await wait_until(pilot, lambda: app.chat.composer.prompt.styles.border == border)


async def test_the_hints_say_what_the_keys_do() -> None:
    engine = ScriptedEngine(hold=True)
    async with running(engine) as (pilot, app, _engine):
        assert "Ctrl+J new line" in visible_text(app.chat.hints)
        app.session.preferences.bind("composer.enter", "f9")
        await wait_until(pilot, lambda: "F9 sends, Ctrl+J new line" in "\n".join(screen_lines(app)))
        app.session.preferences.bind("composer.enter", None)
        app.session.preferences.set("ui.send_key", "ctrl+enter")
        await wait_until(pilot, lambda: "Ctrl+J send" in visible_text(app.chat.hints))
        app.session.preferences.set("ui.send_key", "enter")
        await send(pilot, "one")
        await wait_until(pilot, lambda: "Esc stop" in visible_text(app.chat.hints))
        await send(pilot, "two")
        await pilot.press("f7")
        await wait_until(pilot, lambda: "Esc back" in visible_text(app.chat.hints))
        assert "Esc stop" not in visible_text(app.chat.hints)


async def test_all_is_drawn_again_when_a_program_that_was_stopped_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as (pilot, app, _engine):
        drawn: list[str] = []
        display = app._display
        monkeypatch.setattr(
            app, "_display", lambda where, what: (drawn.append(type(what).__name__), display(where, what))
        )
        app.post_message(Driver.SignalResume())
        await wait_until(pilot, lambda: "LayoutUpdate" in drawn)

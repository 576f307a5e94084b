"""Each slash command as a person sees it in the app."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input, OptionList
from tui.app_support import ScriptedEngine, running, saved, send, visible_text
from tui_helpers import wait_until

from glmtui.tui.screens.prompt import PromptScreen
from glmtui.tui.screens.themes import ThemeScreen


async def test_help_lists_the_commands() -> None:
    async with running(size=(120, 60)) as (pilot, app, _engine):
        await send(pilot, "/help")
        await wait_until(pilot, lambda: "/regenerate" in visible_text(app.screen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat)
        await send(pilot, "/help quant")
        await wait_until(pilot, lambda: "/quant 4|8|none" in visible_text(app.chat.transcript))


async def test_quant_device_threads_and_model_load_again_and_keep_the_conversation(tmp_path: Path) -> None:
    async with running() as (pilot, app, engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.answer is None)
        await send(pilot, "/quant 4")
        await wait_until(pilot, lambda: "INT4" in visible_text(app.chat.status_line))
        await send(pilot, "/device cpu")
        await send(pilot, "/threads 2")
        await send(pilot, f"/model {tmp_path}")
        await wait_until(pilot, lambda: tmp_path.name in visible_text(app.chat.status_line))
        last = engine.loads[-1].spec
        assert (last.source, last.quant, last.device, last.threads) == (str(tmp_path), "4", "cpu", 2)
        assert "Go" in visible_text(app.chat.transcript)
        assert app.settings["model.quant"] == "4"


async def test_theme_by_name_and_by_preview() -> None:
    async with running() as (pilot, app, _engine):
        await send(pilot, "/theme midnight")
        assert app.theme == "midnight"
        assert app.settings["ui.theme"] == "midnight"
        await send_without_waiting(pilot, app, "/theme")
        await wait_until(pilot, lambda: isinstance(app.screen, ThemeScreen))
        await pilot.press("down")
        await wait_until(pilot, lambda: app.theme != "midnight")
        assert app.settings["ui.theme"] == "midnight", "a preview changes nothing"
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.theme == "midnight")
        await send_without_waiting(pilot, app, "/theme")
        await wait_until(pilot, lambda: isinstance(app.screen, ThemeScreen))
        names = [option.id for option in app.screen.query_one(OptionList).options]
        app.screen.query_one(OptionList).highlighted = names.index("dawn")
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.settings["ui.theme"] == "dawn")
        assert app.theme == "dawn"


async def test_rename_asks_when_no_title_is_given() -> None:
    async with running() as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.answer is None)
        await send(pilot, "/rename 我的标题")
        assert "我的标题" in visible_text(app.chat.title_bar)
        await send_without_waiting(pilot, app, "/rename")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        app.screen.query_one(Input).value = "Another"
        await pilot.press("enter")
        await wait_until(pilot, lambda: "Another" in visible_text(app.chat.title_bar))
        assert saved(app).title == "Another"


async def test_delete_and_undo() -> None:
    async with running() as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.answer is None)
        path = saved(app).path
        assert path is not None
        await send(pilot, "/delete")
        assert not path.exists()
        assert "Go" not in visible_text(app.chat.transcript)
        await send(pilot, "/undo")
        assert path.exists()
        await wait_until(pilot, lambda: "Go" in visible_text(app.chat.history))


async def test_language_changes_at_once_and_keeps_the_conversation() -> None:
    async with running() as (pilot, app, _engine):
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.answer is None)
        before = app.chat.composer
        await send(pilot, "/language zh_CN")
        await wait_until(
            pilot, lambda: app.chat.composer is not before and "Hello!" in visible_text(app.chat.transcript)
        )
        await send(pilot, "/language en")
        await send(pilot, "Still there?")
        await wait_until(pilot, lambda: "Still there?" in visible_text(app.chat.transcript))


async def test_copy_takes_the_answer_or_its_code() -> None:
    async with running(ScriptedEngine("Here:\n\n```python\nprint(1)\n```\n")) as (pilot, app, _engine):
        await send(pilot, "/copy")
        await wait_until(
            pilot, lambda: any("no answer to copy" in str(n.message) for n in app._notifications)
        )
        await send(pilot, "Go")
        await wait_until(pilot, lambda: app.session.answer is None)
        await send(pilot, "/copy code")
        assert app.clipboard == "print(1)"
        await send(pilot, "/copy")
        assert app.clipboard.startswith("Here:")


async def test_stats_and_keys_are_shown() -> None:
    async with running(size=(120, 50)) as (pilot, app, _engine):
        await send(pilot, "/stats")
        await wait_until(pilot, lambda: "7.0 M" in visible_text(app.chat.transcript))
        await send(pilot, "one")
        await wait_until(pilot, lambda: app.session.state.activity == "ready" and app.session.stats)
        await send(pilot, "/regenerate")
        await wait_until(pilot, lambda: "version 2 of 2" in visible_text(app.chat.transcript))
        await send(pilot, "/stats")
        await wait_until(pilot, lambda: "2, with other versions 3" in visible_text(app.chat.transcript))
        assert "of 2,048 tokens" in visible_text(app.chat.transcript)
        await send(pilot, "/keys")
        await wait_until(pilot, lambda: "Send (or new line" in visible_text(app.screen))
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat)


async def test_quit_as_a_command() -> None:
    async with running() as (pilot, app, engine):
        app.submit("/quit")
        await wait_until(pilot, lambda: engine.closed)
    assert app.return_code == 0


async def test_completion_offers_commands_and_arguments() -> None:
    async with running() as (pilot, app, _engine):
        await pilot.press(*"/qu")
        await pilot.pause()
        offered = [offer.text.strip() for offer in app.chat.composer.popup.offers]
        assert offered[:3] == ["/queue", "/quant", "/quit"]
        app.chat.composer.text = "/theme mid"
        await pilot.pause()
        assert [offer.text for offer in app.chat.composer.popup.offers] == ["/theme midnight"]


async def test_the_palette_finds_commands_by_what_they_do() -> None:
    async with running() as (pilot, app, _engine):
        await pilot.press("ctrl+p")
        await wait_until(pilot, lambda: bool(app.screen.query("CommandList")))
        await pilot.press(*"midnight")
        options = app.screen.query_one("CommandList", OptionList)
        await wait_until(
            pilot, lambda: options.option_count > 0 and "midnight" in str(options.options[0].prompt)
        )
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.theme == "midnight")


async def send_without_waiting(pilot, app, text: str) -> None:  # type: ignore[no-untyped-def]
    """Start a command that opens a dialog (and so does not end by itself)."""
    app.submit(text)
    await pilot.pause()

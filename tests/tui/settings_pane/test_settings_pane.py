"""The settings on the right: every change applies at once and is saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tui.app_support import ScriptedEngine, running, saved, send, settled, visible_text
from tui_helpers import wait_until

from glmtui.protocol.sampling import Sampling
from glmtui.settings.settings import SCHEMA, Settings, Value
from glmtui.tui.screens.keys import KeysScreen
from glmtui.tui.screens.presets import PresetScreen
from glmtui.tui.screens.prompt import PromptScreen
from glmtui.tui.settings_pane.rows import PresetRow, SettingRow, stepped

BY_KEY = {setting.key: setting for setting in SCHEMA}


@pytest.mark.parametrize(
    ("key", "value", "direction", "expected"),
    [
        ("generation.temperature", 0.95, 1, 1.0),
        ("generation.temperature", 0.0, -1, 0.0),
        ("generation.temperature", 2.0, 1, 2.0),
        ("generation.max_length", 2048, -1, 1948),
        ("generation.top_k", 9, 1, 10),
        ("generation.seed", None, 1, 0),
        ("model.quant", None, 1, "none"),
        ("model.quant", None, -1, "4"),
        ("model.device", "auto", 1, "cuda"),
        ("ui.mouse", True, 1, False),
    ],
)
def test_one_step(key: str, value: Value, direction: int, expected: Value) -> None:
    assert stepped(BY_KEY[key], value, direction) == expected


@pytest.mark.slow
async def test_every_setting_has_a_row_and_a_line_of_help() -> None:
    async with running(size=(140, 50)) as (pilot, app, _engine):
        await pilot.press("f3")
        await settled(pilot)
        rows = list(app.chat.settings_pane.query(SettingRow))
        assert [row.setting.key for row in rows] == [setting.key for setting in SCHEMA]
        for row in rows:
            row.focus()
            await pilot.pause()
            helped = visible_text(app.chat.settings_pane.query_one("#setting-help"))
            assert row.setting.help.split()[0] in helped


async def test_arrow_keys_change_apply_and_save() -> None:
    async with running(size=(140, 50)) as (pilot, app, _engine):
        await pilot.press("f3")
        app.chat.settings_pane.focus_row("generation.temperature")
        await pilot.press("left")
        await settled(pilot)
        assert app.settings.sampling().temperature == 0.9
        assert Settings.load()["generation.temperature"] == 0.9
        assert "0.9" in visible_text(app.chat.settings_pane)
        await pilot.press("delete")
        await settled(pilot)
        assert Settings.load().is_default("generation.temperature")


async def test_the_models_own_values_are_shown_and_used_until_others_are_set() -> None:
    engine = ScriptedEngine("One.", "Two.")
    own = Sampling(32_768, temperature=0.6, top_k=40)
    engine.info = replace(engine.info, max_length=131_072, sampling=own)
    async with running(engine, size=(160, 60)) as (pilot, app, _engine):
        await pilot.press("f3")
        app.chat.settings_pane.focus_row("generation.max_length")
        await wait_until(pilot, lambda: "0 / 32,76" in visible_text(app.chat.status_line))
        assert "32,768" in visible_text(app.chat.settings_pane)
        app.chat.composer.focus()
        await send(pilot, "/set max_length 200000")
        await send(pilot, "/set top_k 3")
        await wait_until(pilot, lambda: " / 131,07" in visible_text(app.chat.status_line))
        app.chat.settings_pane.focus_row("generation.max_length")
        await settled(pilot)
        assert "takes 131,07" in visible_text(app.chat.settings_pane)
        assert "Default: 32,768" in visible_text(app.chat.settings_pane)
        app.chat.composer.focus()
        await send(pilot, "Go")
        assert engine.generated[-1].sampling == Sampling(200_000, temperature=0.6, top_k=3)


async def test_a_typed_value_is_checked() -> None:
    async with running(size=(140, 50)) as (pilot, app, _engine):
        await pilot.press("f3")
        app.chat.settings_pane.focus_row("generation.seed")
        await pilot.press("enter", *"forty", "enter")
        await settled(pilot)
        assert "generation.seed" in visible_text(app.chat.settings_pane)
        assert app.settings["generation.seed"] is None
        await pilot.press("enter", *"42", "enter")
        await settled(pilot)
        assert app.settings["generation.seed"] == 42
        await pilot.press("enter", *"7", "escape")
        await settled(pilot)
        assert app.settings["generation.seed"] == 42


async def test_a_model_setting_loads_the_model_again() -> None:
    async with running(size=(140, 50)) as (pilot, app, engine):
        await pilot.press("f3")
        app.chat.settings_pane.focus_row("model.quant")
        await pilot.press("left")
        await wait_until(pilot, lambda: "INT4" in visible_text(app.chat.status_line))
        assert engine.loads[-1].spec.quant == "4"


async def test_wrong_values_in_the_file_are_named_and_left_alone(home: Path) -> None:
    path = home / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    text = '# mine\n[generation]\ntemperature = "hot"\n[ui]\ntheme = "nowhere"\n'
    path.write_text(text, "utf-8")
    async with running() as (pilot, app, _engine):
        await wait_until(pilot, lambda: "generation.temperature" in visible_text(app.chat.transcript))
        assert "nowhere" in visible_text(app.chat.transcript)
        assert app.settings["generation.temperature"] == 0.95
        assert path.read_text("utf-8") == text


async def test_a_conversation_has_values_of_its_own() -> None:
    async with running(ScriptedEngine("One.", "Two."), size=(140, 50)) as (pilot, app, engine):
        await send(pilot, "Go")
        await pilot.press("f3")
        app.chat.settings_pane.focus_row("generation.temperature")
        await pilot.press("o", "left")
        await settled(pilot)
        pane = visible_text(app.chat.settings_pane)
        assert "◆ Temperature" in pane
        assert "all others: 0.95" in pane
        assert saved(app).settings["generation.temperature"] == 0.9
        assert Settings.load().is_default("generation.temperature")
        app.chat.composer.focus()
        await send(pilot, "Again")
        assert engine.generated[-1].sampling.temperature == 0.9
        await send(pilot, "/new")
        assert "◆" not in visible_text(app.chat.settings_pane)
        await send(pilot, "Elsewhere")
        assert engine.generated[-1].sampling.temperature == 0.95


async def test_a_preset_is_taken_with_the_arrow_keys_and_from_the_list() -> None:
    async with running(size=(140, 50)) as (pilot, app, _engine):
        await pilot.press("f3")
        app.chat.settings_pane.query_one(PresetRow).focus()
        await pilot.pause()
        assert "balanced" in visible_text(app.chat.settings_pane)
        await pilot.press("right")
        await wait_until(pilot, lambda: "precise" in visible_text(app.chat.settings_pane))
        assert app.settings["generation.temperature"] == 0.2
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PresetScreen))
        await pilot.press("s")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        await pilot.press(*"mine", "enter")
        await wait_until(pilot, lambda: "mine" in Settings.load().presets)
        await settled(pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PresetScreen))
        await pilot.press("end", "d")
        await wait_until(pilot, lambda: "Del again deletes mine." in visible_text(app.screen))
        assert "mine" in Settings.load().presets
        await pilot.press("d")
        await wait_until(pilot, lambda: "The preset mine is deleted." in visible_text(app.screen))
        assert "mine" not in Settings.load().presets
        await pilot.press("home", "delete")
        refusal = "The preset balanced comes with glmtui and stays."
        await wait_until(pilot, lambda: refusal in visible_text(app.screen))
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.settings.preset == "balanced")


async def test_keys_are_bound_in_the_list_and_clashes_named() -> None:
    async with running(size=(120, 40)) as (pilot, app, _engine):
        await send(pilot, "/keys")
        await wait_until(pilot, lambda: isinstance(app.screen, KeysScreen))
        await pilot.press("down", "down", "enter", "ctrl+b")
        assert app.settings.keys == {"chat.new": "ctrl+b"}
        assert "Ctrl+B is bound to both" in visible_text(app.screen)
        await pilot.press("enter", "ctrl+t", "plus", "f9")
        assert Settings.load().keys == {"chat.new": "ctrl+t,f9"}
        assert "is bound to both" not in visible_text(app.screen)
        await pilot.press("enter", "escape", "escape")
        await settled(pilot)
        old = app.session.conversation
        await pilot.press("f9")
        await wait_until(pilot, lambda: app.session.conversation is not old)
        await send(pilot, "/keys")
        await wait_until(pilot, lambda: isinstance(app.screen, KeysScreen))
        await pilot.press("down", "down", "delete")
        assert Settings.load().keys == {}


async def test_edits_of_the_file_are_taken_in_while_the_app_runs(home: Path) -> None:
    path = home / "config" / "config.toml"
    async with running(size=(140, 50)) as (pilot, app, engine):
        await pilot.press("f3")
        await settled(pilot)
        path.write_text(
            '# mine\n[ui]\ntheme = "mist"\nsettings_pane = true\n[model]\nquant = 8\n'
            '[generation]\ntop_k = "many"\ntemperature = 0.3\n[keys]\n"chat.new" = "f9"\n',
            "utf-8",
        )
        await wait_until(pilot, lambda: app.theme == "mist")
        await wait_until(pilot, lambda: "0.3" in visible_text(app.chat.settings_pane))
        await wait_until(pilot, lambda: engine.loads[-1].spec.quant == "8")
        await wait_until(pilot, lambda: "generation.top_k" in visible_text(app.chat.transcript))
        app.chat.settings_pane.focus_row("generation.temperature")
        await pilot.press("left")
        await settled(pilot)
        assert "# mine" in path.read_text("utf-8")
        assert 'top_k = "many"' in path.read_text("utf-8")
        assert Settings.load()["generation.temperature"] == 0.25
        old = app.session.conversation
        await pilot.press("f9")
        await wait_until(pilot, lambda: app.session.conversation is not old)

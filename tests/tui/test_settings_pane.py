"""The settings on the right: every change applies at once and is saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from tui.app_support import running, settled, visible_text, wait_until

from glmtui.settings import SCHEMA, Settings, Value
from glmtui.tui.widgets.settings_pane import SettingRow, stepped

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


async def test_every_setting_has_a_row_and_a_line_of_help() -> None:
    async with running(size=(140, 50)) as (pilot, app, _worker):
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
    async with running(size=(140, 50)) as (pilot, app, _worker):
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


async def test_a_typed_value_is_checked() -> None:
    async with running(size=(140, 50)) as (pilot, app, _worker):
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
    async with running(size=(140, 50)) as (pilot, app, worker):
        await pilot.press("f3")
        app.chat.settings_pane.focus_row("model.quant")
        await pilot.press("left")
        await wait_until(pilot, lambda: "INT4" in visible_text(app.chat.status_line))
        assert worker.loads[-1].quant == "4"


async def test_wrong_values_in_the_file_are_named_and_left_alone(home: Path) -> None:
    path = home / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    text = '# mine\n[generation]\ntemperature = "hot"\n[ui]\ntheme = "nowhere"\n'
    path.write_text(text, "utf-8")
    async with running() as (pilot, app, _worker):
        await wait_until(pilot, lambda: "generation.temperature" in visible_text(app.chat.transcript))
        assert "nowhere" in visible_text(app.chat.transcript)
        assert app.settings["generation.temperature"] == 0.95
        assert path.read_text("utf-8") == text

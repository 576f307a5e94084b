"""Theme files: what ships is readable for everyone, what a person breaks is named and skipped."""

import os
from itertools import product
from pathlib import Path

import pytest
from textual.color import Color
from tui.app_support import ScriptedEngine, running, send, visible_text
from tui_helpers import wait_until

from glmtui import paths
from glmtui.tui import themes

SHIPPED = themes.load(paths.themes_dir()).themes
ROLES = ("muted", "primary", "secondary", "accent", "success", "warning", "error")
TEXTS = ("text", "link-color", *(f"text-{role}" for role in ROLES))
GROUNDS = ("background", "surface", "panel")


def luminance(color: Color) -> float:
    """WCAG 2 relative luminance."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: Color, second: Color) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_is_the_standard_one() -> None:
    assert contrast(Color.parse("#000"), Color.parse("#fff")) == pytest.approx(21)
    assert contrast(Color.parse("#777"), Color.parse("#fff")) == pytest.approx(4.48, abs=0.01)


def test_enough_themes_ship_and_all_are_readable() -> None:
    loaded = themes.load(paths.themes_dir())
    assert loaded.problems == []
    assert len(loaded.themes) >= 8
    assert {True, False} == {theme.theme.dark for theme in loaded.themes.values()}
    assert {themes.DEFAULT_DARK, themes.DEFAULT_LIGHT, themes.ANSI} <= set(loaded.themes)
    assert all(theme.path.stem == name for name, theme in loaded.themes.items())


@pytest.mark.parametrize("name", [name for name, theme in SHIPPED.items() if not theme.theme.ansi])
def test_every_text_stands_out_from_every_background(name: str) -> None:
    theme = SHIPPED[name].theme
    variables = {**theme.to_color_system().generate(), **theme.variables}
    needed = 7.0 if name == "high-contrast" else 4.5
    weak = [
        f"{text} on {ground}: {ratio:.2f}"
        for text, ground in product(TEXTS, GROUNDS)
        if (ratio := contrast(Color.parse(variables[text]), Color.parse(variables[ground]))) < needed
    ]
    assert weak == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name = "x"\n', "primary"),
        ('primary = "#12345"\n', "#12345"),
        ('primary = "red"\n[colors]\nsurfase = "#000000"\n', "surfase"),
        ("primary = = 1", "line 1"),
        ('primary = "#ff0000"\ndark = "yes"\n', "dark"),
        ('colors = "blue"\n', "colors"),
        ("primary = 0.5\n", "primary"),
        ('primary = "red"\nwarning = ["red"]\n', "warning"),
        ('primary = "red"\n[variables]\nborder = "loud"\n', "border"),
        ('primary = "red"\n[variables]\nlink-style = "wavy"\n', "link-style"),
    ],
)
def test_a_bad_theme_is_named_and_skipped(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "broken.toml").write_text(text, encoding="utf-8")
    (tmp_path / "good.toml").write_text('primary = "#ff8800"\n', encoding="utf-8")
    loaded = themes.load(tmp_path)
    assert set(loaded.themes) == {"good"}
    (problem,) = loaded.problems
    assert "broken.toml" in problem
    assert said in problem


def test_the_persons_theme_wins_over_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "glmtui-dark"\nprimary = "#010203"\n', encoding="utf-8")
    loaded = themes.load(paths.themes_dir(), tmp_path)
    assert loaded.themes["glmtui-dark"].theme.primary == "#010203"


def test_what_is_no_theme_file_at_all_costs_itself(tmp_path: Path) -> None:
    for name in ("loop", "endless", "fifo", "folder"):
        path = tmp_path / f"{name}.toml"
        if name == "fifo":
            os.mkfifo(path)
        elif name == "folder":
            path.mkdir()
        else:
            path.symlink_to(path if name == "loop" else "/dev/zero")
    (tmp_path / "deep.toml").write_text("x = " + "[" * 100_000)
    (tmp_path / "auto.toml").write_text('primary = "auto"')
    (tmp_path / "good.toml").write_text('primary = "#ff0000"')
    loaded = themes.load(tmp_path)
    assert list(loaded.themes) == ["good"]
    assert len(loaded.problems) == 6
    assert themes.stamp(tmp_path) == themes.stamp(tmp_path)


def test_saving_a_theme_changes_the_stamp(tmp_path: Path) -> None:
    before = themes.stamp(tmp_path)
    (tmp_path / "new.toml").write_text('primary = "#ff8800"\n', encoding="utf-8")
    assert themes.stamp(tmp_path) != before
    assert themes.stamp(tmp_path / "missing") == ()


async def test_the_app_can_wear_every_theme() -> None:
    async with running() as (pilot, app, _engine):
        for name in app.themes.files:
            app.theme = name
            await pilot.pause()
            assert visible_text(app.screen)


async def test_a_theme_is_reloaded_when_it_is_saved() -> None:
    folder = paths.user_themes_dir()
    folder.mkdir(parents=True)
    mine = folder / "mine.toml"
    mine.write_text('primary = "#ff0000"\n', encoding="utf-8")
    async with running() as (pilot, app, _engine):
        app.session.preferences.set("ui.theme", "mine")
        mine.write_text('primary = "#00ff00"\n', encoding="utf-8")
        os.utime(mine, ns=(1, 1))
        await wait_until(pilot, lambda: app.current_theme.primary == "#00ff00")
        mine.write_text("primary = ", encoding="utf-8")
        await wait_until(pilot, lambda: app.theme == themes.DEFAULT_DARK)


async def test_no_color_leaves_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with running(ScriptedEngine("# Title\n\n1. `code` and [link](https://example.org)")) as (
        pilot,
        app,
        _engine,
    ):
        await send(pilot, "hello")
        await wait_until(pilot, lambda: "Title" in visible_text(app.chat.transcript))
        colors = [
            color.get_truecolor()
            for strip in app.screen._compositor.render_strips()
            for segment in strip
            if segment.style
            for color in (segment.style.color, segment.style.bgcolor)
            if color
        ]
        assert app.no_color
        assert colors
        assert all(color.red == color.green == color.blue for color in colors)

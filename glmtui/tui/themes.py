"""Colour themes: TOML files that ship in ``themes/`` and the person's own in the configuration directory.

A theme is one file, whose name without ``.toml`` is the theme's name unless it says otherwise::

    name = "midnight"          # how /theme and the settings call it
    title = "Midnight"         # optional: how lists show it
    dark = true
    ansi = false               # optional: colours are the terminal's own 16 (ansi_red, ansi_default, …)

    [colors]                   # background and foreground are text and what it stands on
    primary = "#7aa2f7"        # required: names, the caret, what is chosen
    secondary = "#9aa5ce"      # quieter companion of primary
    accent = "#e0af68"         # what should catch the eye
    foreground = "#d5d9e8"
    background = "#12141c"     # the chat
    surface = "#171a24"        # panes, composer
    panel = "#1f2330"          # bars, code, the chosen row
    success = "#9ece6a"
    warning = "#e0af68"
    error = "#f7768e"

    [variables]                # optional: any variable of Textual's stylesheets
    text-muted = "#8f96b3"

Colours left out are derived by Textual. The file may also keep its colours at the top level.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from glmtui import paths
from glmtui.i18n import _, tell
from glmtui.regular_files import reason
from glmtui.settings.toml_files import read_toml

if TYPE_CHECKING:
    from textual.theme import Theme

DEFAULT_DARK = "glmtui-dark"
DEFAULT_LIGHT = "glmtui-light"
ANSI = "ansi"
COLORS = (
    "primary", "secondary", "accent", "foreground", "background", "surface", "panel",
    "success", "warning", "error", "boost",
)  # fmt: skip

_PERCENT = re.compile(r"\s+\d{1,3}%$")
_STYLE = re.compile(r"((not )?(bold|dim|italic|underline|reverse|strike|none|b|i|u|r|s) ?)+")
_ANSI_VARIABLES = {"ansi-background": "ansi_default", "ansi-foreground": "ansi_default"}
"""Textual's own style sheet needs them, and only its own ANSI themes have them."""


class ThemeError(ValueError):
    """What is wrong with a theme file, for people."""


@dataclass(frozen=True, slots=True)
class ThemeFile:
    """One readable theme."""

    name: str
    title: str
    path: Path
    theme: Theme


class LoadedThemes(NamedTuple):
    """The themes of some folders, and what could not be read."""

    themes: dict[str, ThemeFile]
    problems: list[str]
    """One line for each bad file, with its name and what is wrong."""


def load(*folders: Path) -> LoadedThemes:
    """Read all themes of `folders` (default: the shipped ones, then the person's own, which win)."""
    loaded = LoadedThemes({}, [])
    for folder in folders or (paths.themes_dir(), paths.user_themes_dir()):
        for path in sorted(folder.glob("*.toml")):
            _load_one(path, loaded)
    return loaded


def _load_one(path: Path, loaded: LoadedThemes) -> None:
    try:
        theme = read(path)
    except (OSError, ValueError) as error:
        said = _("Theme {path} is skipped: {error}")
        loaded.problems.append(said.format(path=path, error=tell(reason(error))))
    else:
        loaded.themes[theme.name] = theme


def read(path: Path) -> ThemeFile:
    """Read one theme file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no valid theme; the message says which line or key.
    """
    from textual.theme import Theme

    data = read_toml(path)
    name = _text(data, "name", path.stem)
    colors = {key: value for key, value in data.items() if key in COLORS} | _table(data, "colors")
    if unknown := set(colors) - set(COLORS):
        raise ThemeError(_("{key} is not a colour of a theme").format(key=", ".join(sorted(unknown))))
    if "primary" not in colors:
        raise ThemeError(_("the colour primary is missing"))
    variables = _table(data, "variables")
    for key, value in colors.items():
        _check_color(key, value)
    for key, value in variables.items():
        if not key.endswith("style"):
            if value not in ("auto", "initial"):
                _check_color(key, _PERCENT.sub("", value))
        elif not _STYLE.fullmatch(value):
            raise ThemeError(_("{key} = {value!r} is no text style").format(key=key, value=value))
    ansi = _flag(data, "ansi", False)
    derived = _ANSI_VARIABLES if ansi else _derived(colors)
    theme = Theme(name=name, dark=_flag(data, "dark", True), ansi=ansi, variables=derived | variables,
                  **colors)  # fmt: skip
    return ThemeFile(name, _text(data, "title", name), path, theme)


def stamp(folder: Path) -> tuple[tuple[str, int], ...]:
    """Return what changes when a theme in `folder` is saved, added or removed."""
    return tuple(sorted((path.name, _changed(path)) for path in folder.glob("*.toml")))


def _changed(path: Path) -> int:
    """Return when a file was written, in nanoseconds; 0 where nobody can say, as of a link to itself."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _derived(colors: Mapping[str, str]) -> dict[str, str]:
    """Variables that Textual would make from contrast ratios of its own: here text is what the file says."""
    derived = {
        f"text-{name}": colors[name]
        for name in (*COLORS[:3], "success", "warning", "error")
        if name in colors
    }
    if foreground := colors.get("foreground"):
        derived |= {"text": foreground, "block-cursor-foreground": foreground}
    if panel := colors.get("panel"):
        derived |= {
            "block-cursor-background": panel, "block-cursor-blurred-background": panel,
            "block-hover-background": panel, "scrollbar": panel,
        }  # fmt: skip
    if background := colors.get("background"):
        derived |= {
            f"scrollbar-{part}": background
            for part in ("background", "background-hover", "background-active")
        }
        derived |= {
            "screen-selection-background": colors["primary"],
            "screen-selection-foreground": background,
        }
    derived |= {
        "input-cursor-background": colors["primary"],
        "markdown-h1-text-style": "bold",
        "markdown-h2-text-style": "bold",
        "link-color": colors.get("secondary", colors["primary"]),
    }
    return derived


def _check_color(key: str, value: object) -> None:
    from textual.color import Color, ColorParseError

    try:
        if not isinstance(value, str):
            raise ColorParseError("no text")
        Color.parse(value)
    except ColorParseError as error:
        message = _("{key} = {value!r} is not a colour (write #rrggbb)").format(key=key, value=value)
        raise ThemeError(message) from error


def _text(data: Mapping[str, Any], key: str, default: str) -> str:
    value = data.get(key, default)
    if not isinstance(value, str) or not value.strip():
        raise ThemeError(_("{key} must be text in quotes").format(key=key))
    return value


def _flag(data: Mapping[str, Any], key: str, default: bool) -> bool:
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise ThemeError(_("{key} must be true or false").format(key=key))
    return value


def _table(data: Mapping[str, Any], key: str) -> dict[str, str]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise ThemeError(_("{key} must be a table, written [{key}]").format(key=key))
    for name, color in value.items():
        if not isinstance(color, str):
            raise ThemeError(_("{key} must be text in quotes").format(key=name))
    return value

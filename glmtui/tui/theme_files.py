"""Keeps the app's themes: loads them, chooses the one in the settings, and reloads what a person saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui import paths
from glmtui.i18n import _
from glmtui.tui import themes

if TYPE_CHECKING:
    from textual.app import App

    from glmtui.tui.themes import ThemeFile


class ThemeFiles:
    """The themes that can be chosen."""

    def __init__(self, app: App[None]) -> None:
        self._app = app
        self._folder = paths.user_themes_dir()
        self._stamp = themes.stamp(self._folder)
        self.files: dict[str, ThemeFile] = {}
        self.problems: list[str] = []
        """What was wrong when they were last loaded."""
        self.load()

    def load(self) -> None:
        loaded = themes.load()
        self.files, self.problems = loaded.themes, loaded.problems
        for file in self.files.values():
            self._app.register_theme(file.theme)

    def choose(self, name: str) -> None:
        """Use the theme `name`; where there is none, the default and a line in `problems`."""
        if name not in self.files:
            self.problems.append(_("There is no theme {name!r}.").format(name=name))
            name = themes.DEFAULT_DARK
        self._app.theme = name

    def changed(self) -> bool:
        """Load the themes again if the person's folder changed; return whether it did."""
        stamp = themes.stamp(self._folder)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self.load()
        return True

"""Changes of settings while the app runs: by commands, in the pane, for one conversation, in the file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from glmtui import i18n
from glmtui.i18n import tell
from glmtui.session import keys
from glmtui.session.own_settings import change_here, own, reset_here
from glmtui.session.ui import load_model
from glmtui.settings.schema import BY_KEY, Setting

if TYPE_CHECKING:
    from glmtui.settings.settings import Settings
    from glmtui.tui.app import GlmTui


class Preferences:
    """Saves what a person wants and does at once what follows from it."""

    def __init__(self, app: GlmTui) -> None:
        self._app = app

    @property
    def _settings(self) -> Settings:
        return self._app.settings

    # --- for all conversations ---

    async def change(self, key: str, value: object) -> None:
        """Save a setting and do what follows from it."""
        self._settings.set(key, value)
        await self._apply([key])

    async def reset(self, key: str) -> None:
        """Go back to the default."""
        self._settings.reset(key)
        await self._apply([key])

    def bind(self, binding: str, bound: str | None) -> None:
        """Bind an action to other keys; None goes back to the default."""
        self._settings.set_key(binding, bound)
        self._apply_keys()

    # --- in the pane: the value that is in use in the open conversation ---

    async def put(self, setting: Setting, value: object) -> None:
        """Change the conversation's own value if it has one, else that of all."""
        if setting.key in own(self._app):
            change_here(self._app, setting, value)
        else:
            await self.change(setting.key, value)

    async def clear(self, setting: Setting) -> None:
        """Take back what `put` would change."""
        if setting.key in own(self._app):
            reset_here(self._app, setting)
        else:
            await self.reset(setting.key)

    def toggle_here(self, setting: Setting) -> None:
        """Give the open conversation a value of its own, to begin with the present one, or take it away."""
        if setting.key in own(self._app):
            reset_here(self._app, setting)
        else:
            change_here(self._app, setting, self._settings[setting.key])

    # --- by hand, in the file ---

    async def look(self) -> None:
        """Take in what was edited in the file since; what is wrong there is said."""
        settings = self._settings
        if not settings.edited():
            return
        before = {key: settings[key] for key in BY_KEY}
        settings.reload()
        self.tell_problems()
        self._apply_keys()
        await self._apply(key for key, value in before.items() if settings[key] != value)

    def tell_problems(self) -> None:
        """Name what is wrong in the file."""
        for problem in [*map(tell, self._settings.problems), *keys.problems(self._settings.keys)]:
            self._app.chat.notice(problem, "warning")

    # --- what follows ---

    async def _apply(self, changed: Iterable[str]) -> None:
        app, changed = self._app, set(changed)
        if any(BY_KEY[key].section == "model" for key in changed):
            load_model(app)
        if "generation.max_length" in changed:
            app.controller.measure()
        if "ui.theme" in changed:
            app.themes.choose(str(self._settings["ui.theme"]))
            if app.theme != self._settings["ui.theme"]:
                app.chat.notice(app.themes.problems[-1], "warning")
        if "ui.language" in changed:
            i18n.use(str(self._settings["ui.language"]))
            await app.rebuild()
        if "ui.send_key" in changed:
            app.chat.composer.enter_sends = self._settings["ui.send_key"] == "enter"
            app.chat.update_hints()
        if changed & {"ui.history_pane", "ui.settings_pane"}:
            app.chat.apply_panes()
        app.chat.settings_pane.reload()

    def _apply_keys(self) -> None:
        self._app.set_keymap(dict(self._settings.keys))
        self._app.chat.update_hints()

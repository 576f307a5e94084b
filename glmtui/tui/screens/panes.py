"""The panes next to the chat: open or closed, next to it or over it, and the way round them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from textual import events
from textual.geometry import Size
from textual.screen import Screen

from glmtui.session import keys
from glmtui.tui.composer.composer import Composer
from glmtui.tui.composer.queue import QueueStrip
from glmtui.tui.history.history import HistoryPane
from glmtui.tui.settings_pane.pane import SettingsPane
from glmtui.tui.transcript.transcript import Transcript

if TYPE_CHECKING:
    from glmtui.settings.settings import Settings
    from glmtui.tui.session_app import SessionApp


class PaneScreen(Screen[None]):
    """A chat between two panes. Classes mark which are open; the style sheet lays them out."""

    NARROW, WIDE = 100, 128
    """Columns below which panes lie over the chat, and below which one of them leaves enough of it."""
    TINY, LOW = 10, 28
    """Lines below which there is no room for the title either, and for air and hints."""
    app: SessionApp
    history: HistoryPane
    settings_pane: SettingsPane
    transcript: Transcript
    queue_strip: QueueStrip
    composer: Composer
    _narrow: bool | None = None
    """Not known before the first layout."""
    _wide = False

    def on_resize(self, event: events.Resize) -> None:
        self.fit(event.size, self.app.settings)

    def fit(self, size: Size, settings: Settings) -> None:
        """Lay out for a window of this size; called before the screen is mounted, it is painted once only.

        Panes are next to the chat where there is room, else over it and closed to begin with.
        """
        narrow, wide, height = size.width < self.NARROW, size.width >= self.WIDE, size.height
        classes = {
            "-narrow": narrow,
            "-tiny": height < self.TINY,
            "-low": self.TINY <= height < self.LOW,
            "-high": height >= self.LOW,
        }
        if (narrow, wide) != (self._narrow, self._wide):
            self._narrow, self._wide = narrow, wide
            classes |= self._open_panes(settings)
        self.update_classes(classes, update=self.is_mounted)

    def apply_panes(self) -> None:
        self.update_classes(self._open_panes(self.app.settings))

    def _open_panes(self, settings: Settings) -> dict[str, bool]:
        shown = not self._narrow and bool(settings["ui.settings_pane"])
        history = not self._narrow and bool(settings["ui.history_pane"])
        return {"-history": history, "-settings": shown and (self._wide or not history)}

    async def toggle_history(self) -> None:
        await self._toggle("history")

    async def toggle_settings(self) -> None:
        await self._toggle("settings")

    async def search(self, text: str = "") -> None:
        """List what has `text` in it; without a text, ask for one."""
        if not self.has_class("-history"):
            await self._toggle("history")
        self.history.search_for(text)
        if not text:
            self.history.search.focus()

    async def show_trash(self) -> None:
        if not self.has_class("-history"):
            await self._toggle("history")
        self.history.show_trash()

    def enter_pane(self, command: str) -> None:
        """Go to the pane that a command has just opened."""
        if command in ("history", "trash") and self.has_class("-history"):
            self.history.list.focus()
        elif command == "settings" and self.has_class("-settings"):
            self.settings_pane.focus_row()

    def close_overlays(self) -> bool:
        """Close what lies over the chat in a narrow window; return whether there was something."""
        over = bool(self._narrow) and (self.has_class("-history") or self.has_class("-settings"))
        if over:
            self.remove_class("-history", "-settings")
        return over

    async def _toggle(self, pane: Literal["history", "settings"]) -> None:
        self.toggle_class(f"-{pane}")
        opened, other = self.has_class(f"-{pane}"), "settings" if pane == "history" else "history"
        if not self._wide:
            self.remove_class(f"-{other}")
        if not self._narrow:
            with self.app.session.saying_errors():
                if opened and not self._wide and self.app.settings[f"ui.{other}_pane"]:
                    self.app.session.preferences.set(f"ui.{other}_pane", False)
                self.app.session.preferences.set(f"ui.{pane}_pane", opened)
        if not opened:
            self.composer.focus()

    def action_next_pane(self) -> None:
        places: dict[keys.Scope, Callable[[], object]] = {"composer": self.composer.focus}
        if self.queue_strip.display:
            places["queue"] = self.queue_strip.focus
        places["transcript"] = self.transcript.focus
        if self.has_class("-settings"):
            places["settings"] = self.settings_pane.focus_row
        if self.has_class("-history"):
            places["history"] = self.history.list.focus
        names = list(places)
        here = names.index(self.scope()) if self.scope() in names else 0
        places[names[(here + 1) % len(names)]]()

    def scope(self) -> keys.Scope:
        focused = self.focused
        for scope, widget in (
            ("history", self.history), ("settings", self.settings_pane), ("transcript", self.transcript),
            ("queue", self.queue_strip),
        ):  # fmt: skip
            if focused is not None and widget in focused.ancestors_with_self:
                return scope  # type: ignore[return-value]
        return "composer"

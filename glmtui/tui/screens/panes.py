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

    NARROW = 100
    """Columns below which panes lie over the chat."""
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

    def on_resize(self, event: events.Resize) -> None:
        self.fit(event.size, self.app.settings)

    def fit(self, size: Size, settings: Settings) -> None:
        """Lay out for a window of this size; called before the screen is mounted, it is painted once only.

        Panes are next to the chat where there is room, else over it and closed to begin with.
        """
        narrow, height = size.width < self.NARROW, size.height
        classes = {
            "-narrow": narrow,
            "-tiny": height < self.TINY,
            "-low": self.TINY <= height < self.LOW,
            "-high": height >= self.LOW,
        }
        if narrow != self._narrow:
            self._narrow = narrow
            classes |= self._open_panes(settings)
        self.update_classes(classes, update=self.is_mounted)

    def apply_panes(self) -> None:
        self.update_classes(self._open_panes(self.app.settings))

    def _open_panes(self, settings: Settings) -> dict[str, bool]:
        wide = not self._narrow
        return {
            "-history": wide and bool(settings["ui.history_pane"]),
            "-settings": wide and bool(settings["ui.settings_pane"]),
        }

    async def toggle_history(self) -> None:
        await self._toggle("history")
        if self.has_class("-history"):
            self.history.list.focus()

    async def toggle_settings(self) -> None:
        await self._toggle("settings")
        if self.has_class("-settings"):
            self.settings_pane.focus_row()

    async def search(self, text: str = "") -> None:
        if not self.has_class("-history"):
            await self._toggle("history")
        self.history.focus_search(text or None)

    async def show_trash(self) -> None:
        if not self.has_class("-history"):
            await self._toggle("history")
        self.history.show_trash()
        self.history.list.focus()

    def close_overlays(self) -> bool:
        """Close what lies over the chat in a narrow window; return whether there was something."""
        over = bool(self._narrow) and (self.has_class("-history") or self.has_class("-settings"))
        if over:
            self.remove_class("-history", "-settings")
        return over

    async def _toggle(self, pane: Literal["history", "settings"]) -> None:
        self.toggle_class(f"-{pane}")
        opened = self.has_class(f"-{pane}")
        if self._narrow:
            self.remove_class("-settings" if pane == "history" else "-history")
        else:
            with self.app.session.saying_errors():
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

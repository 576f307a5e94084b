"""Text that is selected while its view scrolls under the mouse."""

from __future__ import annotations

from typing import Any

from textual.screen import Screen
from textual.selection import SelectEnd
from textual.widget import Widget

from glmtui.tui.textual_patches import textual_is


def follow_scroll(screen: Screen[Any], widget: Widget) -> None:
    """Let the selection that is being made end where the mouse is, after `widget` scrolled.

    In Textual 8.2 the mouse that is held at the edge of a `ScrollView` scrolls it, but the selection keeps
    its end until the mouse moves; not reported upstream (Textualize/textual#6639 is about several widgets).
    """
    if not textual_is((8, 2)):
        return
    state = screen._select_state
    if state is None or state.end is None or state.end.content_widget is not widget or not screen._selecting:
        return
    under, offset = screen.get_widget_and_offset_at(*state.screen_offset)
    if under is widget and offset is not None:
        screen._select_state = state.update_end(
            state.screen_offset, SelectEnd(state.end.container, widget, offset)
        )

"""The queued messages, above the composer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from glmtui.i18n import _
from glmtui.text.clean import one_line
from glmtui.text.columns import cell
from glmtui.tui.bindings import bindings

if TYPE_CHECKING:
    from glmtui.session.message_queue import QueuedMessage

BUTTONS = (("↑", "earlier"), ("✕", "cancel"))
"""At the end of each line; a click anywhere else on it takes the message back."""
LONGEST = 500
"""Characters of a message that are looked at for its line."""


class QueueStrip(Widget, can_focus=True):
    """One line for each queued message; a few of them, all while it has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("queue")]
    FOCUS_ON_CLICK = False  # it would grow under the pointer
    SHOWN = 3

    @dataclass
    class Requested(Message):
        """Something is to be done with the message of this number: edit, send, send_all, cancel, earlier,
        later, back."""

        action: str
        number: int

    def __init__(self) -> None:
        super().__init__(id="queue")
        self.display = False
        self.at = 0
        """Number of the message that the keys act on."""
        self._queued: list[tuple[str, bool]] = []
        self._key = ""
        self._first = 0

    def show(self, queued: Sequence[QueuedMessage], key: str) -> None:
        shown = [(one_line(item.text[:LONGEST]), item.on_hold) for item in queued]
        if (shown, key) == (self._queued, self._key):
            return
        self._queued, self._key = shown, key
        self.at = max(min(self.at, len(shown) - 1), 0)
        if not shown and self.has_focus:
            self.post_message(self.Requested("back", 0))
        self.display = bool(shown)
        self._keep_in_view()
        self.refresh(layout=True)

    # --- drawing ---

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        most = max(viewport.height // 3, self.SHOWN) if self.has_focus else self.SHOWN
        return min(len(self._queued), most)

    def render(self) -> Content:
        """Draw what fits; the last line says how many more there are."""
        height, count = self.content_size.height, len(self._queued)
        more = 0 if self.has_focus else max(count - height, 0)
        lines = [self._line(number) for number in range(self._first, min(self._first + height, count))]
        if more:
            text = _("… {n} more").format(n=more + 1)
            lines[-1] = Content.assemble((text, "$text-muted"), "   ", self._hint())
        elif lines and not self.has_focus:
            lines[-1] = self._line(self._first + len(lines) - 1, hint=True)
        return Content("\n").join(lines)

    def _line(self, number: int, *, hint: bool = False) -> Content:
        text, on_hold = self._queued[number]
        word = Content.styled(
            f"{_('on hold') if on_hold else _('next')} ", "$text-warning" if on_hold else "$text-accent"
        )
        end = Content.styled(" ".join(["", *(sign for sign, _action in BUTTONS)]), "$text-muted")
        if hint:
            end = Content.assemble("  ", self._hint(), " ", end)
        room = max(self.content_size.width - word.cell_length - end.cell_length, 1)
        line = Content.assemble(word, cell(text, room), end)
        return line.stylize("bold on $panel") if self.has_focus and number == self.at else line

    def _hint(self) -> Content:
        hint = _("{key} to change, move, cancel, send").format(key=self._key)
        return Content.styled(hint, "$text-muted")

    def _keep_in_view(self) -> None:
        height = max(self.size.height, 1) if self.has_focus else self.SHOWN
        last = max(len(self._queued) - height, 0)
        self._first = min(max(self._first, self.at - height + 1), self.at, last) if self.has_focus else 0

    # --- keys and mouse ---

    def on_focus(self) -> None:
        self.refresh(layout=True)
        self.call_after_refresh(self.action_go, 0)

    def on_blur(self) -> None:
        self._first = 0
        self.refresh(layout=True)

    def action_go(self, by: int) -> None:
        self.at = max(min(self.at + by, len(self._queued) - 1), 0)
        self._keep_in_view()
        self.refresh()

    def action_move(self, by: int) -> None:
        if 0 <= self.at + by < len(self._queued):
            self.post_message(self.Requested("earlier" if by < 0 else "later", self.at))
            self.action_go(by)

    def action_act(self, action: str) -> None:
        if self._queued:
            self.post_message(self.Requested(action, self.at))

    def action_back(self) -> None:
        self.post_message(self.Requested("back", self.at))

    def on_click(self, event: events.Click) -> None:
        number = self._first + event.y
        if number >= len(self._queued):
            return
        if not self.has_focus and event.y == self.SHOWN - 1 and len(self._queued) > self.SHOWN:
            self.focus()
            return
        self.at = number
        right = self.content_size.width + self.styles.padding.left
        for place, (sign, action) in enumerate(reversed(BUTTONS)):
            end = right - place * (cell_len(sign) + 1)
            if end - cell_len(sign) <= event.x < end:
                self.post_message(self.Requested(action, number))
                return
        self.post_message(self.Requested("edit", number))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_go(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_go(-1)

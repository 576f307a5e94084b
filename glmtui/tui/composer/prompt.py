"""The text area of the composer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from textual import events
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.geometry import Offset
from textual.strip import Strip
from textual.widgets import TextArea
from textual.widgets.text_area import Location, Selection

from glmtui.i18n import N_
from glmtui.session.attached_file import AttachedFile, quote_file
from glmtui.text.clean import clean
from glmtui.text.word_boundaries import next_character, next_word, previous_character, previous_word
from glmtui.tui.composer.folds import Folds
from glmtui.tui.textual_patches import text_keys, wrapping

HISTORY_LIMIT = 1000
"""Prompts that are remembered."""


class Popup(Protocol):
    """What lies over the text area, as the text area knows it."""

    def catch_up(self) -> bool:
        """Offer what fits what is written by now; return whether there is something."""

    def press(self, key: str) -> None:
        """Take a key of `Prompt.POPUP_KEYS`."""


class Prompt(TextArea):
    """A text area for prompts: history at its edges, words right for Chinese, long pastes folded.

    Enter and what belongs to the popup are the composer's.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+delete,alt+d", "delete_word_right", N_("Delete the word right"), show=False),
        Binding("alt+left,alt+b", "cursor_word_left", N_("A word left"), show=False),
        Binding("alt+right,alt+f", "cursor_word_right", N_("A word right"), show=False),
    ]

    POPUP_KEYS: ClassVar[frozenset[str]] = frozenset({"escape", "tab", "up", "down", "ctrl+p", "ctrl+n"})

    def __init__(self, popup: Popup, history: Sequence[str] = ()) -> None:
        self.folds = Folds()
        wrapping.install()
        text_keys.install()
        super().__init__(soft_wrap=True, tab_behavior="focus", highlight_cursor_line=False)
        self._popup = popup
        self.pasted: Callable[[str], str] = self.folds.fold
        """Returns what to write for a paste."""
        self.sent = list(history)
        """Sent prompts, oldest first; the app keeps them in a file."""
        self._place: int | None = None
        self._draft = ""

    # --- text ---

    @property
    def full_text(self) -> str:
        return self.folds.unfold(self.text)

    @property
    def text_before_cursor(self) -> str:
        return self.get_text_range((0, 0), self.cursor_location)

    def set_text(self, text: str) -> None:
        """Replace everything, cursor at the end. Undo brings back what was there."""
        self._place = None
        self._write(text)

    def _write(self, text: str) -> None:
        self.replace(clean(text), (0, 0), self.document.end, maintain_selection_offset=False)
        self.move_cursor(self.document.end)

    def insert_text(self, text: str) -> None:
        self.replace(clean(text), *sorted(self.selection), maintain_selection_offset=False)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        text = clean(event.text)
        if text:
            self.insert_text(self.pasted(text))

    def put_file(self, typed: str, label: str, file: AttachedFile) -> None:
        """Put a file, folded to `label`, in the place of what was typed before the cursor."""
        row, column = self.cursor_location
        start = (row, column - len(typed))
        folded = self.folds.keep(label, quote_file(file.name, file.text), file)
        self.replace(folded, start, (row, column), maintain_selection_offset=False)

    def unfold(self) -> bool:
        """Show all that is folded in full; return whether there was something. Undo folds it again."""
        full = self.full_text
        if full == self.text:
            return False
        self.set_text(full)
        return True

    # --- history ---

    @property
    def walking(self) -> bool:
        """Whether an earlier prompt is shown, as it was sent."""
        return self._place is not None and self.text == self.sent[self._place]

    def remember(self, text: str) -> None:
        if not self.sent or self.sent[-1] != text:
            self.sent.append(text)
            del self.sent[:-HISTORY_LIMIT]
        self._place = None

    def action_older(self) -> None:
        place = len(self.sent) if self._place is None else self._place
        if place == 0:
            return
        if self._place is None:
            self._draft = self.full_text
        self._place = place - 1
        self._write(self.sent[self._place])

    def action_newer(self) -> None:
        if self._place is None:
            return
        if self._place + 1 < len(self.sent):
            self._place += 1
            self._write(self.sent[self._place])
        else:
            self._place = None
            self._write(self._draft)

    def action_cursor_up(self, select: bool = False) -> None:
        """Up a line; on the first line, the prompt before."""
        if (
            self.cursor_at_first_line
            and not select
            and self.navigator.is_first_wrapped_line(self.cursor_location)
        ):
            self.action_older()
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Down a line; on the last line, the prompt after."""
        if (
            self.cursor_at_last_line
            and not select
            and self.navigator.is_last_wrapped_line(self.cursor_location)
        ):
            self.action_newer()
        else:
            super().action_cursor_down(select)

    # --- keys ---

    async def _on_key(self, event: events.Key) -> None:
        """Do what the key means before the next one is looked at.

        Textual asks for bindings only after the key went up to the app: what was typed behind a backspace, an
        arrow or Enter in the meantime would be written before it.
        """
        if self._popup.catch_up() and event.key in self.POPUP_KEYS:
            self._popup.press(event.key)
        elif event.is_printable:
            return await super()._on_key(event)
        elif not await self._act(event.key):
            event.prevent_default()  # Enter is a binding of the composer, so that it can be bound elsewhere
            return None
        event.stop()
        event.prevent_default()
        return None

    async def _act(self, key: str) -> bool:
        """Do what `key` is bound to here or in the composer; return whether that is something."""
        bound = self.screen.active_bindings.get(key)
        if bound is None or not bound.enabled or bound.node not in (self, self.parent):
            return False
        return await self.app.run_action(bound.binding.action, bound.node)

    def scroll_cursor_visible(self, center: bool = False, animate: bool = False) -> Offset:
        """Bring the cursor into view, if it is in the text.

        When a change makes the text so short that the scrollbar goes, Textual 8.2.8 asks for this before it
        has moved the cursor into what is left, and would fail.
        """
        if self.cursor_location[0] >= self.document.line_count:
            return Offset()
        return super().scroll_cursor_visible(center, animate)

    def render_line(self, y: int) -> Strip:
        """Draw a line; in a terminal that leaves no column for text, Textual 8.2.8 would fail."""
        return super().render_line(y) if self.content_size.width > 0 else Strip([])

    # --- the caret, for input methods ---

    def on_mount(self) -> None:
        """Input methods open their window at the terminal's caret: move it when the layout moves."""
        self.screen.screen_layout_refresh_signal.subscribe(self, lambda _screen: self._place_caret())

    def _place_caret(self) -> None:
        if self.has_focus:
            self.app.cursor_position = self.cursor_screen_offset

    # --- characters and words ---

    def validate_selection(self, selection: Selection) -> Selection:
        """Keep the cursor out of the inside of a folded paste."""
        if not self.folds:
            return selection
        return Selection(self._outside(selection.start), self._outside(selection.end))

    def _outside(self, location: Location) -> Location:
        row, column = location
        if not 0 <= row < self.document.line_count:
            return location
        for start, end in self.folds.spans(self.document[row]):
            if start < column < end:
                return row, start if column - start < end - column else end
        return location

    def _step(self, location: Location, by: int, plain: int) -> Location:
        """Return where a step from `location` leads: `plain`, or over a complete folded paste."""
        row, column = location
        for start, end in self.folds.spans(self.document[row]):
            if by < 0 and start < column <= end:
                return row, start
            if by > 0 and start <= column < end:
                return row, end
            if by > 0 and column < start < plain:
                return row, start
            if by < 0 and plain < end < column:
                return row, end
        return row, plain

    def get_cursor_left_location(self) -> Location:
        """One complete character left, not a part of an emoji."""
        row, column = self.cursor_location
        if column == 0:
            return super().get_cursor_left_location()
        return self._step((row, column), -1, previous_character(self.document[row], column))

    def get_cursor_right_location(self) -> Location:
        row, column = self.cursor_location
        line = self.document[row]
        if column >= len(line):
            return super().get_cursor_right_location()
        return self._step((row, column), 1, next_character(line, column))

    def get_cursor_word_left_location(self) -> Location:
        row, column = self.cursor_location
        if column == 0:
            return super().get_cursor_word_left_location()
        return self._step((row, column), -1, previous_word(self.document[row], column))

    def get_cursor_word_right_location(self) -> Location:
        row, column = self.cursor_location
        line = self.document[row]
        if column >= len(line):
            return super().get_cursor_word_right_location()
        return self._step((row, column), 1, next_word(line, column))

    def action_cursor_page_up(self) -> None:
        """A page up in a long prompt; else the conversation's."""
        if not self.max_scroll_y:
            raise SkipAction
        super().action_cursor_page_up()

    def action_cursor_page_down(self) -> None:
        if not self.max_scroll_y:
            raise SkipAction
        super().action_cursor_page_down()

    def action_delete_word_right(self) -> None:
        start, end = self.selection
        if start == end:
            end = self.get_cursor_word_right_location()
        self.delete(*sorted((start, end)), maintain_selection_offset=False)

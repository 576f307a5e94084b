"""The text area of the composer."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Location

from glmtui.i18n import N_
from glmtui.tui.text import clean
from glmtui.tui.words import next_character, next_word, previous_character, previous_word


class Prompt(TextArea):
    """A text area for prompts: Enter by setting, history at the edges, words right for Chinese."""

    DEFAULT_CSS = """
    Prompt {
        height: auto;
        max-height: 100%;
        border: round $primary 40%;
        padding: 0 1;
        background: $background;
        &:focus { border: round $primary; }
    }
    """
    BINDINGS = [
        Binding("enter", "enter", N_("Send"), id="composer.enter", show=False),
        Binding(
            "ctrl+j,shift+enter,alt+enter,ctrl+enter",
            "other_enter",
            N_("New line"),
            id="composer.other_enter",
        ),
    ]

    class Sent(Message):
        """The person pressed what sends."""

    def __init__(self, history: Sequence[str] = ()) -> None:
        super().__init__(soft_wrap=True, tab_behavior="focus", highlight_cursor_line=False)
        self.enter_sends = True
        self.history_entries = list(history)
        self._place: int | None = None
        self._draft = ""

    @property
    def full_text(self) -> str:
        """The text with folded pastes in full."""
        return self.text

    @property
    def text_before_cursor(self) -> str:
        """Everything up to the cursor."""
        return self.get_text_range((0, 0), self.cursor_location)

    def set_text(self, text: str) -> None:
        """Replace everything, cursor at the end."""
        self.load_text(clean(text))
        self.move_cursor(self.document.end)

    def insert_text(self, text: str) -> None:
        """Insert cleaned text at the cursor."""
        self.insert(clean(text))

    def remember(self, text: str) -> None:
        """Add a sent prompt to the history."""
        if not self.history_entries or self.history_entries[-1] != text:
            self.history_entries.append(text)
        self._place = None

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            return  # a binding, so that it can be bound to something else
        await super()._on_key(event)

    def action_enter(self) -> None:
        """Send, or make a new line where Enter does not send."""
        if self.enter_sends:
            self.post_message(self.Sent())
        else:
            self.insert("\n")

    def action_other_enter(self) -> None:
        """The other of the two."""
        if self.enter_sends:
            self.insert("\n")
        else:
            self.post_message(self.Sent())

    def get_cursor_left_location(self) -> Location:
        """One whole character left."""
        row, column = self.cursor_location
        if column == 0:
            return super().get_cursor_left_location()
        return row, previous_character(self.document[row], column)

    def get_cursor_right_location(self) -> Location:
        """One whole character right."""
        row, column = self.cursor_location
        line = self.document[row]
        if column >= len(line):
            return super().get_cursor_right_location()
        return row, next_character(line, column)

    def get_cursor_word_left_location(self) -> Location:
        """To the start of the word left."""
        row, column = self.cursor_location
        if column == 0:
            return super().get_cursor_word_left_location()
        return row, previous_word(self.document[row], column)

    def get_cursor_word_right_location(self) -> Location:
        """To the end of the word right."""
        row, column = self.cursor_location
        line = self.document[row]
        if column >= len(line):
            return super().get_cursor_word_right_location()
        return row, next_word(line, column)

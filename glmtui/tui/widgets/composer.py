"""Where the person writes: the text area, its completion popup, its history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.reactive import var
from textual.widgets import TextArea

from glmtui.i18n import _
from glmtui.tui.widgets.completion import Completion, CompletionList
from glmtui.tui.widgets.prompt import Prompt

Completions = Callable[[str], Sequence[Completion]]
"""Given the text up to the cursor, what could replace it."""


class Composer(Vertical):
    """A multi-line input that grows to a third of the screen.

    Enter sends and ctrl+j makes a new line, or the other way round with `enter_sends` off. Up on the
    first line and down on the last walk the history of prompts. `text` is always the whole text, also
    where a long paste is folded to a placeholder.
    """

    DEFAULT_CSS = """
    Composer {
        height: auto;
        max-height: 33vh;
        min-height: 3;
    }
    """

    @dataclass
    class Submitted(Message):
        """The person sent `text` (folded pastes expanded, not blank)."""

        composer: Composer
        text: str

        @property
        def control(self) -> Composer:
            """The composer, for `on`."""
            return self.composer

    @dataclass
    class Changed(Message):
        """The text changed."""

        composer: Composer

        @property
        def control(self) -> Composer:
            """The composer, for `on`."""
            return self.composer

    enter_sends = var(True)
    """Enter sends and ctrl+j makes a new line; False: the reverse."""

    def __init__(
        self,
        *,
        completions: Completions | None = None,
        history: Sequence[str] = (),
        enter_sends: bool = True,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.completions = completions
        self.prompt = Prompt(history)
        self.popup = CompletionList()
        self.set_reactive(Composer.enter_sends, enter_sends)

    def compose(self) -> ComposeResult:
        """Lay the popup over the text area."""
        yield self.popup
        yield self.prompt

    def on_mount(self) -> None:
        """Show what the keys do until something is typed."""
        self.watch_enter_sends()

    def watch_enter_sends(self) -> None:
        """Tell the text area which key sends."""
        self.prompt.enter_sends = self.enter_sends
        self.prompt.placeholder = (
            _("Write a message. Enter sends, Ctrl+J makes a new line, / lists the commands.")
            if self.enter_sends
            else _("Write a message. Ctrl+J sends, Enter makes a new line, / lists the commands.")
        )

    @property
    def text(self) -> str:
        """What is written, with folded pastes in full."""
        return self.prompt.full_text

    @text.setter
    def text(self, value: str) -> None:
        self.prompt.set_text(value)

    @property
    def history(self) -> list[str]:
        """Sent prompts, oldest first; the app keeps it in a file."""
        return self.prompt.history_entries

    @history.setter
    def history(self, entries: Sequence[str]) -> None:
        self.prompt.history_entries = list(entries)

    def focus(self, scroll_visible: bool = True) -> Composer:
        """Put the cursor into the text area."""
        self.prompt.focus(scroll_visible)
        return self

    def insert(self, text: str) -> None:
        """Insert `text` at the cursor, cleaned."""
        self.prompt.insert_text(text)

    def quote(self, text: str) -> None:
        """Insert `text` as a quotation and go on below it."""
        self.prompt.insert_text("".join(f"> {line}\n" for line in text.strip().split("\n")) + "\n")
        self.focus()

    @on(TextArea.Changed)
    def _text_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._offer()
        self.post_message(self.Changed(self))

    def _offer(self) -> None:
        before = self.prompt.text_before_cursor
        wanted = self.completions is not None and before.startswith("/") and "\n" not in before
        self.popup.show(self.completions(before) if wanted and self.completions else ())

    @on(Prompt.Sent)
    def _send(self, event: Prompt.Sent) -> None:
        event.stop()
        text = self.text
        if text.strip():
            self.prompt.remember(text)
            self.text = ""
            self.post_message(self.Submitted(self, text))

"""What the screens over the chat have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, ScreenResultType
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from glmtui.tui.bindings import interrupting
from glmtui.tui.textual_patches import compositor


class Dialog(ModalScreen[ScreenResultType]):
    """A screen over the chat with a title, a body, and a line that says what the keys do.

    It is closed once: a key that comes twice finds nothing left to close. Textual would hand back a second
    result and close the screen below, the last one too, which ends the app.
    """

    BINDINGS: ClassVar[list[BindingType]] = [*interrupting()]

    def __init__(self, title: str = "", key_line: str = "", *, tall: bool = False) -> None:
        super().__init__()
        compositor.install(self)
        self._title = title
        self._key_line = key_line
        self._tall = tall

    def body(self) -> Iterable[Widget]:
        """Yield what stands between the title and the keys."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog -tall" if self._tall else "dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            yield from self.body()
            yield Static(self._key_line, classes="dialog-keys", markup=False)

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()


class ListDialog(Dialog[ScreenResultType]):
    """A dialog whose body is a list."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss", "")]
    start = 0
    """The row that is highlighted first."""

    def rows(self) -> Iterable[Option]:
        """Yield the rows of the list."""
        raise NotImplementedError

    def body(self) -> Iterable[Widget]:
        yield OptionList(*self.rows(), markup=False)

    def on_mount(self) -> None:
        self.options.highlighted = self.start

    @property
    def options(self) -> OptionList:
        return self.query_one(OptionList)

"""The sources of an answer: the list, and the passage of the chosen one with the words marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from glmtui.i18n import _
from glmtui.retrieval.marking import spans
from glmtui.text.clean import clean, one_line
from glmtui.tui.screens.dialog import ListDialog
from glmtui.tui.screens.links import SCHEMES
from glmtui.tui.transcript.prose import Prose

if TYPE_CHECKING:
    from glmtui.protocol.messages import Source
    from glmtui.tui.session_app import SessionApp


OPENED = frozenset(
    ("pdf", "docx", "pptx", "xlsx", "odt", "ods", "odp", "epub", "html", "htm", "txt", "md", "csv")
)
"""Files that the program for them only shows; of others the path is copied."""


class SourcesScreen(ListDialog[None]):
    """Shows passages; Enter opens the file or page, c copies the passage.

    Args:
        sources: of one answer.
        question: whose words are marked in the passages.
    """

    BINDINGS: ClassVar[list[BindingType]] = [("c,y", "copy", "")]
    app: SessionApp

    def __init__(self, sources: Sequence[Source], question: str) -> None:
        super().__init__(
            _("Sources"), _("↑ ↓ choose · Enter opens the file or page · c copies · Esc closes"), tall=True
        )
        self._sources = sources
        self._question = question

    def body(self) -> Iterable[Widget]:
        yield from super().body()
        with VerticalScroll(id="passage", can_focus=False):
            yield Prose(id="passage-text")

    def rows(self) -> Iterable[Option]:
        for source in self._sources:
            about = " · ".join(filter(None, map(one_line, (source.title, source.place))))
            yield Option(Content(f"[{source.number}] {about}"))

    @property
    def chosen(self) -> Source:
        return self._sources[self.options.highlighted or 0]

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        source = self._sources[event.option_index]
        text = clean(source.text)
        passage = Content(text)
        for start, end in spans(text, self._question):
            passage = passage.stylize("bold $text-accent", start, end)
        origin = Content.styled(one_line(source.origin), "$text-muted")
        self.query_one("#passage-text", Prose).update(Content("\n\n").join([origin, passage]))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        origin = self.chosen.origin
        if origin.lower().startswith(SCHEMES):
            self.app.open_url(origin)
        elif (path := Path(origin)).is_absolute() and path.is_file():
            if path.suffix.lower().removeprefix(".") in OPENED:
                self.app.open_url(path.as_uri())
            else:  # a script might be run
                self.app.copy(origin)
        else:
            self.app.say(
                _("{path} is not there any more; the passage is kept here.").format(path=origin), "warning"
            )

    def action_copy(self) -> None:
        self.app.copy(clean(self.chosen.text))

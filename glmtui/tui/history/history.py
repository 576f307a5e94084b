"""The conversations on the left: grouped by day, searchable, managed by keyboard alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from glmtui.i18n import _
from glmtui.text.clean import one_line
from glmtui.tui.bindings import bindings
from glmtui.tui.history.rows import conversation_row, day_name, hit_row

if TYPE_CHECKING:
    from glmtui.chat.library import Files, Hit, Library, Summary


class ConversationList(OptionList):
    """The list itself; headings between the days cannot be chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("history")]

    @property
    def pane(self) -> HistoryPane:
        assert isinstance(self.parent, HistoryPane)
        return self.parent

    def action_focus_search(self) -> None:
        self.pane.search.focus()

    def action_request(self, action: str) -> None:
        self.pane.request(action)

    def action_filter(self) -> None:
        self.post_message(HistoryPane.Requested("filter"))

    def action_trash(self) -> None:
        self.pane.show_trash(not self.pane.in_trash)


class PaneTitle(Widget):
    """What is listed, and how many."""

    def __init__(self) -> None:
        super().__init__(classes="pane-title")
        self._title, self._count = _("Conversations"), ""

    def show(self, title: str, count: str) -> None:
        self._title, self._count = title, count
        self.refresh()

    def render(self) -> Content:
        space = self.content_size.width - cell_len(self._title) - cell_len(self._count)
        return Content.assemble(self._title, " " * max(space, 1), (self._count, "not bold"))


class FilterLine(Static):
    """Names the model that the list is limited to; hidden where it is not."""

    def __init__(self) -> None:
        super().__init__(id="history-filter", markup=False)
        self.display = False

    def show(self, model: str | None) -> None:
        self.display = model is not None
        if model is not None:
            self.update(_("only {model}").format(model=one_line(model)))

    def on_click(self) -> None:
        self.post_message(HistoryPane.Requested("filter"))


class SearchField(Input):
    """Narrows the list while it is typed into."""

    BINDINGS: ClassVar[list[BindingType]] = [("down", "leave", ""), ("escape", "clear", "")]

    def action_leave(self) -> None:
        assert isinstance(self.parent, HistoryPane)
        self.parent.focus_list()

    def action_clear(self) -> None:
        """Show all conversations again; where they are shown, go to the list."""
        if self.value:
            self.value = ""
        else:
            self.action_leave()


class HistoryPane(Vertical):
    """All conversations, newest first, and the search over their text.

    Shows `STEP` rows and more as one goes down, so that ten thousand conversations open at once.
    """

    STEP = 200
    DELAY = 0.15
    """Seconds after the last key before the search runs."""
    LOOK_AGAIN = 2.0
    """Seconds between two looks at whether the folder changed."""
    today = staticmethod(date.today)

    @dataclass
    class Chosen(Message):
        """The person chose to read this conversation, at `message_id` if a search found it there."""

        path: Path
        message_id: str | None = None

    @dataclass
    class Requested(Message):
        """Something is to be done: filter, or with a conversation (its file) rename, pin, delete, restore."""

        action: str
        path: Path = Path()

    def __init__(self, library: Library) -> None:
        super().__init__(id="history")
        self.library = library
        self.list = ConversationList(id="conversations", markup=False)
        self.search = SearchField(
            placeholder=_("Search"), id="history-search", select_on_focus=False, compact=True
        )
        self.heading = PaneTitle()
        self.filter_line = FilterLine()
        self.foot = Static(classes="pane-foot", markup=False)
        self.model: str | None = None
        """Only conversations that this model answered last are listed."""
        self.in_trash = False
        """The trash is listed instead."""
        self.current: Path | None = None
        """The file of the open conversation."""
        self._summaries: Sequence[Summary] = ()
        self._hits: Sequence[Hit] = ()
        self._shown = 0
        self._heading = ""
        self._timer: Timer | None = None
        self._seen: Files | None = None
        """The folder at the last look; what is shown was read after it."""

    def compose(self) -> ComposeResult:
        yield self.heading
        yield self.search
        yield self.filter_line
        yield self.list
        yield self.foot

    def on_mount(self) -> None:
        """Read the folder after the first paint."""
        self.call_after_refresh(self.reload)
        self.set_timer(self.LOOK_AGAIN, self._look_again)

    @work(exclusive=True, group="history-look")
    async def _look_again(self) -> None:
        """Read the folder again when others changed something in it; rarely where looking takes long."""
        begin = time.monotonic()
        if self._seen is not None:
            before, self._seen = self._seen, await asyncio.to_thread(self.library.look)
            if self._seen != before:
                self.reload()
        self.set_timer(max(self.LOOK_AGAIN, 50 * (time.monotonic() - begin)), self._look_again)

    def show_trash(self, trash: bool = True) -> None:
        self.in_trash, self.model = trash, None
        self.search.value = ""
        self.reload()

    def show_model(self, model: str | None) -> None:
        self.in_trash, self.model = False, model
        self.reload()

    def search_for(self, text: str) -> None:
        """List the messages with these words, from outside the trash."""
        self.in_trash = False
        self.search.value = text

    def end_search(self) -> None:
        """List all conversations again."""
        self.search.value = ""

    def focus_list(self) -> None:
        self.list.focus()
        if self.list.highlighted is None:
            self.list.action_first()

    @work(exclusive=True, group="history")
    async def reload(self) -> None:
        query = self.search.value.strip()
        hits: Sequence[Hit] = ()
        if self._seen is None:
            self._seen = await asyncio.to_thread(self.library.look)
        if query and not self.in_trash:
            hits = await asyncio.to_thread(partial(self.library.search, query, model=self.model))
        else:
            self._summaries = await asyncio.to_thread(self._list)
        self._hits = hits  # not before the rows: those of before number theirs
        self._fill()
        if not self.library.complete:  # the rest of a folder that was never read takes longer
            await asyncio.to_thread(self.library.refresh, lambda: not self.is_attached)
            self._summaries = await asyncio.to_thread(self._list)
            self._fill()

    def _list(self) -> Sequence[Summary]:
        if not self.in_trash:
            return self.library.list(model=self.model)
        query = self.search.value.strip().lower()
        return [summary for summary in self.library.trashed() if query in summary.title.lower()]

    def _fill(self) -> None:
        if not self.list.is_attached:  # the app was closed while the folder was read
            return
        highlighted, scrolled = self._highlighted_id(), self.list.scroll_offset
        self.list.clear_options()
        self._shown, self._heading = 0, ""
        if self._searching:
            self.list.add_options(self._hit_rows())
        else:
            self._more()
        self._say_how_many()
        shown = highlighted or str(self.current)
        if shown:
            for index, option in enumerate(self.list.options):
                if option.id == shown:
                    self.list.highlighted = index
                    self.list.scroll_to(y=scrolled.y, animate=False)
                    break

    def _more(self) -> None:
        rows: list[Option] = []
        today = self.today()
        for summary in self._summaries[self._shown : self._shown + self.STEP]:
            day = summary.updated.astimezone().date()
            heading = _("Pinned") if summary.pinned and not self.in_trash else day_name(day, today)
            if heading != self._heading:
                above = "\n" if self._heading else ""
                rows.append(Option(Content.styled(f"{above} {heading}", "$text-muted"), disabled=True))
                self._heading = heading
            path = summary.path
            rows.append(Option(conversation_row(summary, is_open=path == self.current), id=str(path)))
        self._shown += self.STEP
        self.list.add_options(rows)

    def _hit_rows(self) -> Iterator[Option]:
        query, width, before = self.search.value, self.list.size.width or 26, ""
        for number, hit in enumerate(self._hits[: self.STEP]):
            first, before = hit.summary.name != before, hit.summary.name
            yield Option(hit_row(hit, query, width, first=first), id=f"hit-{number}")

    @property
    def _searching(self) -> bool:
        return bool(self.search.value.strip()) and not self.in_trash

    def _say_how_many(self) -> None:
        searching = self._searching
        count = len(self._hits) if searching else len(self._summaries)
        title = _("Trash") if self.in_trash else _("Found") if searching else _("Conversations")
        self.heading.show(title, f"{count:,}" if count else "")
        self.filter_line.show(self.model)
        if self.in_trash:
            self.foot.update(_("Enter brings a conversation back.") if count else _("The trash is empty."))
        elif not count:
            nothing = searching or self.model is not None
            self.foot.update(_("Nothing found.") if nothing else _("What you write is kept here."))
        self.foot.display = self.in_trash or not count
        self.set_class(not count, "-empty")

    def _highlighted_id(self) -> str | None:
        index = self.list.highlighted
        return self.list.get_option_at_index(index).id if index is not None else None

    def _highlighted_path(self) -> Path | None:
        found = self._highlighted_id()
        if found and found.startswith("hit-"):
            return self._hits[int(found.removeprefix("hit-"))].summary.path
        return Path(found) if found else None

    # --- events and actions ---

    @on(Input.Changed, "#history-search")
    def _search_later(self, event: Input.Changed) -> None:
        event.stop()
        self.list.highlighted = None
        if self._timer:
            self._timer.stop()
        self._timer = self.set_timer(self.DELAY, self.reload)

    @on(Input.Submitted, "#history-search")
    def _to_list(self, event: Input.Submitted) -> None:
        event.stop()
        self.focus_list()

    @on(OptionList.OptionHighlighted)
    def _near_the_end(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        more = not self._searching and self._shown < len(self._summaries)
        if more and event.option_index > self.list.option_count - 20:
            self._more()

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id and event.option_id.startswith("hit-"):
            hit = self._hits[int(event.option_id.removeprefix("hit-"))]
            self.post_message(self.Chosen(hit.summary.path, hit.message_id))
        elif event.option_id and self.in_trash:
            self.request("restore")
        elif event.option_id:
            self.post_message(self.Chosen(Path(event.option_id)))

    def request(self, action: str) -> None:
        if path := self._highlighted_path():
            self.post_message(self.Requested(action, path))

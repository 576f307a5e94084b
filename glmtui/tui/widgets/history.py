"""The conversations on the left: grouped by day, searchable, managed by keyboard alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from glmtui.i18n import _
from glmtui.tui import keys
from glmtui.tui.text import one_line

if TYPE_CHECKING:
    from glmtui.chat.library import Hit, Library, Summary


def day_name(day: date, today: date) -> str:
    """Name a day as people do: Today, Yesterday, This week, or the month."""
    if day >= today:
        return _("Today")
    if day == today - timedelta(days=1):
        return _("Yesterday")
    if day > today - timedelta(days=7):
        return _("Last 7 days")
    if day > today - timedelta(days=30):
        return _("Last 30 days")
    return f"{day.year}-{day.month:02}"


class ConversationList(OptionList):
    """The list itself; headings between the days cannot be chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [*keys.bindings("history")]

    @property
    def pane(self) -> HistoryPane:
        """The pane it stands in."""
        assert isinstance(self.parent, HistoryPane)
        return self.parent

    def action_focus_search(self) -> None:
        """Go to the search field."""
        self.pane.focus_search()

    def action_new(self) -> None:
        """Begin a conversation."""
        self.post_message(HistoryPane.Wanted("new"))

    def action_undo(self) -> None:
        """Bring back what was deleted last."""
        self.post_message(HistoryPane.Wanted("undo"))

    def action_rename(self) -> None:
        """Rename the highlighted conversation."""
        self.pane.want("rename")

    def action_delete(self) -> None:
        """Move the highlighted conversation to the trash."""
        self.pane.want("delete")


class SearchField(Input):
    """Narrows the list while it is typed into."""

    BINDINGS: ClassVar[list[BindingType]] = [("down,escape", "leave", "")]

    def action_leave(self) -> None:
        """Go to the list."""
        assert isinstance(self.parent, HistoryPane)
        self.parent.list.focus()


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
        """The person wants to read this conversation, at `message_id` if a search found it there."""

        conversation_id: str
        message_id: str | None = None

    @dataclass
    class Wanted(Message):
        """The person wants something done: new, undo, or with a conversation rename, delete."""

        action: str
        conversation_id: str = ""

    def __init__(self, library: Library) -> None:
        super().__init__(id="history")
        self.library = library
        self.list = ConversationList(id="conversations", markup=False)
        self.search = SearchField(
            placeholder=_("Search"), id="history-search", select_on_focus=False, compact=True
        )
        self.foot = Static(classes="pane-foot", markup=False)
        self.current: str | None = None
        """Id of the open conversation."""
        self._summaries: Sequence[Summary] = ()
        self._hits: Sequence[Hit] = ()
        self._shown = 0
        self._heading = ""
        self._timer: Timer | None = None
        self._folder_changed = 0

    def compose(self) -> ComposeResult:
        """Title, search field, list."""
        yield Static(_("Conversations"), classes="pane-title", markup=False)
        yield self.search
        yield self.list
        yield self.foot

    def on_mount(self) -> None:
        """Read the folder after the first paint."""
        self.call_after_refresh(self.reload)
        self.set_interval(self.LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        """Read the folder again when something was added to it or removed from outside."""
        with suppress(OSError):  # no folder yet: nothing was written
            changed = self.library.folder.stat().st_mtime_ns
            if changed != self._folder_changed:
                self._folder_changed = changed
                self.reload()

    def focus_search(self, text: str | None = None) -> None:
        """Go to the search field, with `text` in it if given."""
        if text is not None:
            self.search.value = text
        self.search.focus()

    @work(exclusive=True, group="history")
    async def reload(self) -> None:
        """Read the folder again."""
        query = self.search.value.strip()
        if query:
            self._hits = await asyncio.to_thread(self.library.search, query)
        else:
            self._hits = ()
            self._summaries = await asyncio.to_thread(self.library.list)
        self._fill()
        if not self.library.complete:  # the rest of a folder that was never read takes longer
            await asyncio.to_thread(self.library.refresh, lambda: not self.is_attached)
            self._summaries = await asyncio.to_thread(self.library.list)
            self._fill()

    def _fill(self) -> None:
        if not self.list.is_attached:  # the app was closed while the folder was read
            return
        highlighted = self._highlighted_id()
        self.list.clear_options()
        self._shown, self._heading = 0, ""
        searching = bool(self.search.value.strip())
        if searching:
            self.list.add_options(
                [self._hit_row(number, hit) for number, hit in enumerate(self._hits[: self.STEP])]
            )
        else:
            self._more()
        self._say_when_empty(searching)
        wanted = highlighted or self.current
        if wanted and not searching:
            for index, option in enumerate(self.list.options):
                if option.id == wanted:
                    self.list.highlighted = index
                    break

    def _more(self) -> None:
        rows: list[Option] = []
        today = self.today()
        for summary in self._summaries[self._shown : self._shown + self.STEP]:
            day = summary.updated.astimezone().date()
            heading = _("Pinned") if summary.pinned else day_name(day, today)
            if heading != self._heading:
                above = "\n" if self._heading else ""
                rows.append(Option(Content.styled(f"{above} {heading}", "$text-muted"), disabled=True))
                self._heading = heading
            rows.append(Option(self._row(summary), id=summary.id))
        self._shown += self.STEP
        self.list.add_options(rows)

    def _row(self, summary: Summary) -> Content:
        title = one_line(summary.title) or _("New conversation")
        if summary.id == self.current:
            return Content.assemble(("▌", "$text-primary"), (title, "bold $text-primary"))
        return Content.assemble(" ", title)

    def _hit_row(self, number: int, hit: Hit) -> Option:
        title = one_line(hit.summary.title) or _("New conversation")
        line = Content.styled(one_line(hit.line), "$text-muted")
        return Option(Content.assemble(" ", (title, "bold"), "\n ", line), id=f"hit-{number}")

    def _say_when_empty(self, searching: bool) -> None:
        if self.list.option_count:
            self.foot.update("")
        else:
            self.foot.update(_("Nothing found.") if searching else _("What you write is kept here."))
        self.foot.display = not self.list.option_count

    def _highlighted_id(self) -> str | None:
        index = self.list.highlighted
        return self.list.get_option_at_index(index).id if index is not None else None

    def _conversation_id(self) -> str | None:
        found = self._highlighted_id()
        if found and found.startswith("hit-"):
            return self._hits[int(found.removeprefix("hit-"))].summary.id
        return found

    # --- events and actions ---

    @on(Input.Changed, "#history-search")
    def _search_later(self, event: Input.Changed) -> None:
        event.stop()
        if self._timer:
            self._timer.stop()
        self._timer = self.set_timer(self.DELAY, self.reload)

    @on(Input.Submitted, "#history-search")
    def _to_list(self, event: Input.Submitted) -> None:
        event.stop()
        self.list.focus()

    @on(OptionList.OptionHighlighted)
    def _near_the_end(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if self._shown < len(self._summaries) and event.option_index > self.list.option_count - 20:
            self._more()

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id and event.option_id.startswith("hit-"):
            hit = self._hits[int(event.option_id.removeprefix("hit-"))]
            self.post_message(self.Chosen(hit.summary.id, hit.message_id))
        elif event.option_id:
            self.post_message(self.Chosen(event.option_id))

    def want(self, action: str) -> None:
        """Ask for something to be done with the highlighted conversation."""
        if conversation_id := self._conversation_id():
            self.post_message(self.Wanted(action, conversation_id))

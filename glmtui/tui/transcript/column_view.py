"""A scrolling column of thousands of entries, of which only those near the view are widgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import NULL_OFFSET, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.message import Message
from textual.scrollbar import ScrollBar
from textual.widget import Widget
from textual.widgets import Static

from glmtui.i18n import _
from glmtui.tui.transcript.entries import Column, Entry, Place
from glmtui.tui.transcript.lines_view import TextScroll
from glmtui.tui.transcript.message import EntryView


class ColumnLayout(Layout):
    """Puts each mounted view where it belongs in the whole column, and keeps the text in place.

    A view that comes in above the visible part is never as high as it was guessed to be; the scroll
    position moves with the text in the same pass, so nothing jumps. So it does at the end while it is
    followed.
    """

    name = "column"

    def __init__(self, owner: ColumnView) -> None:
        self.owner = owner

    def arrange(
        self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True
    ) -> ArrangeResult:
        """Measure and place the views, and the end of the column."""
        column = self.owner.column
        column.set_width(size.width)
        views = [child for child in children if isinstance(child, EntryView) and child.entry.view is child]
        for view in views:
            styles = view.styles
            height = view.get_content_height(size, parent.app.size, size.width - styles.gutter.width)
            column.set_height(view.entry, height + styles.gutter.height + styles.margin.height)
        self.owner.keep_place(size.height)
        seen = self.owner.place_views(size.height)
        placements = [
            WidgetPlacement(
                Region(
                    0,
                    column.tops[view.entry.index] + view.styles.margin.top,
                    size.width,
                    view.entry.height - view.styles.margin.height,
                ),
                NULL_OFFSET,
                view.styles.margin,
                view,
            )
            for view in views
            if view.entry.index in seen
        ]
        end = Region(0, max(column.height - 1, 0), size.width, 1)
        return placements + [
            WidgetPlacement(end, NULL_OFFSET, child.styles.margin, child)
            for child in children
            if isinstance(child, End)
        ]


class End(Widget):
    """The last line of the column, which makes it as long as it is however little of it is mounted."""

    def render(self) -> Content:
        """Nothing."""
        return Content("")


class BelowMark(Static):
    """Says that something new stands below the view."""

    DEFAULT_CSS = """
    BelowMark {
        display: none;
        dock: bottom;
        layer: mark;
        width: 100%;
        height: 1;
        text-align: center;
        background: $panel;
        color: $text-primary;
        &.-on { display: block; }
        &:ansi { background: ansi_default; color: ansi_default; text-style: reverse; }
    }
    """
    ALLOW_SELECT = False

    def on_click(self, event: events.Click) -> None:
        """Go there."""
        event.stop()
        if isinstance(self.parent, ColumnView):
            self.parent.follow()


class ColumnView(TextScroll):
    """Shows entries one below the other and follows the end while the view is at the end.

    Scrolling up lets go of the end, coming back to it takes hold again.
    """

    DEFAULT_CSS = """
    ColumnView {
        height: 1fr;
        layers: default mark;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
    }
    """
    NEAR = 0.3
    """What is within so many heights of the view must be mounted."""
    MOUNT = 0.6
    """Where something is not, all within so many heights is mounted …"""
    KEEP = 1.5
    """… and what is further away than this is unmounted."""

    @dataclass
    class BelowChanged(Message):
        """Whether there is something new below the view changed."""

        view: ColumnView
        below: bool

        @property
        def control(self) -> ColumnView:
            """The column, for `on`."""
            return self.view

    def __init__(self, make: Callable[[Entry], EntryView], *, id: str | None = None) -> None:  # noqa: A002
        """Begin with an empty column; `make` makes the widget of an entry."""
        super().__init__(id=id)
        self.column = Column()
        self.mark = BelowMark(markup=False)
        self._column_layout = ColumnLayout(self)
        self._make = make
        self._following = True
        self._place: Place | None = None
        self._end: tuple[int, int] = (0, 0)
        self._below = False
        self._changing = asyncio.Lock()
        self._asked = False
        self._placed = range(0)

    def compose(self) -> ComposeResult:
        """What is always there."""
        yield End()
        yield self.mark

    def on_mount(self) -> None:
        """Show what came before."""
        self._move_soon()

    @property
    def layout(self) -> Layout:
        """The column's own."""
        return self._column_layout

    @property
    def following(self) -> bool:
        """Whether the view stays at the end when something comes there."""
        return self._following

    @property
    def below(self) -> bool:
        """Whether something new has come below the view."""
        return self._below

    @property
    def view_height(self) -> int:
        """Lines that are seen at once."""
        return self.scrollable_content_region.height or self.app.size.height

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._following, self._place = True, None
        self._place_changed()

    def go_to_entry(self, entry: Entry) -> None:
        """Put the top of an entry at the top of the view."""
        self._following, self._place = False, Place(entry, 0)
        self._place_changed()

    def _place_changed(self) -> None:
        self._watch_news()
        self._lay_out()
        self._move_soon()

    def _lay_out(self) -> None:
        """Place the views again; refreshing the column itself would use what Textual remembers of it."""
        for end in self.query_children(End):
            end.refresh(layout=True)

    def update_node_styles(self, animate: bool = True) -> None:
        """Style this widget alone: what it holds must not be walked through when the focus moves."""
        self.app.stylesheet.update_nodes([self], animate=animate)

    # --- entries ---

    async def append_entries(self, entries: Iterable[Entry], *, clear: bool = False, follow: bool) -> None:
        """Put entries at the end; go there with `follow`. With `clear`, nothing else remains."""
        if not self.is_mounted:  # a notice came while the screen is built; `on_mount` shows it
            self.column.add(entries)
            return
        async with self._changing:
            with self.app.batch_update():
                if clear:
                    await self.remove_children(EntryView)
                    self.column.clear()
                    self._place = None
                if not self.column.width:
                    self.column.width = max(self.size.width or self.app.size.width, 1)
                self.column.add(entries)
                if follow:
                    self._following, self._place = True, None
                await self._mount_near(0)  # what is seen first; the layout asks for the rest
                self._lay_out()
        self._watch_news()

    async def remove_entry(self, entry: Entry) -> None:
        """Take an entry out."""
        async with self._changing:
            if self._place and self._place.entry is entry:
                self._place = None
            self.column.remove(entry)
            if entry.view is not None:
                await entry.view.remove()
                entry.view = None
        self._lay_out()
        self._move_soon()

    # --- what is mounted ---

    def _top(self) -> float:
        if self._following:
            return max(self.column.height - self.view_height, 0)
        return self.column.line(self._place) if self._place else self.scroll_y

    def _move_soon(self) -> None:
        if not self._asked and self.is_attached:
            self._asked = True
            self.call_next(self._move)

    async def _move(self) -> None:
        self._asked = False
        height = self.view_height
        if self._lacks(self._top(), height, self.NEAR):
            # What is to be seen comes first; the layout that follows asks for the rest.
            heights = 0 if self._lacks(self._top(), height, 0) else self.MOUNT
            async with self._changing:
                with self.app.batch_update():
                    await self._mount_near(heights)

    def _lacks(self, top: float, height: int, heights: float) -> bool:
        near = self.column.near(top, height, round(heights * height))
        return any(self.column.entries[index].view is None for index in near)

    async def _mount_near(self, heights: float = MOUNT) -> None:
        """Mount what is within so many heights of the view, unmount what is far from it."""
        top, height, entries = self._top(), self.view_height, self.column.entries
        keep = self.column.near(top, height, round(self.KEEP * height))
        far = [view for view in self.query_children(EntryView) if self._may_go(view, keep)]
        for view in far:
            view.entry.view = None
        wanted = self.column.near(top, height, round(heights * height))
        for run in _runs(index for index in wanted if entries[index].view is None):
            after = (entries[index].view for index in range(run[-1] + 1, keep.stop))
            before = next((view for view in after if view is not None), None) or self.query_one(End)
            for index in run:
                entries[index].view = view = self._make(entries[index])
                self.view_made(view)
            await self.mount_all([entries[index].view for index in run], before=before)  # type: ignore[misc]
        pinned = [entry for entry in entries[-2:] if entry.pinned and entry.view and not entry.view.parent]
        if pinned:
            await self.mount_all([entry.view for entry in pinned if entry.view], before=self.query_one(End))
        if far:
            await self.remove_children(far)

    def view_made(self, view: EntryView) -> None:
        """Called with each view before it is mounted."""

    def _may_go(self, view: EntryView, keep: range) -> bool:
        return not view.entry.pinned and view.entry.index not in keep

    # --- scrolling ---

    def keep_place(self, height: int) -> None:
        """Called while views are placed in a view of `height` lines: hold on to the end, or to the text."""
        column = self.column
        last = max(column.height - height, 0)
        if self._following:
            line: float = last
        elif self._place is not None:
            line = min(max(column.line(self._place), 0), last)
        else:
            line = min(self.scroll_y, last)
        if line != self.scroll_y:
            # As Textual's own anchor does: the position is read again before anything is drawn.
            self.set_reactive(Widget.scroll_y, line)
            self.set_reactive(Widget.scroll_target_y, line)
            self.vertical_scrollbar.set_reactive(ScrollBar.position, line)
        if self._lacks(line, height, self.NEAR):
            self._move_soon()
        if self._following:
            self._end = (len(column), self._last_height())
        elif (len(column), self._last_height()) != self._end:
            self.call_next(self._watch_news)

    def place_views(self, height: int) -> range:
        """Return the entries that take part in the layout of a view of `height` lines.

        Each widget in it costs time whenever anything changes, seen or not. While the end is followed
        only what is seen does; else also what may be scrolled to before the next layout.
        """
        margin = 0 if self._following else height
        self._placed = self.column.near(self.scroll_y, height, margin)
        return self._placed

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Let go of the end, or take hold of it; mount what comes near."""
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and new_value < self.max_scroll_y:
            self._following = False
        elif new_value > old_value and new_value >= self.max_scroll_y:
            self._following = True
        self._place = None if self._following else self.column.place(new_value, self.view_height)
        seen = self.column.near(new_value, self.view_height, 0)
        if seen.start < self._placed.start or seen.stop > self._placed.stop:
            self._lay_out()
        self._watch_news()
        self._move_soon()

    def _last_height(self) -> int:
        return self.column.entries[-1].height if len(self.column) else 0

    def _watch_news(self) -> None:
        end = (len(self.column), self._last_height())
        if self._following:
            self._end = end
        below = end != self._end
        if below != self._below:
            self._below = below
            if below:
                self.mark.update(_("↓ new text below"))
            self.mark.set_class(below, "-on")
            self.post_message(self.BelowChanged(self, below))


def _runs(indices: Iterable[int]) -> list[list[int]]:
    """Split ascending indices where one is missing."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs

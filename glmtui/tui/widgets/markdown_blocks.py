"""The parts of a Markdown text that cost too much, or look wrong, as Textual has them.

Textual builds a list anew at every change (four widgets an item) and a table as a grid of a widget a cell.
A streamed answer changes only at its end, so the blocks here take what is new from a block made of the
longer text (`update_block`) and leave the rest alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from markdown_it.token import Token
from rich.segment import Segment
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Region, Size
from textual.layout import Layout
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Markdown
from textual.widgets._markdown import (  # the classes that Markdown.BLOCKS is made of have no public home
    MarkdownBlock,
    MarkdownBlockQuote,
    MarkdownFence,
    MarkdownHeader,
    MarkdownHorizontalRule,
    MarkdownListItem,
    MarkdownParagraph,
    MarkdownTD,
    MarkdownTH,
    MarkdownTR,
)

from glmtui.tui.widgets.stack import STACK

__all__ = [
    "ChatBulletList",
    "ChatList",
    "ChatOrderedList",
    "ChatTable",
    "ListRow",
    "MarkdownBlock",
    "MarkdownBlockQuote",
    "MarkdownFence",
    "MarkdownHeader",
    "blocks_of",
    "reconcile",
    "update_block",
]


def blocks_of(parent: Widget) -> list[MarkdownBlock]:
    """Return the Markdown blocks that stand in `parent`."""
    return [child for child in parent.children if isinstance(child, MarkdownBlock)]


async def reconcile(parent: Widget, old: Sequence[MarkdownBlock], new: Sequence[MarkdownBlock]) -> None:
    """Make `parent`, which shows `old`, show `new`, of which all but the last of `old` are known to be equal.

    Args:
        parent: Where the blocks stand.
        old: The last blocks of `parent`.
        new: Fresh blocks, not mounted; those that are used belong to `parent` afterwards.
    """
    kept = min(len(old), len(new))
    for block in old[len(new) :]:
        await block.remove()
    if kept and not await update_block(old[kept - 1], new[kept - 1]):
        await parent.mount(new[kept - 1], before=old[kept - 1])
        await old[kept - 1].remove()
    if new[kept:]:
        await parent.mount_all(new[kept:])


async def update_block(old: MarkdownBlock, new: MarkdownBlock) -> bool:
    """Make the mounted `old` show what `new` has; False if it cannot, and `new` must take its place."""
    if type(old) is not type(new):
        return False
    if isinstance(old, ChatList) and isinstance(new, ChatList):
        return await old.take(new, at=0)
    if isinstance(old, ChatTable) and isinstance(new, ChatTable):
        old.take(new)
    elif isinstance(old, MarkdownFence):
        await old._update_from_block(new)
    elif isinstance(old, MarkdownBlockQuote):
        await reconcile(old, blocks_of(old), new._blocks)
    elif isinstance(old, MarkdownParagraph | MarkdownHeader):
        old.set_content(new._content)
    else:
        return isinstance(old, MarkdownHorizontalRule)
    old._token = new._token
    old.source_range = new.source_range
    return True


class ListRow(Widget):
    """One item of a list: its mark stands in the padding left of its blocks."""

    DEFAULT_CSS = """
    ListRow {
        layout: vertical;
        width: 1fr;
        height: auto;
        & > MarkdownParagraph { margin: 0; }
        .list-row--mark { color: $text-primary; }
        &:light .list-row--mark { color: $text-secondary; }
        &:ansi .list-row--mark { color: ansi_default; text-style: dim; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"list-row--mark"}
    BLANK = True  # nothing of its own but the mark: drawn without Textual's cache of styled lines

    def __init__(self, mark: str, blocks: Iterable[MarkdownBlock]) -> None:
        super().__init__(*blocks)
        self._mark = mark
        self.styles.padding = (0, 0, 0, len(mark))

    @property
    def layout(self) -> Layout:
        """Blocks one below the other."""
        return STACK

    @property
    def mark(self) -> str:
        """The bullet or number, padded to its column."""
        return self._mark

    @mark.setter
    def mark(self, mark: str) -> None:
        if mark != self._mark:
            self._mark = mark
            self.styles.padding = (0, 0, 0, len(mark))
            self.refresh()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Draw the mark over the padding of the first line."""
        strips = super().render_lines(crop)
        if strips and crop.y == 0 and crop.x == 0 and crop.width >= len(self._mark):
            style = self.get_visual_style("list-row--mark").rich_style
            mark = Strip([Segment(self._mark, style)], len(self._mark))
            strips[0] = Strip.join([mark, strips[0].crop(len(self._mark))])
        return strips

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Let a selection with the mouse take the mark with it."""
        return self._mark, ""


class ChatList(MarkdownBlock):
    """A list whose finished rows stay as they are while the last one grows."""

    DEFAULT_CSS = """
    ChatList {
        layout: vertical;
        width: 1fr;
        height: auto;
        margin: 0 0 1 0;
        ChatList { margin: 0; }
    }
    """

    BLANK = True

    @property
    def layout(self) -> Layout:
        """Blocks one below the other."""
        return STACK

    def mark(self, number: int, count: int) -> str:
        """Return the mark of item `number` (from 0) in a list of `count`."""
        raise NotImplementedError

    first = ""
    """What tells two lists of a kind apart: the first number."""

    @property
    def items(self) -> list[MarkdownListItem]:
        """The items of a list fresh from the parser."""
        return [block for block in self._blocks if isinstance(block, MarkdownListItem)]

    @property
    def rows(self) -> list[ListRow]:
        """The rows of a mounted list."""
        return [child for child in self.children if isinstance(child, ListRow)]

    def compose(self) -> ComposeResult:
        """Make a row of every item."""
        items = self.items
        for number, item in enumerate(items):
            yield ListRow(self.mark(number, len(items)), item._blocks)
        self._blocks.clear()

    async def take(self, new: ChatList, *, at: int) -> bool:
        """Show the items of `new` from row `at` on; False where that needs another list.

        Only the last of the rows that stand may differ from what `new` has in their places.
        """
        rows, items = self.rows, new.items
        if at >= len(rows) and rows:
            return False
        count = at + len(items)
        for row in rows[count:]:
            await row.remove()
        rows = rows[:count]
        if rows:
            last = len(rows) - 1
            await reconcile(rows[last], blocks_of(rows[last]), items[last - at]._blocks)
        fresh = [
            ListRow(self.mark(number, count), items[number - at]._blocks)
            for number in range(len(rows), count)
        ]
        for number, row in enumerate(rows):
            row.mark = self.mark(number, count)
        if fresh:
            await self.mount_all(fresh)
        return True


class ChatBulletList(ChatList):
    """Items with bullets; the bullet tells the depth."""

    _bullet = "• "

    def compose(self) -> ComposeResult:
        """Take the bullet of this depth from the items."""
        self._learn(self)
        yield from super().compose()

    def _learn(self, other: ChatList) -> None:
        if other.items:
            self._bullet = other.items[0].bullet

    def mark(self, number: int, count: int) -> str:
        """The same for all."""
        return f" {self._bullet}"


class ChatOrderedList(ChatList):
    """Items with numbers, counted from the first one's, right-aligned."""

    _mounted_first: str | None = None

    @property
    def first(self) -> str:  # type: ignore[override]
        """The first number as it is written."""
        if self._mounted_first is None and self.items:
            return self.items[0].bullet
        return self._mounted_first or "1"

    def compose(self) -> ComposeResult:
        """Take the first number from the first item."""
        self._mounted_first = self.first
        yield from super().compose()

    async def take(self, new: ChatList, *, at: int) -> bool:
        """As any list, unless the first number itself has changed."""
        if at == 0 and new.first != self.first:
            return False
        return await super().take(new, at=at)

    def mark(self, number: int, count: int) -> str:
        """The number, as wide as the widest."""
        start = int(self.first)
        width = len(str(start + count - 1))
        return f" {start + number:>{width}}. "


class ChatTable(MarkdownBlock):
    """A table as one widget that lays out its own columns, by cells and not by characters."""

    DEFAULT_CSS = """
    ChatTable {
        text-wrap: nowrap;
        width: 1fr;
        height: auto;
        margin: 0 0 1 0;
        .chat-table--header { text-style: bold; color: $text-primary; }
        .chat-table--rule { color: $foreground 30%; }
        &:ansi .chat-table--header { color: ansi_default; }
        &:ansi .chat-table--rule { color: ansi_default; text-style: dim; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"chat-table--header", "chat-table--rule"}
    NARROWEST = 2
    """No column is made narrower to fit the view, in cells: a hanzi takes two."""

    def __init__(self, markdown: Markdown, token: Token) -> None:
        super().__init__(markdown, token)
        self._cells: list[list[Content]] = []
        self._aligned_right: list[bool] = []

    @property
    def cells(self) -> list[list[Content]]:
        """The rows, the header first."""
        self._read_cells()
        return self._cells

    def compose(self) -> ComposeResult:
        """A table has no widgets in it."""
        self._read_cells()
        yield from ()

    def take(self, new: ChatTable) -> None:
        """Show the rows of `new`."""
        new._read_cells()
        self._cells, self._aligned_right = new._cells, new._aligned_right
        self._content_height_cache = (0, 0)
        self.refresh(layout=True)

    def _read_cells(self) -> None:
        cells: list[list[Content]] = []

        def walk(block: MarkdownBlock) -> None:
            if isinstance(block, MarkdownTR):
                cells.append([])
            elif isinstance(block, MarkdownTH | MarkdownTD):
                cells[-1].append(block._content)
                if isinstance(block, MarkdownTH):
                    style = str(block._token.attrs.get("style", ""))
                    self._aligned_right.append("right" in style)
            for child in block._blocks:
                walk(child)

        if self._blocks:
            self._aligned_right = []
            walk(self)
            self._cells = [row for row in cells if row]
            self._blocks.clear()

    def _widths(self, width: int) -> list[int]:
        columns = len(self._cells[0])
        widths = [
            max((line.cell_length for row in self._cells for line in row[column : column + 1]), default=1)
            for column in range(columns)
        ]
        room = max(width - 3 * (columns - 1) - 2, columns * self.NARROWEST)
        while sum(widths) > room:
            widest = widths.index(max(widths))
            second = max((other for other in widths if other < widths[widest]), default=self.NARROWEST)
            excess = sum(widths) - room
            widths[widest] = max(widths[widest] - excess, second, self.NARROWEST)
            if widths.count(widths[widest]) > 1 and sum(widths) > room:  # equally wide: shrink them together
                widest_ones = [index for index, each in enumerate(widths) if each == widths[widest]]
                for index in widest_ones:
                    if sum(widths) > room:
                        widths[index] -= 1
        return widths

    def _lay_out(self, width: int) -> list[Content]:
        if not self._cells:
            return []
        widths = self._widths(width)
        header = self.get_visual_style("chat-table--header")
        rule = self.get_visual_style("chat-table--rule")
        between = Content.styled(" │ ", rule)
        lines: list[Content] = []
        for number, row in enumerate(self._cells):
            cells = [row[i].wrap(size) if i < len(row) else [] for i, size in enumerate(widths)]
            for line in range(max(len(cell) for cell in cells)):
                parts = []
                for column, cell in enumerate(cells):
                    part = cell[line] if line < len(cell) else Content("")
                    missing = max(widths[column] - part.cell_length, 0)
                    right = self._aligned_right[column : column + 1] == [True]
                    parts.append(part.pad_left(missing) if right else part.pad_right(missing))
                content = Content(" ") + between.join(parts)
                lines.append(content.stylize_before(header) if number == 0 else content)
            if number == 0:
                lines.append(Content.styled("─" + "─┼─".join("─" * size for size in widths) + "─", rule))
        return lines

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The lines of the table at this width."""
        return len(self._lay_out(width))

    def render(self) -> Content:
        """All lines, for the width that the table has."""
        return Content("\n").join(self._lay_out(self.content_size.width))

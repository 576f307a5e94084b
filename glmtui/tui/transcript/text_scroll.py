"""One scrolling widget for texts of any length: it draws the lines that are seen.

Entries are set into lines when they come near the view, thousands of others are only estimated, so heights
above the view may change at any time; the scroll position moves with the text then, and nothing jumps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import events
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from glmtui.i18n import _
from glmtui.text.word_boundaries import word_spans
from glmtui.tui.textual_patches.guard import told
from glmtui.tui.textual_patches.selection import follow_scroll
from glmtui.tui.transcript.column import Column, Entry, Place
from glmtui.tui.transcript.typeset.blocks import stack
from glmtui.tui.transcript.typeset.code import COPY
from glmtui.tui.transcript.typeset.growing import read_all
from glmtui.tui.transcript.typeset.lines import Line
from glmtui.tui.transcript.typeset.reading import LINK

KEEP_LINES = 64
"""Entries out of view that keep their lines, so that scrolling back is cheap; others make them again."""
ENTRY = 1 << 20
"""Places that the selection knows are (character, entry * ENTRY + line): they hold when heights change."""


class Palette:
    """The styles that lines name, as the theme has them. A change of style makes another palette."""

    def __init__(self, owner: Widget) -> None:
        self._owner = owner
        self._known: dict[str, Style] = {}
        self.base = owner.visual_style
        """The style of the background."""

    def __call__(self, style: str | Style) -> Style:
        """Return the style with this name: ``.text--strong``, or in Textual syntax ``bold $text-muted``."""
        if isinstance(style, Style):
            return style
        known = self._known.get(style)
        if known is None:
            if style.startswith("."):
                known = self._owner.get_visual_style(style[1:], partial=True)
            else:
                known = self._owner.app.stylesheet.parse_style(style)
            self._known[style] = known
        return known


class TextScroll(ScrollView):
    """Shows entries one below the other; what is selected with the mouse is copied as text.

    Once it follows the end (`follow`) it stays there while text comes; scrolling up lets go of the end,
    coming back takes hold of it again.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *("text--h1", "text--h2", "text--h3", "text--h4", "text--em", "text--strong", "text--strike"),
        *("text--link", "text--code-inline", "text--math", "text--mark", "text--done", "text--rule"),
        *("text--quote", "text--quote-bar", "text--table-head", "text--code", "text--frame", "text--label"),
        *("text--code-comment", "text--code-keyword", "text--code-string", "text--code-number"),
        *("text--code-builtin", "text--code-name", "text--below"),
    }

    @dataclass
    class LinkClicked(Message):
        """A link was clicked. Nothing has been opened."""

        entry: Entry
        href: str

    @dataclass
    class CodeClicked(Message):
        """The button that copies a block of code was clicked."""

        entry: Entry
        code: str

    @dataclass
    class BelowChanged(Message):
        """Whether there is something new below the view changed."""

        below: bool

    def __init__(self, entries: Iterable[Entry] = (), *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.column = Column(partial(told, self))
        self.column.add(entries)
        self.following = False
        """Whether the view stays at the end when something comes there."""
        self.below = False
        """Whether something new has come below the view."""
        self._news = False  # the same, wherever the view is
        self._place: Place | None = None
        self._palette: Palette | None = None
        self._looking_ahead = False
        self._laid_out: dict[Entry, None] = {}  # entries that have lines, those seen last at the end

    # --- geometry ---

    @property
    def view_height(self) -> int:
        return self.container_size.height or self.app.size.height

    @property
    def _text_width(self) -> int:
        return max(self.container_size.width - self.scrollbar_size_vertical, 0)

    @property
    def palette(self) -> Palette:
        if self._palette is None:
            self._palette = Palette(self)
        return self._palette

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._palette = None

    def on_resize(self) -> None:
        self.update()

    def on_show(self) -> None:
        """Show what came while nothing was seen."""
        self.update()

    # --- what is seen, and where ---

    def update(self) -> None:
        self._settle()
        self.refresh()

    def _top(self, height: int) -> float:
        """Return the line that is to be the first in a view of `height` lines."""
        last = max(self.column.height - height, 0)
        if self.following:
            return last
        line = self.column.line(self._place) if self._place else self.scroll_y
        return min(max(line, 0), last)

    def _settle(self) -> bool:
        """Lay out what is to be seen, and hold on to the end or the text; return whether the view moved."""
        width, height, column = self._text_width, self.container_size.height, self.column
        if not width or not height:
            return False
        column.set_width(width)
        top = self._measure(height, 0)
        if not self._looking_ahead and not self._is_measured(top, height):
            self._looking_ahead = self.call_after_refresh(self._look_ahead)
        size = Size(width, column.height)
        if size != self.virtual_size:
            if (size.height > height) == self.show_vertical_scrollbar:  # else it needs a layout of the screen
                self.set_reactive(Widget.virtual_size, size)
                if self.show_vertical_scrollbar:
                    self.vertical_scrollbar.window_virtual_size = size.height
            else:
                self.virtual_size = size
        moved = top != self.scroll_y
        if moved:  # without the watchers, which take it for the person's doing
            self.set_reactive(Widget.scroll_y, top)
            self.set_reactive(Widget.scroll_target_y, top)
            if size.height > height:
                self.vertical_scrollbar.position = top
        self._tell_below(self._news and column.height > top + height)
        return moved

    def _measure(self, height: int, margin: int) -> float:
        """Measure what is within `margin` lines of the view; return where the view is then."""
        column = self.column
        while True:
            top = self._top(height)
            near = column.entries[(seen := column.near(top, height, margin)).start : seen.stop]
            unknown = [entry for entry in near if not entry.measured]
            if not unknown:
                self._remember(near)
                return top
            for entry in unknown:
                column.measure(entry)

    def _is_measured(self, top: float, height: int) -> bool:
        near = self.column.near(top, height, height)
        return all(self.column.entries[index].measured for index in near)

    def _look_ahead(self) -> None:
        """Measure what may be scrolled to next, so that it does not move when it comes into view."""
        self._looking_ahead = False
        if (height := self.container_size.height) and self.column.width:
            self._measure(height, height)
            if self._settle():
                self.refresh()

    def _remember(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._laid_out.pop(entry, None)
            self._laid_out[entry] = None
        while len(self._laid_out) > max(KEEP_LINES, 2 * len(entries)):
            entry = next(iter(self._laid_out))
            del self._laid_out[entry]
            entry.release()

    def _tell_below(self, below: bool) -> None:
        if below != self.below:
            self.below = below
            self.post_message(self.BelowChanged(below))
            self.refresh()

    # --- entries ---

    def append_entries(self, entries: Iterable[Entry], *, follow: bool) -> None:
        """Put entries at the end; go there with `follow`."""
        self.column.add(entries)
        if follow:
            self.follow()
        else:
            self._news = not self.following
            self.update()

    def clear_entries(self) -> None:
        self.column.clear()
        self._laid_out.clear()
        self._place, self._news = None, False

    def remove_entry(self, entry: Entry) -> None:
        if self._place and self._place.entry is entry:
            self._place = None
        self._laid_out.pop(entry, None)
        self.column.remove(entry)
        self.update()

    def entry_changed(self, entry: Entry, *, news: bool = False) -> None:
        """Lay out and draw an entry that is another now; with `news`, there may be something new below."""
        before, known = entry._lines or [], entry.measured
        entry.changed()
        if entry not in self.column or not self.column.width:
            return
        self._news |= news and not self.following
        lines = self.column.measure(entry)
        moved = self._settle()
        if entry not in self._laid_out:  # far from the view
            entry.release()
        if moved or not known:
            self.refresh()
            return
        same = zip(lines, before, strict=False)
        first = next(
            (y for y, (line, old) in enumerate(same) if line is not old), min(len(lines), len(before))
        )
        top = self.column.tops[entry.index] - round(self.scroll_y)
        last = self.view_height if len(lines) != len(before) else top + len(lines)
        self._refresh_rows(top + first, last)

    def _refresh_rows(self, first: int, end: int) -> None:
        first, end = max(first, 0), min(end, self.view_height)
        if first < end:
            self.refresh(Region(0, first, self.outer_size.width, end - first))

    # --- scrolling ---

    def follow(self) -> None:
        """Go to the end and stay there."""
        self.following, self._place, self._news = True, None, False
        self.update()

    def go_to_entry(self, entry: Entry) -> None:
        self.following, self._place = False, Place(entry, 0)
        self.update()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Let go of the end, or take hold of it."""
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and new_value < self.max_scroll_y:
            self.following = False
        elif new_value > old_value and new_value >= self.max_scroll_y:
            self.following, self._news = True, False
        self._place = None if self.following else self.column.place(new_value, self.view_height)
        self.update()
        follow_scroll(self.screen, self)

    # --- drawing ---

    def _line_at(self, row: int) -> tuple[Entry, int] | None:
        """Return the entry at a row of the view, and which of its lines (or of those after it) it is."""
        if not self.column.entries:
            return None
        line = round(self.scroll_y) + row
        index = self.column.at(line)
        return self.column.entries[index], line - self.column.tops[index]

    def render_lines(self, crop: Region) -> list[Strip]:
        """Draw the rows of the view; a line's drawing is reused until it, the styles or the width change."""
        if self._settle():
            self.refresh()
        selection, palette, width = self.text_selection, self.palette, self.outer_size.width
        left, above = self.styles.gutter.left, self.styles.gutter.top
        blank = self._filtered(Strip.blank(width, palette.base.rich_style))
        strips = []
        for row in range(crop.y - above, crop.bottom - above):
            if self.below and row == self.view_height - 1:
                strips.append(self._draw_below(palette, width, left))
                continue
            found = self._line_at(row)
            lines = self.column.lines(found[0]) if found else []
            if found is None or not 0 <= found[1] < len(lines):
                strips.append(blank)
                continue
            entry, y = found
            line = lines[y]
            span = selection.get_span(entry.serial * ENTRY + y) if selection else None
            if span is not None:
                strips.append(self._draw(line, palette, entry.bar, left, width, span))
                continue
            key = palette, entry.bar, left, width
            if line.strip is None or line.drawn_for != key:
                line.strip, line.drawn_for = self._draw(line, palette, entry.bar, left, width), key
            strips.append(line.strip)
        if crop.column_span != (0, width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        """Return the places of a row's characters, cell by cell, for the selection with the mouse.

        A blank stands for each cell of a wide character, so that both mean the character they belong to.
        """
        if (found := self._line_at(y)) is None:
            return Strip([])
        entry, number = found
        lines = self.column.lines(entry)
        place = entry.serial * ENTRY + number
        segments = [Segment(" ", _place(0, place))] * (2 if entry.bar else 0)
        for x, character in enumerate(lines[number].content.plain if 0 <= number < len(lines) else ""):
            segments += [Segment(" ", _place(x, place))] * get_character_cell_size(character)
        return Strip(segments or [Segment(" ", _place(0, place))])

    def _draw(
        self,
        line: Line,
        palette: Palette,
        bar: tuple[str, str, str] | None,
        left: int,
        width: int,
        selected: tuple[int, int] | None = None,
    ) -> Strip:
        content, base = line.content, palette.base
        if selected is not None:
            start, end = _within(line, selected)
            if end > start:
                styles = self.screen.get_component_styles("screen--selection")
                content = content.stylize(Style.from_styles(styles), start, end)
        segments = [Segment(" " * left, base.rich_style)] if left else []
        if bar:
            character, style, ansi = bar
            bar_style = base + palette(ansi if self.app.native_ansi_color else style)
            segments.append(Segment(f"{character} ", bar_style.rich_style))
        segments += [
            Segment(text, style.rich_style) for text, style in content.render(base, "", parse_style=palette)
        ]
        return self._filtered(Strip(segments).adjust_cell_length(width, base.rich_style))

    def _draw_below(self, palette: Palette, width: int, left: int) -> Strip:
        text, room = _("↓ new text below"), self._text_width
        style = (palette.base + palette(".text--below")).rich_style
        before = max(room - cell_len(text), 0) // 2
        mark = Strip([Segment(" " * before + text, style)]).adjust_cell_length(room, style)
        edge = Segment(" " * left, palette.base.rich_style)
        return self._filtered(Strip([edge, *mark]).adjust_cell_length(width, palette.base.rich_style))

    def _filtered(self, strip: Strip) -> Strip:
        """Return the line as the app wants all lines: without colours where there shall be none."""
        _base, background = self.background_colors
        for line_filter in self.get_line_filters():
            strip = strip.apply_filter(line_filter, background)
        return strip

    # --- selecting and clicking ---

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the selected text, without frames; a line that was broken to fit is one line again."""
        start, end = selection
        first = start.y // ENTRY if start else 0
        last = end.y // ENTRY if end else self.column.entries[-1].serial if len(self.column) else 0
        texts = []
        for entry in self.column.between(first, last):
            parts: list[str] = []
            for y, line in enumerate(self.column.lines(entry)):
                if (span := selection.get_span(entry.serial * ENTRY + y)) is None:
                    continue
                if parts:
                    parts.append("\n" if line.joint is None else line.joint)
                begin, stop = _within(line, span)
                parts.append(line.content.plain[begin : max(begin, stop)])
            if parts:
                texts.append("".join(parts))
            if entry not in self._laid_out:
                entry.release()
        return ("\n".join(texts), "\n") if texts else None

    def on_click(self, event: events.Click) -> None:
        """Follow what was clicked on; two clicks select a word, a Chinese one too, three the paragraph."""
        row = event.y - self.styles.gutter.top
        if self.below and row == self.view_height - 1:
            event.stop()
            self.follow()
        elif (found := self._line_at(row)) is not None:
            event.stop()
            if event.chain > 1:
                event.prevent_default()  # Textual would select everything in the widget
            entry, y = found
            if y < entry.height - entry.gap:
                self.entry_clicked(entry, y, event)

    def entry_clicked(self, entry: Entry, y: int, event: events.Click) -> None:
        meta = event.style.meta
        if LINK in meta:
            self.post_message(self.LinkClicked(entry, meta[LINK]))
        elif COPY in meta:
            self.post_message(self.CodeClicked(entry, meta[COPY]))
        elif event.chain > 1:
            self._select_at(entry, event)

    def _select_at(self, entry: Entry, event: events.Click) -> None:
        _widget, offset = self.screen.get_widget_and_offset_at(event.screen_x, event.screen_y)
        lines = self.column.lines(entry)
        if offset is None or not 0 <= offset.y - entry.serial * ENTRY < len(lines):
            return
        first = last = offset.y - entry.serial * ENTRY
        if event.chain == 2:
            spans = word_spans(lines[first].content.plain)
            start, end = next(((a, b) for a, b in spans if a <= offset.x < b), (offset.x, offset.x + 1))
        else:
            while lines[first].joint is not None:
                first -= 1
            while last + 1 < len(lines) and lines[last + 1].joint is not None:
                last += 1
            start, end = 0, len(lines[last].content)
        base = entry.serial * ENTRY
        self.screen.selections = {self: Selection(Offset(start, base + first), Offset(end, base + last))}


class MarkdownEntry(Entry):
    """A Markdown text on its own."""

    bar = None

    def make_lines(self, width: int) -> list[Line]:
        return stack(read_all(self.text), width)


class MarkdownScroll(TextScroll):
    """Shows one Markdown text, such as the help, as messages are shown. Links are posted, never opened."""

    def __init__(self, text: str = "", *, id: str | None = None) -> None:  # noqa: A002
        super().__init__([MarkdownEntry(text)], id=id)


def _place(x: int, y: int) -> RichStyle:
    return RichStyle.from_meta({"offset": (x, y)})


def _within(line: Line, span: tuple[int, int]) -> tuple[int, int]:
    """Return what of a selected span is text: nothing of a frame."""
    start, end = span
    last = len(line.content) if line.end is None else line.end
    return max(start, line.start), last if end < 0 else min(end, last)

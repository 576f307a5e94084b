"""Widgets that show a text as lines: cheap to mount, to lay out, to scroll and to select from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.cells import get_character_cell_size
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual import events
from textual.containers import VerticalScroll
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from glmtui.text.word_boundaries import word_spans
from glmtui.tui.transcript.typeset.code import COPY
from glmtui.tui.transcript.typeset.lines import Line, copied
from glmtui.tui.transcript.typeset.reading import LINK


class Palette:
    """The styles that lines name, as the theme has them. A change of style makes another palette."""

    def __init__(self, owner: Widget) -> None:
        self._owner = owner
        self._known: dict[str, Style] = {}
        self.base = owner.visual_style
        """What stands behind all text."""

    def __call__(self, style: str | Style) -> Style:
        """Return the style with this name: ``.text--strong``, or in Textual's words ``bold $text-muted``."""
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


class TextScroll(VerticalScroll):
    """Holds `LinesView`s and has the styles of their texts, so that not each of them needs its own."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *("text--h1", "text--h2", "text--h3", "text--h4", "text--em", "text--strong", "text--strike"),
        *("text--link", "text--code-inline", "text--math", "text--mark", "text--done", "text--rule"),
        *("text--quote", "text--quote-bar", "text--table-head", "text--code", "text--frame", "text--label"),
        *("text--code-comment", "text--code-keyword", "text--code-string", "text--code-number"),
        *("text--code-builtin", "text--code-name"),
    }
    DEFAULT_CSS = """
    TextScroll {
        & > .text--h1 { color: $text-primary; text-style: bold underline; }
        & > .text--h2 { color: $text-primary; text-style: bold; }
        & > .text--h3 { color: $text-secondary; text-style: bold; }
        & > .text--h4 { text-style: bold; }
        & > .text--em { text-style: italic; }
        & > .text--strong { text-style: bold; }
        & > .text--strike { text-style: strike; }
        & > .text--link { color: $text-secondary; text-style: underline; }
        & > .text--code-inline { color: $text-warning; background: $surface; }
        & > .text--math { color: $text-accent; }
        & > .text--mark { color: $text-primary; }
        & > .text--done { color: $text-success; }
        & > .text--rule { color: $foreground 30%; }
        & > .text--quote { color: $text-muted; }
        & > .text--quote-bar { color: $foreground 40%; }
        & > .text--table-head { color: $text-primary; text-style: bold; }
        & > .text--code { color: $foreground; background: $surface; }
        & > .text--frame { color: $foreground 25%; }
        & > .text--label { color: $text-muted; }
        & > .text--code-comment { color: $text-muted; text-style: italic; }
        & > .text--code-keyword { color: $text-accent; }
        & > .text--code-string { color: $text-success; }
        & > .text--code-number { color: $text-warning; }
        & > .text--code-builtin { color: $text-secondary; }
        & > .text--code-name { color: $text-primary; text-style: bold; }
        &:ansi {
            & > .text--h1, & > .text--h2, & > .text--h3, & > .text--table-head { color: ansi_default; }
            & > .text--link { color: ansi_blue; }
            & > .text--code-inline { color: ansi_cyan; background: ansi_default; }
            & > .text--math { color: ansi_magenta; }
            & > .text--mark, & > .text--done { color: ansi_green; }
            & > .text--rule, & > .text--quote-bar, & > .text--frame, & > .text--label {
                color: ansi_bright_black;
            }
            & > .text--quote { color: ansi_default; text-style: italic; }
            & > .text--code { color: ansi_default; background: ansi_default; }
            & > .text--code-comment { color: ansi_bright_black; text-style: italic; }
            & > .text--code-keyword { color: ansi_magenta; }
            & > .text--code-string { color: ansi_green; }
            & > .text--code-number { color: ansi_yellow; }
            & > .text--code-builtin { color: ansi_cyan; }
            & > .text--code-name { color: ansi_blue; text-style: bold; }
        }
    }
    """
    _palette: Palette | None = None

    @property
    def palette(self) -> Palette:
        """The styles as they are now."""
        if self._palette is None:
            self._palette = Palette(self)
        return self._palette

    def notify_style_update(self) -> None:
        """The theme may be another."""
        super().notify_style_update()
        self._palette = None


class LinesView(Widget):
    """Shows the lines that `make_lines` makes; what is selected with the mouse is copied as text.

    Stands in a `TextScroll`. A double click selects a word, a Chinese one too, a third click the
    paragraph.
    """

    DEFAULT_CSS = """
    LinesView { width: 1fr; height: auto; }
    """
    LEFT: ClassVar[int] = 0
    """Cells at the left edge that `left_edge` draws."""
    RIGHT: ClassVar[int] = 0
    """Cells at the right edge that stay empty."""

    @dataclass
    class LinkClicked(Message):
        """A link was clicked. Nothing has been opened."""

        view: LinesView
        href: str

    @dataclass
    class CodeClicked(Message):
        """The word that copies a block of code was clicked."""

        view: LinesView
        code: str

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []
        self._lines_for: int | None = None
        self._styles_from: TextScroll | None = None

    def make_lines(self, width: int) -> list[Line]:
        """Set the text into lines of at most `width` cells."""
        raise NotImplementedError

    def left_edge(self, palette: Palette) -> tuple[str, Style]:
        """Return what stands left of every line, `LEFT` characters of one cell, and its style."""
        return " " * self.LEFT, palette.base

    @property
    def palette(self) -> Palette:
        """The styles of the text."""
        if self._styles_from is None:
            owners = (node for node in self.ancestors_with_self if isinstance(node, TextScroll))
            self._styles_from = next(owners)
        return self._styles_from.palette

    # --- lines ---

    def lines_at(self, width: int) -> list[Line]:
        """Return the lines in a widget of `width` cells."""
        if self._lines_for != width:
            self._lines = self.make_lines(max(width - self.LEFT - self.RIGHT, 1))
            self._lines_for = width
        return self._lines

    def lines_changed(self) -> None:
        """Make the lines again and draw those that are others now."""
        if self._lines_for is None or not self.is_attached:
            self._lines_for = None
            return
        before, width, self._lines_for = self._lines, self._lines_for, None
        lines = self.lines_at(width)
        if len(lines) != len(before):
            self.refresh(layout=True)
            return
        changed = [y for y, (line, old) in enumerate(zip(lines, before, strict=True)) if line is not old]
        if changed:
            self.refresh(Region(0, changed[0], self.size.width, changed[-1] - changed[0] + 1))

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """All there is."""
        return container.width

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many as there are lines."""
        return len(self.lines_at(width))

    # --- drawing ---

    def render_lines(self, crop: Region) -> list[Strip]:
        """Draw lines; each is kept until it, the styles or the width change."""
        if not self.is_attached:  # removed since the screen was laid out
            return [Strip.blank(crop.width)] * crop.height
        width, palette, selection = self.size.width, self.palette, self.text_selection
        lines = self.lines_at(width)
        edge = self.left_edge(palette)
        key = palette, width, edge
        strips = []
        for y in crop.line_range:
            if y >= len(lines):
                strips.append(self._filtered(Strip.blank(width, palette.base.rich_style)))
                continue
            line = lines[y]
            span = selection.get_span(y) if selection else None
            if span is not None:
                strips.append(self._draw(line, palette, edge, span))
                continue
            if line.strip is None or line.drawn_for != key:
                line.strip, line.drawn_for = self._draw(line, palette, edge), key
            strips.append(line.strip)
        if crop.column_span != (0, width):
            strips = [strip.crop(*crop.column_span) for strip in strips]
        return strips

    def render_line(self, y: int) -> Strip:
        """Return the places of a line's characters, cell by cell, for the selection with the mouse.

        A blank stands for each cell of a wide character, so that both mean the character they belong to.
        """
        lines = self.lines_at(self.size.width)
        segments = [Segment(" ", _place(0, y))] * self.LEFT
        for x, character in enumerate(lines[y].content.plain if y < len(lines) else ""):
            segments += [Segment(" ", _place(x, y))] * get_character_cell_size(character)
        return Strip(segments)

    def _draw(
        self, line: Line, palette: Palette, edge: tuple[str, Style], selected: tuple[int, int] | None = None
    ) -> Strip:
        content, base = line.content, palette.base
        if selected is not None:
            start, end = _within(line, selected)
            if end > start:
                styles = self.screen.get_component_styles("screen--selection")
                content = content.stylize(Style.from_styles(styles), start, end)
        segments = [
            Segment(text, style.rich_style) for text, style in content.render(base, "", parse_style=palette)
        ]
        if edge[0]:
            segments.insert(0, Segment(edge[0], (base + edge[1]).rich_style))
        return self._filtered(Strip(segments).adjust_cell_length(self.size.width, base.rich_style))

    def _filtered(self, strip: Strip) -> Strip:
        """Return the line as the app wants all lines: without colours where there shall be none."""
        _base, background = self.background_colors
        for line_filter in self.get_line_filters():
            strip = strip.apply_filter(line_filter, background)
        return strip

    # --- selecting ---

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Return the selected text, without frames, and with lines whole that were broken to fit."""
        parts: list[str] = []
        for y, line in enumerate(self._lines):
            span = selection.get_span(y)
            if span is None:
                continue
            start, end = _within(line, span)
            if parts:
                parts.append("\n" if line.joint is None else line.joint)
            parts.append(line.content.plain[start : max(start, end)])
        return ("".join(parts), "\n") if parts else None

    def on_click(self, event: events.Click) -> None:
        """Follow what was clicked on; select words and paragraphs."""
        meta = event.style.meta
        if LINK in meta:
            event.stop()
            self.post_message(self.LinkClicked(self, meta[LINK]))
        elif COPY in meta:
            event.stop()
            self.post_message(self.CodeClicked(self, meta[COPY]))
        elif event.chain > 1:
            event.prevent_default()  # Textual would select everything in the widget
            event.stop()
            self._select_at(event)

    def _select_at(self, event: events.Click) -> None:
        _widget, offset = self.screen.get_widget_and_offset_at(event.screen_x, event.screen_y)
        if offset is None or not 0 <= offset.y < len(self._lines):
            return
        first = last = offset.y
        line = self._lines[first]
        if event.chain == 2:
            spans = word_spans(line.content.plain)
            start, end = next(((a, b) for a, b in spans if a <= offset.x < b), (offset.x, offset.x + 1))
        else:
            while self._lines[first].joint is not None:
                first -= 1
            while last + 1 < len(self._lines) and self._lines[last + 1].joint is not None:
                last += 1
            start, end = 0, len(self._lines[last].content)
        self.screen.selections = {self: Selection(Offset(start, first), Offset(end, last))}

    @property
    def text(self) -> str:
        """All that would be copied."""
        return copied(self._lines)


def _place(x: int, y: int) -> RichStyle:
    return RichStyle.from_meta({"offset": (x, y)})


def _within(line: Line, span: tuple[int, int]) -> tuple[int, int]:
    """Return what of a selected span is text: nothing of a frame."""
    start, end = span
    last = len(line.content) if line.end is None else line.end
    return max(start, line.start), last if end < 0 else min(end, last)

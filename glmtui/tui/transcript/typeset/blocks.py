"""The blocks of a Markdown text, each of which knows the lines it takes.

Blocks are made anew whenever a text grows, so what is expensive is remembered where it stays: each block
keeps its lines for a width, and takes over from the one before it what has not changed (`Block.take`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.cells import cell_len
from textual.content import Content

from glmtui.tui.transcript.typeset import latex
from glmtui.tui.transcript.typeset.lines import EMPTY, Line, wrap

NARROWEST = 8
"""Cells that are left to a text however deep it stands in lists and quotes."""


class Block:
    """Part of a text. `make_lines` is what a kind of block defines; `lines` remembers it."""

    gap: ClassVar[bool] = True
    """Whether an empty line stands between it and its neighbours."""
    _lines: list[Line] | None = None
    _width: int = 0

    def lines(self, width: int) -> list[Line]:
        """Return the lines it takes at `width` cells."""
        if self._lines is None or self._width != width:
            self._lines, self._width = self.make_lines(width), width
        return self._lines

    def make_lines(self, width: int) -> list[Line]:
        raise NotImplementedError

    def take(self, old: Block) -> None:
        """Take over what can be kept of `old`, which stood in this place before the text grew."""


def stack(blocks: Sequence[Block], width: int, *, gaps: bool = True) -> list[Line]:
    """Return the lines of blocks one below the other."""
    lines: list[Line] = []
    for number, block in enumerate(blocks):
        if number and gaps:
            lines.append(Line(EMPTY))
        lines += block.lines(width)
    return lines


@dataclass(eq=False)
class Paragraph(Block):
    """Running text, or a heading."""

    text: Content
    heading: int = 0
    """Level of a heading, from 1; 0: none."""

    def make_lines(self, width: int) -> list[Line]:
        text = self.text
        if self.heading:
            text = text.stylize_before(f".text--h{min(self.heading, 4)}")
        return wrap(text, width)

    def take(self, old: Block) -> None:
        if isinstance(old, Paragraph) and self.heading == old.heading and self.text.is_same(old.text):
            self._lines, self._width = old._lines, old._width


@dataclass(eq=False)
class Rule(Block):
    """A line across."""

    def make_lines(self, width: int) -> list[Line]:
        """Not copied: it is no text."""
        return [Line(Content.styled("─" * width, ".text--rule"), start=width)]


@dataclass(eq=False)
class Formula(Block):
    """A displayed formula."""

    source: str

    def make_lines(self, width: int) -> list[Line]:
        """In Unicode where that can say it, indented."""
        text = Content.styled(latex.to_unicode(self.source).strip("\n"), ".text--math")
        indent = Content("  ")
        return [line.behind(indent) for line in wrap(text, max(width - 2, NARROWEST))]


@dataclass(eq=False)
class Quote(Block):
    """What is quoted, behind a bar."""

    blocks: list[Block]

    def make_lines(self, width: int) -> list[Line]:
        """The bar is not copied."""
        bar = Content.styled("▎", ".text--quote-bar") + Content(" ")
        lines = [line.behind(bar) for line in stack(self.blocks, max(width - 2, NARROWEST))]
        for line in lines:
            line.content = line.content.stylize_before(".text--quote", len(bar))
        return lines

    def take(self, old: Block) -> None:
        """What is quoted takes over from what was."""
        if isinstance(old, Quote):
            take_all(self.blocks, old.blocks)


@dataclass(eq=False)
class Item(Block):
    """An item of a list."""

    blocks: list[Block]
    source: str
    """The Markdown it was made of."""
    done: bool | None = None
    """Of a task: whether it is done."""
    _mark: str = field(default="", repr=False)

    def with_mark(self, mark: str) -> Item:
        if mark != self._mark:
            self._mark, self._lines = mark, None
        return self

    def make_lines(self, width: int) -> list[Line]:
        """The mark stands before the first line, the others below its text."""
        size = cell_len(self._mark)
        lines = stack(self.blocks, max(width - size, NARROWEST), gaps=False) or [Line(EMPTY)]
        style = ".text--done" if self.done else ".text--mark"
        first = lines[0].behind(Content.styled(self._mark, style), copied=True)
        indent = Content(" " * size)
        return [first, *(line.behind(indent, copied=line.joint is None) for line in lines[1:])]


@dataclass(eq=False)
class List(Block):
    """A list; bullets by depth, or numbers in a column."""

    items: list[Item]
    first: int | None = None
    """The first number, of an ordered list."""
    depth: int = 0

    BULLETS: ClassVar[str] = "•◦▪"

    def make_lines(self, width: int) -> list[Line]:
        """Items without gaps: models put them in or leave them out as they like."""
        lines: list[Line] = []
        for number, item in enumerate(self.items):
            lines += item.with_mark(self._mark_of(number)).lines(width)
        return lines

    def _mark_of(self, number: int) -> str:
        if (done := self.items[number].done) is not None:
            return " ✔ " if done else " ☐ "
        if self.first is None:
            return f" {self.BULLETS[min(self.depth, len(self.BULLETS) - 1)]} "
        size = len(str(self.first + len(self.items) - 1))
        return f" {self.first + number:>{size}}. "

    def take(self, old: Block) -> None:
        """Finished items stay; the last one may keep something too."""
        if not isinstance(old, List) or (old.first, old.depth) != (self.first, self.depth):
            return
        for number, (mine, before) in enumerate(zip(self.items, old.items, strict=False)):
            if mine.source == before.source and number < len(old.items) - 1:
                self.items[number] = before
            else:
                take_all(mine.blocks, before.blocks)

    def grown(self, more: List) -> List:
        """Return this list with its last item replaced by those of `more`, made of the text from it on."""
        if more.items and self.items:
            take_all(more.items[0].blocks, self.items[-1].blocks)
        return List([*self.items[:-1], *more.items], self.first, self.depth)


def take_all(blocks: Sequence[Block], before: Sequence[Block]) -> None:
    """Let blocks take over what they can from those that stood in their places."""
    for mine, old in zip(blocks, before, strict=False):
        if type(mine) is type(old):
            mine.take(old)

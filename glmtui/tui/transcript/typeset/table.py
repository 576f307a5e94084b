"""Tables, laid out by cells and not by characters: Chinese and English line up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from textual.content import Content

from glmtui.tui.transcript.typeset.blocks import Block
from glmtui.tui.transcript.typeset.lines import EMPTY, Line, wrap

Align = Literal["left", "right", "center"]
NARROWEST = 8
"""No column is made narrower than this, in cells, to fit the view: four hanzi, most words."""
BETWEEN = " │ "
INDENT = 2
"""Cells before the second line of a row's first cell, and those that follow."""


@dataclass(eq=False)
class Table(Block):
    """A table that fits: where it is too wide, its widest columns are wrapped; with no room even for that,
    each row becomes a list of its cells.

    Where a row of several lines begins is told by its first cell, whose other lines are indented; where one
    of these is empty, by rules between all rows.
    """

    header: list[Content]
    rows: list[list[Content]]
    aligns: list[Align]

    def make_lines(self, width: int) -> list[Line]:
        columns = len(self.header)
        room = width - 3 * (columns - 1) - 2
        every = [self.header, *self.rows]
        natural = [max(_width_of(row[at]) for row in every if at < len(row)) for at in range(columns)]
        if room < sum(min(size, NARROWEST) for size in natural):
            return self._as_list(width)
        widths = shrink(natural, room)
        lines = self._row([cell.stylize_before(".text--table-head") for cell in self.header], widths)
        rule = "─" + "─┼─".join("─" * size for size in widths) + "─"
        lines.append(Line(Content.styled(rule, ".text--rule"), start=len(rule)))
        made = [self._row(row, widths) for row in self.rows]
        ruled = any(len(each) > 1 for each in made) and not all(row and row[0] for row in self.rows)
        thin = "╌" + "╌┼╌".join("╌" * size for size in widths) + "╌"
        for number, each in enumerate(made):
            if number and ruled:
                lines.append(Line(Content.styled(thin, ".text--rule"), start=len(thin)))
            lines += each
        return lines

    def _row(self, row: list[Content], widths: list[int]) -> list[Line]:
        cells = [wrap(row[at], size) if at < len(row) else [] for at, size in enumerate(widths)]
        if cells and len(cells[0]) > 1:
            first, *others = wrap(row[0], widths[0] - INDENT)
            cells[0] = [first, *(line.behind(Content(" " * INDENT)) for line in others)]
        between = Content.styled(BETWEEN, ".text--rule")
        lines = []
        for parts in zip_longest(*cells):
            padded = [
                _pad(part.content if part else EMPTY, size, align)
                for part, size, align in zip(parts, widths, self.aligns, strict=True)
            ]
            lines.append(Line(Content(" ") + between.join(padded)))
        return lines

    def _as_list(self, width: int) -> list[Line]:
        lines: list[Line] = []
        for row in self.rows or [[EMPTY] * len(self.header)]:
            if lines:
                lines.append(Line(EMPTY))
            for title, cell in zip(self.header, row, strict=False):
                name = title.stylize_before(".text--table-head")
                lines += wrap(Content.assemble(name, ": ", cell) if cell else name, width)
        return lines


def _width_of(cell: Content) -> int:
    return max((line.cell_length for line in cell.split("\n")), default=0) if cell else 0


def _pad(text: Content, size: int, align: Align) -> Content:
    missing = max(size - text.cell_length, 0)
    left = {"left": 0, "right": missing, "center": missing // 2}[align]
    return text.pad(left, missing - left) if missing else text


def shrink(natural: list[int], room: int) -> list[int]:
    """Return the widths of columns that have `room` cells between them: the widest give way first."""
    if sum(natural) <= room:
        return [max(size, 1) for size in natural]
    widths, left, open_ = [0] * len(natural), room, list(range(len(natural)))
    while open_:
        share = left // len(open_)
        small = [at for at in open_ if natural[at] <= share]
        if not small:
            for number, at in enumerate(open_):
                widths[at] = share + (number < left - share * len(open_))
            break
        for at in small:
            widths[at] = max(natural[at], 1)
            left -= widths[at]
        open_ = [at for at in open_ if at not in small]
    return widths

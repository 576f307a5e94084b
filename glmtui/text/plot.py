"""Curves as text, for a screen and for a plain terminal: the caller gives each curve its colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from glmtui.text.columns import cell, widest

Point: TypeAlias = tuple[float, float]
Cell: TypeAlias = tuple[str, int | None]
"""A character, and the curve it belongs to; None: an axis, a figure or nothing."""

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Of a braille character, by row from above and column: it has four times two."""
_ACROSS, _DOWN = 2, 4
_MARK = "◆"


@dataclass(frozen=True, slots=True)
class Curve:
    """Points from left to right; those that are not finite are left out."""

    points: Sequence[Point]
    kind: Literal["dots", "line", "marks"] = "line"


def plot(curves: Sequence[Curve], width: int, height: int) -> list[list[Cell]]:
    """Draw curves over each other, the later ones on top, with their axes.

    Args:
        curves: all in the same units.
        width: columns of all of it.
        height: lines of all of it, of which the last has the figures below.

    Returns:
        `height` lines of `width` columns; empty where there is nothing to draw, or no room.
    """
    finite = [
        Curve([point for point in curve.points if all(map(math.isfinite, point))], curve.kind)
        for curve in curves
    ]
    points = [point for curve in finite for point in curve.points]
    if not points or height < 3:
        return []
    left, right = min(x for x, _y in points), max(x for x, _y in points)
    low, high = min(y for _x, y in points), max(y for _x, y in points)
    figures = [_figure(high), _figure((low + high) / 2), _figure(low)]
    margin = widest(figures) + 1
    columns, rows = width - margin - 1, height - 1
    if columns < 4:
        return []
    canvas = _Canvas(columns, rows, (left, right), (low, high))
    for number, curve in enumerate(finite):
        canvas.draw(curve, number)
    labels = {0: figures[0], (rows - 1) // 2: figures[1], rows - 1: figures[2]}
    lines = []
    for row in range(rows):
        label = cell(labels.get(row, ""), margin - 1, right=True)
        lines.append([*_plain(label + (" ┤" if row in labels else " │")), *canvas.line(row)])
    first, last = _figure(left), _figure(right)
    axis = first + cell(last, max(columns - len(first), 0), right=True) if left < right else first
    return [*lines, [*_plain(cell(" " * (margin + 1) + axis, width))]]


def _plain(text: str) -> list[Cell]:
    return [(character, None) for character in text]


def _figure(value: float) -> str:
    """Write a number in few columns."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.2e}" if abs(value) >= 1e5 or 0 < abs(value) < 1e-3 else f"{value:.4g}"


class _Canvas:
    """Dots, eight to a character."""

    def __init__(self, columns: int, rows: int, x: Point, y: Point) -> None:
        self._columns, self._rows = columns, rows
        self._x, self._y = x, y
        self._cells: dict[tuple[int, int], tuple[int | str, int]] = {}
        """By row and column: dots or a character, and the curve."""

    def draw(self, curve: Curve, number: int) -> None:
        before: tuple[int, int] | None = None
        for point in curve.points:
            here = self._place(*point)
            if curve.kind == "marks":
                self._cells[here[1] // _DOWN, here[0] // _ACROSS] = (_MARK, number)
            elif curve.kind == "dots" or before is None:
                self._dot(*here, number)
            else:
                self._connect(before, here, number)
            before = here

    def line(self, row: int) -> list[Cell]:
        found: list[Cell] = []
        for column in range(self._columns):
            what, number = self._cells.get((row, column), (" ", None))
            found.append((chr(_BRAILLE + what) if isinstance(what, int) else what, number))
        return found

    def _place(self, x: float, y: float) -> tuple[int, int]:
        across, down = self._columns * _ACROSS - 1, self._rows * _DOWN - 1
        return round(_share(x, *self._x) * across), round((1 - _share(y, *self._y)) * down)

    def _dot(self, x: int, y: int, number: int) -> None:
        place, dot = (y // _DOWN, x // _ACROSS), _DOTS[y % _DOWN][x % _ACROSS]
        what, owner = self._cells.get(place, (0, number))
        if isinstance(what, int):  # a mark stays; a later curve takes the place of an earlier one's dots
            self._cells[place] = ((what if owner == number else 0) | dot, number)

    def _connect(self, start: tuple[int, int], end: tuple[int, int], number: int) -> None:
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(1, steps + 1):
            x, y = (round(a + (b - a) * step / steps) for a, b in zip(start, end, strict=True))
            self._dot(x, y, number)


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5

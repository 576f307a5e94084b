"""A picture as lines of a terminal: two pixels a cell, as upper half blocks.

The colours are those of the decoded picture: what a person sees is what the model sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.color import Color
from textual.content import Content, Span
from textual.style import Style

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

HALF = "▀"
CELL_WIDTH, CELL_HEIGHT = 10, 20
"""Of a cell in pixels, where the terminal does not tell."""


def fit(size: tuple[int, int], columns: int, rows: int, ratio: float = 2.0) -> tuple[int, int]:
    """Return how many columns and rows a picture of `size` pixels takes within `columns` and `rows`.

    Args:
        size: width and height.
        columns: at most; a picture does not get more than it has pixels.
        rows: at most.
        ratio: height of a cell by its width.
    """
    width, height = max(size[0], 1), max(size[1], 1)
    scale = min(columns / width, rows * ratio / height, 1.0)
    return max(round(width * scale), 1), max(round(height * scale / ratio), 1)


def half_blocks(picture: Picture, columns: int, rows: int) -> list[Content]:
    """Return `rows` lines of `columns` cells that show all of `picture` (in the mode ``RGB``)."""
    small = picture.resize((columns, 2 * rows)) if picture.size != (columns, 2 * rows) else picture
    pixels = small.tobytes()
    stride = 3 * columns

    def colour(x: int, y: int) -> Color:
        at = y * stride + 3 * x
        return Color(pixels[at], pixels[at + 1], pixels[at + 2])

    return [
        Content(
            HALF * columns,
            [
                Span(x, x + 1, Style(foreground=colour(x, 2 * row), background=colour(x, 2 * row + 1)))
                for x in range(columns)
            ],
        )
        for row in range(rows)
    ]

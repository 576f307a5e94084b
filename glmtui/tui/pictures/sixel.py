"""Pictures as sixels, one strip of them for each row of cells.

A strip belongs to the blanks of its row, as the meta data of their style, and is drawn over them when these
are written (`glmtui.tui.textual_patches.sink`). So a picture is scrolled and cut as text is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from textual.content import Content
from textual.style import Style

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture

SIXEL = "sixel"
"""Key of the meta data under the blanks of a row: how many cells, and the strip."""
COLOURS = 128
"""Of a picture."""
WIDEST = 1000
"""Pixels; xterm draws no more unless it is told to."""


def lines(picture: Picture, columns: int, rows: int, cell: tuple[int, int]) -> list[Content]:
    """Return `rows` lines of `columns` cells of `cell` pixels (width, height) that show all of `picture`."""
    import numpy as np

    width, height = min(columns, WIDEST // cell[0]) * cell[0], rows * cell[1]
    small = picture.resize((width, height)).quantize(COLOURS)
    colours = (small.getpalette("RGB") or [])[: 3 * COLOURS]
    pixels: NDArray[np.uint8] = np.asarray(small)
    columns = width // cell[0]
    strips = (strip(pixels[top : top + cell[1]], colours) for top in range(0, height, cell[1]))
    return [Content.styled(" " * columns, Style.from_meta({SIXEL: (columns, each)})) for each in strips]


def strip(pixels: NDArray[np.uint8], colours: list[int]) -> str:
    """Return the sixels of `pixels` ``[height, width]``, numbers of `colours` (three of 0 to 255 each)."""
    import numpy as np

    height, width = pixels.shape
    used = [int(colour) for colour in np.unique(pixels)]
    shares = [round(value * 100 / 255) for value in colours]
    palette = "".join("#{};2;{};{};{}".format(each, *shares[3 * each : 3 * each + 3]) for each in used)
    bands = "-".join(_band(pixels[top : top + 6]) for top in range(0, height, 6))
    return f'\x1bP0;1q"1;1;{width};{height}{palette}{bands}\x1b\\'


def _band(pixels: NDArray[np.uint8]) -> str:
    """Return six rows (or fewer, at the end), one colour over the other."""
    import numpy as np

    weights = (1 << np.arange(len(pixels), dtype=np.uint8))[:, None]
    rows = []
    for colour in np.unique(pixels):
        bits = ((pixels == colour) * weights).sum(axis=0, dtype=np.uint8)
        rows.append(f"#{colour}{''.join(_runs(bits))}")
    return "$".join(rows)


def _runs(bits: NDArray[Any]) -> Iterator[str]:
    """Yield columns of six pixels, the same ones next to each other as one run."""
    import numpy as np

    starts = np.flatnonzero(np.diff(bits, prepend=bits[0] + 1))
    ends = [*starts[1:].tolist(), len(bits)]
    for start, end in zip(starts.tolist(), ends, strict=True):
        character, count = chr(63 + int(bits[start])), end - start
        yield f"!{count}{character}" if count > 3 else character * count

"""Draws pictures as the terminal can: in pixels by kitty's protocol or as sixels, else in half blocks.

All three make lines of text like any others, so that pictures scroll, are cut and covered as text is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Literal

from textual.content import Content

from glmtui.tui.pictures import drawing, kitty, sixel

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Way = Literal["kitty", "sixel", "blocks", "text"]
"""How pictures are drawn; ``text``: not at all, there are their names alone."""
KEPT = 64
"""Drawings that are kept."""


class Painter:
    """Makes lines that show pictures, and keeps them. Sixels of a photograph take a while: draw in a thread.

    Args:
        way: says how pictures are drawn now.
        cell: returns width and height of a cell in pixels, zeros where the terminal does not tell.
        send: writes a sequence to the terminal.
    """

    def __init__(
        self, way: Callable[[], Way], cell: Callable[[], tuple[int, int]], send: Callable[[str], None]
    ) -> None:
        self.way = way
        self._cell = cell
        self._send = send
        self._drawn: dict[tuple[object, ...], Sequence[Content]] = {}
        self._sent: dict[tuple[object, ...], int] = {}
        """Pictures that the terminal has, by its numbers for them."""
        self._number = kitty.first_number()
        self._drawing = Lock()

    def known(self, name: str, picture: Picture, columns: int, rows: int) -> Sequence[Content] | None:
        """Return what `lines` would, where that was drawn before."""
        way, cell = self.way(), self._cell()
        return () if way == "text" else self._drawn.get((name, picture.size, columns, rows, way, cell))

    def lines(self, name: str, picture: Picture, columns: int, rows: int) -> Sequence[Content]:
        """Return the lines of a picture that has a room of `columns` times `rows` cells; none as text.

        Args:
            name: the same for the same picture, as the digest of its file.
            picture: in the mode ``RGB``.
            columns: at most.
            rows: at most.
        """
        way, cell = self.way(), self._cell()
        if way == "text":
            return ()
        key = (name, picture.size, columns, rows, way, cell)
        with self._drawing:
            if (known := self._drawn.get(key)) is None:
                known = self._draw(key, picture, columns, rows, way, cell)
            self._drawn = {**{old: lines for old, lines in self._drawn.items() if old != key}, key: known}
            for old in list(self._drawn)[:-KEPT]:
                del self._drawn[old]
                if (number := self._sent.pop(old, None)) is not None:
                    self._send(kitty.forget(number))
        return known

    def _draw(
        self,
        key: tuple[object, ...],
        picture: Picture,
        columns: int,
        rows: int,
        way: Way,
        cell: tuple[int, int],
    ) -> Sequence[Content]:
        width, height = cell if all(cell) else (drawing.CELL_WIDTH, drawing.CELL_HEIGHT)
        if way == "blocks":
            return drawing.half_blocks(picture, *drawing.fit(picture.size, columns, rows, height / width))
        room = drawing.fit(picture.size, columns * width, rows * height, 1.0)
        columns, rows = -(-room[0] // width), -(-room[1] // height)
        if way == "sixel":
            return sixel.lines(picture, columns, rows, (width, height))
        self._number = kitty.next_number(self._number)
        self._sent[key] = self._number
        columns, rows = min(columns, kitty.MOST), min(rows, kitty.MOST)
        self._send(kitty.transmit(self._number, picture.resize(room), columns, rows))
        return kitty.lines(self._number, columns, rows)


def chosen(
    setting: str,
    environment: Mapping[str, str],
    color_system: str | None,
    *,
    has_sixels: bool,
    version: Sequence[int],
) -> Way:
    """Return how pictures are drawn.

    Args:
        setting: ``ui.pictures``; ``auto`` leaves it to the terminal.
        environment: says which terminal it is.
        color_system: of the app, as Rich calls it.
        has_sixels: the terminal says that it draws them.
        version: as the terminal says it; empty before it answers.
    """
    match setting:
        case "kitty" | "sixel" | "blocks" | "text":
            return setting
    if kitty.is_known(environment, version):
        return "kitty"
    if has_sixels:
        return "sixel"
    return "blocks" if color_system in ("truecolor", "256") else "text"

"""Text by the columns it takes on a terminal."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size


def cell(text: str, width: int, *, right: bool = False) -> str:
    """Set one line of text into `width` columns, at the left or the right; a longer one ends in ``…``."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    space = " " * (width - length)
    return space + text if right else text + space

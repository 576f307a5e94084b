"""Text by the columns it takes on a terminal: two for a hanzi, none for a combining mark."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from glmtui.text.clean import flat


def cell(text: str, width: int, *, right: bool = False) -> str:
    """Set one line of text into `width` columns, at the left or the right; a longer one ends in ``…``."""
    from rich.cells import cell_len, set_cell_size  # takes 50 ms, and `glmtui --help` has no use for it

    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    space = " " * (width - length)
    return space + text if right else text + space


def table(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Return a line for each of `rows`, all of one length; the columns numbered in `right` end at the right.

    `rich.table` would lay them out the same, but takes another 0.15 s to import.
    """
    rows = [[flat(text) for text in row] for row in rows]
    widths = [widest(column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell(text, widths[at], right=at in right) for at, text in enumerate(row)).rstrip()
        for row in rows
    ]


def widest(lines: Iterable[str]) -> int:
    """Return how many columns the widest of `lines` takes."""
    from rich.cells import cell_len

    return max(map(cell_len, lines))

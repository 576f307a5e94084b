"""Keeps wide characters whole where one widget lies over others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import cast

from textual._compositor import Compositor
from textual.geometry import Region
from textual.strip import Strip


class WholeGlyphs(Compositor):
    """Cuts the lines of a screen only where another widget begins to show.

    Textual 8.2.8 cuts every line where any widget begins or ends, hidden ones below another too, and a wide
    character that such a cut goes through is lost (Textualize/textual#6357). What shows is the same; private
    names of Textual used here are watched by ``tests/tui/test_compositor.py``.
    """

    @property
    def cuts(self) -> list[list[int]]:
        """For each line the columns where what shows changes, both ends included."""
        if self._cuts is None:
            self._cuts = self._visible_cuts(super().cuts)
        return self._cuts

    def _visible_cuts(self, cuts: list[list[int]]) -> list[list[int]]:
        owners: list[dict[int, int]] = [{} for _line in cuts]
        for number, (region, clip) in enumerate(self.visible_widgets.values()):  # front to back
            shown = Region.intersection(region, clip)
            for y in shown.line_range if shown.width else ():
                owner = owners[y]
                for cut in cuts[y]:
                    if shown.x <= cut < shown.right:
                        owner.setdefault(cut, number)
        return [
            [0, *(cut for before, cut in pairwise(line) if owner.get(before) != owner.get(cut))]
            for line, owner in zip(cuts, owners, strict=True)
        ]

    def _regions_to_spans(self, regions: Iterable[Region]) -> Iterable[tuple[int, int, int]]:  # type: ignore[override]
        """Yield what is to be drawn again as (line, first column, column after the last), in whole pieces."""
        for y, left, right in super()._regions_to_spans(regions):
            line = self.cuts[y]
            yield y, left, line[min(bisect_left(line, right), len(line) - 1)]

    def _render_chops(
        self, crop: Region, is_rendered_line: Callable[[int], bool]
    ) -> Sequence[Mapping[int, Strip]]:
        """Return the pieces of each line by column; each is of the front-most widget that is there."""
        chops: list[dict[int, Strip | None]] = [dict.fromkeys(line[:-1]) for line in self.cuts]
        for region, clip, strips in self._get_renders(crop):
            shown = Region.intersection(region, clip)
            for y, strip in zip(shown.line_range, strips, strict=False):
                inside = [cut for cut in self.cuts[y] if shown.x <= cut <= shown.right]
                if len(inside) < 2 or not is_rendered_line(y):
                    continue
                pieces = strip.divide([cut - shown.x for cut in inside if cut > shown.x])
                if inside[0] > shown.x:  # the first piece lies below another widget
                    pieces = pieces[1:]
                chop = chops[y]
                for start, piece in zip(inside, pieces, strict=False):
                    if chop[start] is None:
                        chop[start] = piece
        return cast("Sequence[Mapping[int, Strip]]", chops)

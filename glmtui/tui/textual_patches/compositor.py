"""Keeps wide characters complete where one widget lies over others; finds text left of a scroll view; draws
the other widgets where one cannot be drawn."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

from textual._compositor import Compositor
from textual.geometry import Offset, Region
from textual.screen import Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from glmtui.tui.textual_patches import textual_is
from glmtui.tui.textual_patches.guard import draw


class CompleteGlyphs(Compositor):
    """Cuts the lines of a screen only where another widget begins to show.

    Textual 8.2 cuts every line where any widget begins or ends, hidden ones below another too, and a wide
    character that such a cut goes through is lost: Textualize/textual#6357 (open). What shows is the same.
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
        """Yield what is drawn again as (line, first column, column after the last), in complete pieces."""
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

    def _get_renders(self, crop: Region | None = None) -> Iterable[tuple[Region, Region, list[Strip]]]:
        """Yield what shows of each widget as (region, clip, lines). One that cannot be drawn says so."""
        for widget, (region, clip) in self.visible_widgets.items():
            shown = Region.intersection(region, clip)
            if shown and (crop is None or crop.overlaps(clip)):
                yield region, clip, draw(widget, shown.translate(-region.offset))

    def get_widget_and_offset_at(self, x: int, y: int) -> tuple[Widget | None, Offset | None]:
        """Return the widget at a cell and the place in its text.

        In Textual 8.2 the left padding of a `ScrollView` stands for a place in the first lines of its text,
        however far it is scrolled; here it stands for the start of the line next to it. Not reported
        upstream.
        """
        widget, offset = super().get_widget_and_offset_at(x, y)
        if isinstance(widget, ScrollView) and x < (left := widget.content_region.x):
            return super().get_widget_and_offset_at(left, y)
        return widget, offset


def install(screen: Screen[Any]) -> None:
    """Let a screen that is being made use it."""
    if textual_is((8, 2)):
        screen._compositor = CompleteGlyphs()

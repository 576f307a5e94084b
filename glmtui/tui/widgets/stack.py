"""Blocks of text one below the other, laid out with as little work as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.geometry import NULL_OFFSET, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement

if TYPE_CHECKING:
    from textual.widget import Widget


class StackLayout(Layout):
    """Children as wide as there is room and as high as they need; margins between them collapse.

    What Textual's ``layout: stream`` does, but without its memory of placements, which (in 8.2.8) misses
    that a container has grown when something beside it changes at the same time. Heights are remembered by
    the children themselves.
    """

    name = "stack"

    def arrange(
        self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True
    ) -> ArrangeResult:
        """Place the children."""
        placements = []
        viewport = parent.app.size
        y, gap = 0, 0
        for child in children:
            styles = child.styles
            margin, gutter = styles.margin, styles.gutter
            y += max(gap, margin.top)
            width = size.width - margin.width
            height = 1
            if (fixed := styles.height) is None or fixed.is_auto:
                height = child.get_content_height(size, viewport, width - gutter.width) + gutter.height
            region = Region(margin.left, y, width, height)
            placements.append(WidgetPlacement(region, NULL_OFFSET, margin, child))
            y += height
            gap = margin.bottom
        return placements

    def get_content_height(self, widget: Widget, container: Size, viewport: Size, width: int) -> int:
        """The height of all children, with the margin below the last."""
        return widget.arrange(Size(width, 0)).total_region.height if widget.children else 0


STACK = StackLayout()
"""It has no state, so one serves all."""

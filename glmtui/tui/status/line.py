"""The line at the bottom: model, device, quantisation, context, speed, and what is running."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from glmtui.engine.usage import Usage
from glmtui.i18n import _
from glmtui.session.events import SessionState
from glmtui.session.stats import model_title, passages
from glmtui.text.clean import one_line
from glmtui.text.units import duration, size

SPINNER = "▖▘▝▗"
"""One cell wide in every terminal, and quiet for screen readers."""
BAR = 16
"""Cells of the bar of a load."""
QUANTS = {"none": "", "8": "INT8", "4": "INT4"}


def bar(fraction: float, width: int, filled: str, empty: str) -> Content:
    """Return a bar of `width` cells, in the styles given."""
    full = min(round(max(fraction, 0.0) * width), width)
    return Content.assemble(("━" * full, filled), ("━" * (width - full), empty))


def wandering_bar(tick: int, width: int, filled: str, empty: str) -> Content:
    """Return a bar of which nobody knows how full it is: a part of it goes to and fro."""
    part = width // 4
    way = width - part
    at = way - abs(way - tick % (2 * way))
    return Content.assemble(("━" * at, empty), ("━" * part, filled), ("━" * (way - at), empty))


class StatusLine(Widget):
    """Draws a `SessionState`; leaves out what matters least when there is little room."""

    tick: reactive[int] = reactive(0)

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(id="status")
        self._status = SessionState()
        self._usage: Usage | None = None
        self._clock = clock

    def show(self, status: SessionState) -> None:
        self._status = status
        self.refresh()

    def show_usage(self, usage: Usage) -> None:
        if usage != self._usage:
            self._usage = usage
            self.refresh()

    def animate_tick(self) -> None:
        if self._status.busy or self._status.activity in ("loading", "starting"):
            self.tick += 1

    def render(self) -> Content:
        left, parts = self._left(), self._right()
        width = self.content_size.width
        gap = Content("   ")
        while parts:
            right = gap.join([content for _priority, content in parts])
            if left.cell_length + 2 + right.cell_length <= width:
                space = width - left.cell_length - right.cell_length
                return Content.assemble(left, " " * space, right)
            parts.remove(max(parts, key=lambda part: part[0]))
        return left.truncate(width, ellipsis=True)

    def _left(self) -> Content:
        status = self._status
        spinner = SPINNER[self.tick % len(SPINNER)]
        if status.activity == "starting":
            return Content.assemble((spinner, "$text-primary"), " ", _("Starting"))
        if status.activity == "loading":
            return self._loading(spinner)
        if status.info is None:
            return Content.assemble(("● ", "$text-warning"), _("No model"))
        busy = status.busy
        mark = (spinner, "$text-primary") if busy else ("●", "$text-success")
        pieces = [Content.assemble(mark, " ", (model_title(status.info), "bold"))]
        elsewhere = "$text-warning" if status.info.server else ""
        pieces.append(Content.styled(one_line(status.info.place), elsewhere))
        if quant := QUANTS[status.info.quant]:
            pieces.append(Content(quant))
        if status.activity == "searching":
            pieces.append(Content.styled(_("looking for sources"), "$text-primary"))
        elif status.activity == "reading":
            what = _("reading")
            percent = f" {status.fraction:.0%}" if status.fraction else ""
            pieces.append(Content.styled(what + percent, "$text-primary"))
        elif status.activity == "answering":
            pieces.append(Content.styled(_("answering"), "$text-primary"))
        return Content.styled(" · ", "$text-muted").join(pieces)

    def _loading(self, spinner: str) -> Content:
        status = self._status
        verb = {"read": _("Loading"), "quantize": _("Quantising")}.get(status.stage, _("Preparing"))
        parts: list[Content | tuple[str, str] | str] = [
            (spinner, "$text-primary"), " ", verb, " ", (status.loading, "bold"),
        ]  # fmt: skip
        if not status.total:
            parts += ["  ", wandering_bar(self.tick, BAR, "$text-primary", "$border")]
        else:
            fraction = status.done / status.total
            parts += ["  ", bar(fraction, BAR, "$text-primary", "$border"), f" {fraction:4.0%}"]
            if status.total > 50_000_000:
                parts.append((f"  {size(status.done)} / {size(status.total)}", "$text-muted"))
                spent, came = self._clock() - status.since, status.done - status.begun
                if spent > 2 and came > 0 and fraction < 1:
                    left = duration(spent * (status.total - status.done) / came)
                    parts.append((f"  {_('{time} left').format(time=left)}", "$text-muted"))
        return Content.assemble(*parts)

    def _right(self) -> list[tuple[int, Content]]:
        """Figures with how readily they are left out."""
        status = self._status
        parts: list[tuple[int, Content]] = []
        if status.download is not None:
            name, fraction = status.download
            parts.append((0, Content.assemble((f"↓ {name}", "$text-primary"), f" {fraction:.0%}")))
        if status.importing is not None:
            name, fraction = status.importing
            what = _("Importing {name}").format(name=one_line(name))
            parts.append((0, Content.assemble((what, "$text-primary"), f" {fraction:.0%}")))
        if status.tuning is not None:
            name, fraction = status.tuning
            what = _("teaching {name}").format(name=one_line(name))
            parts.append((0, Content.assemble((what, "$text-primary"), f" {fraction:.0%}")))
        if status.indexing is not None:
            name, done, total = status.indexing
            what = _("reading {name}").format(name=one_line(name))
            percent = f" {done / total:.0%}" if total else ""
            parts.append((0, Content.assemble((what, "$text-primary"), percent)))
        if status.sources is not None:
            given, found = status.sources
            parts.append((2, Content.styled(passages(given, found), "$text-muted")))
        if status.documents:
            parts.append((3, _figure(_("documents"), one_line(status.documents))))
        if self._usage:
            parts.append((5, _figure(_("memory"), size(self._usage.main))))
            if self._usage.device is not None and status.info:
                parts.append((4, _figure(status.info.device.upper(), size(self._usage.device))))
        if status.tokens_per_second:
            rate = _("{rate:.1f} tokens/s").format(rate=status.tokens_per_second)
            parts.append((2, Content.styled(rate, "$text-muted")))
        if status.limit and status.info:
            share = status.used / status.limit
            color = "$text-error" if share > 0.9 else "$text-warning" if share > 0.75 else "$text-primary"
            parts.append((3, bar(share, 10, color, "$border")))
            parts.append((1, _figure(_("context"), f"{min(status.used, status.limit):,} / {status.limit:,}")))
        return parts


def _figure(name: str, figure: str) -> Content:
    return Content.assemble((f"{name} ", "$text-muted"), figure)

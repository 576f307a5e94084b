"""How far a download is: a bar for all of it and one for each file on its way."""

from __future__ import annotations

from rich.cells import cell_len
from textual.content import Content

from glmtui.i18n import _
from glmtui.session.model_jobs import RunningDownload
from glmtui.text.clean import one_line
from glmtui.text.columns import cell
from glmtui.text.units import size
from glmtui.tui.status.line import bar

BARS = 4
"""Files that have a bar of their own at a time; most are done in no time."""
WIDEST = 30
"""Cells of a bar."""


def progress(download: RunningDownload, width: int) -> Content:
    """Draw a download in lines of `width` cells: the total first, with its speed and the time left."""
    if not download.files:
        return Content.styled(_("Asking the hub about {name} …").format(name=download.source), "$text")
    under_way = [file for file in download.files if 0 < file.done < file.size][:BARS]
    rest = "" if download.meter.rate is None else f"{size(download.meter.rate)}/s"
    if download.time_left:
        rest += "  " + _("{time} left").format(time=download.time_left)
    total = _row(download.source, download.done, download.total, rest, width, "bold $text-primary")
    return Content("\n").join(
        [total, *(_row(file.name, file.done, file.size, "", width, "$text") for file in under_way)]
    )


def _row(name: str, done: int, total: int, rest: str, width: int, style: str) -> Content:
    """A name, a bar, and how much has come; what has no room is left out."""
    fraction = done / max(total, 1)
    figures = f" {fraction:4.0%}  {size(done)} / {size(total)}"
    named = min(max(width // 3, 16), 36)
    taken = named + 1 + (cell_len(rest) + 2 if rest else 0)
    if rest and taken + 8 + len(figures) > width:
        figures = f" {fraction:4.0%}"
    space = width - taken - len(figures)
    parts: list[Content | tuple[str, str]] = [(cell(one_line(name), named), style), (" ", "")]
    if space >= 4:
        parts.append(bar(fraction, min(space, WIDEST), "$text-primary", "$border"))
    parts.append((figures, "$text"))
    if rest:
        parts.append((f"  {rest}", "$text-muted"))
    return Content.assemble(*parts)

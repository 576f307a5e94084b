"""How conversations and the finds of a search are written in the history pane."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from glmtui.i18n import _
from glmtui.text.clean import one_line

if TYPE_CHECKING:
    from glmtui.chat.library import Hit, Summary


def day_name(day: date, today: date) -> str:
    """Name a day as people do: Today, Yesterday, This week, or the month."""
    if day >= today:
        return _("Today")
    if day == today - timedelta(days=1):
        return _("Yesterday")
    if day > today - timedelta(days=7):
        return _("Last 7 days")
    if day > today - timedelta(days=30):
        return _("Last 30 days")
    return f"{day.year}-{day.month:02}"


def conversation_row(summary: Summary, *, is_open: bool) -> Content:
    """Write one conversation: its title, with a bar before the one that is open."""
    title = one_line(summary.title) or _("New conversation")
    if is_open:
        return Content.assemble(("▌", "$text-primary"), (title, "bold $text-primary"))
    return Content.assemble(" ", title)


def hit_row(hit: Hit, query: str, width: int, *, first: bool) -> Content:
    """Write one message that a search found: its line with the words marked, the first below the title.

    The line is cut at its beginning where the first word would not be seen in `width` cells.
    """
    line = one_line(hit.line)
    words = [quoted or plain for quoted, plain in re.findall(r'"([^"]+)"|([^\s"]+)', query)]
    pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)", re.I)
    if (found := pattern.search(line)) and cell_len(line[: found.end()]) > width - 4:
        start = found.start()
        while start > 0 and cell_len(line[start - 1 : found.start()]) < width // 3:
            start -= 1
        line = "…" + line[start:].lstrip()
    marked = [Content.styled("  ", "$text-muted")]
    at = 0
    for found in pattern.finditer(line):
        marked.append(Content.styled(line[at : found.start()], "$text-muted"))
        marked.append(Content.styled(found[0], "bold $text-accent"))
        at = found.end()
    marked.append(Content.styled(line[at:], "$text-muted"))
    row = Content("").join(marked)
    if not first:
        return row
    title = one_line(hit.summary.title) or _("New conversation")
    return Content.assemble(" ", (title, "bold"), "\n", row)

"""OpenDocument files: texts, tables and slides have their content in the same elements (ISO 26300)."""

from __future__ import annotations

from collections.abc import Iterator

from glmtui.retrieval.documents import Block, Reading
from glmtui.retrieval.readers.packages import opened
from glmtui.retrieval.readers.tables import table
from glmtui.text.clean import clean, one_line

_MOST_REPEATED = 100


def read_odf(reading: Reading) -> Iterator[Block]:
    """Read headings, paragraphs and tables; a slide is a page, a sheet a heading."""
    with opened(reading.file) as package:
        text: list[str] = []
        depth = tables = level = notes = 0
        rows: list[tuple[int, list[str]]] = []
        cell: list[str] = []
        repeated = 1
        for event in package.xml("content.xml"):
            name, starts = event.name, event.kind == "start"
            if event.kind == "text":
                if depth and not notes:
                    text.append(event.name)
            elif name in ("annotation", "tracked-changes"):
                notes += 1 if starts else -1
            elif name == "page":
                reading.pages += starts
            elif name in ("h", "p"):
                if starts:
                    depth += 1
                    level = _number(event.attributes.get("outline-level"), 1) if name == "h" else 0
                    continue
                depth -= 1
                said = clean("".join(text)).strip()
                text.clear()
                if tables:
                    cell.append(said)
                elif said:
                    yield Block("heading" if name == "h" else "text", said, level, reading.pages)
            elif starts and depth and name in ("tab", "line-break"):
                text.append("\t" if name == "tab" else "\n")
            elif starts and depth and name == "s":
                text.append(" ")
            elif name == "table":
                if starts and not tables and (title := event.attributes.get("name")):
                    yield Block("heading", one_line(title), 6, reading.pages)
                tables += 1 if starts else -1
                if not tables:
                    yield from table(rows, reading.notes, reading.pages)
                    rows = []
            elif name == "table-row" and starts:
                rows.append((0, []))
            elif name == "table-cell" and rows and tables == 1:
                if starts:
                    repeated = _number(event.attributes.get("number-columns-repeated"), 1)
                else:
                    said = " ".join(cell)
                    rows[-1][1].extend([said] * (min(repeated, _MOST_REPEATED) if said else 1))
                    cell.clear()


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() else default

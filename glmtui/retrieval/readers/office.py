"""Word, PowerPoint and Excel files, in the formats of 2007 and later (ECMA-376)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from glmtui.protocol.phrases import Phrase
from glmtui.retrieval.documents import Block, Reading
from glmtui.retrieval.readers.packages import Event, Package, opened
from glmtui.retrieval.readers.tables import MOST_CELLS, table
from glmtui.text.clean import clean, one_line

_LEVEL = re.compile(r"(?:heading|标题|überschrift|titre)\s*(\d)", re.IGNORECASE)
LONGEST_FORMAT = 255
"""Characters of a format for numbers, as Excel allows."""
_DATES = frozenset((14, 15, 16, 17, 18, 19, 20, 21, 22, 45, 46, 47))
"""Numbers of the formats for dates and times that every workbook has."""


# --- Word ---


def read_docx(reading: Reading) -> Iterator[Block]:
    """Read paragraphs, headings and tables; then the notes."""
    with opened(reading.file) as package:
        reading.title = _core_title(package)
        levels = _heading_levels(package)
        for part in ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml"):
            yield from _word(package.xml(part), levels, reading.notes)


def _core_title(package: Package) -> str:
    inside, title = False, ""
    for event in package.xml("docProps/core.xml"):
        if event.name == "title" and event.kind != "text":
            inside = event.kind == "start"
        elif inside:
            title += event.name
    return one_line(title)[:300]


def _heading_levels(package: Package) -> dict[str, int]:
    """Return the levels of the styles that are headings, by the ids of the styles."""
    levels, style = {}, ""
    for event in package.xml("word/styles.xml"):
        if event.kind != "start":
            continue
        if event.name == "style":
            style = event.attributes.get("styleId", "")
        elif event.name == "name" and (found := _LEVEL.fullmatch(event.attributes.get("val", ""))):
            levels[style] = int(found[1])
        elif event.name == "name" and event.attributes.get("val", "").lower() == "title":
            levels[style] = 1
        elif event.name == "outlineLvl" and event.attributes.get("val", "9") in "012345678":
            levels.setdefault(style, int(event.attributes["val"]) + 1)
    return levels


def _word(events: Iterator[Event], levels: dict[str, int], notes: list[Phrase]) -> Iterator[Block]:
    text: list[str] = []
    level = tables = fallback = 0
    taking = False
    rows: list[tuple[int, list[str]]] = []
    cell: list[str] = []
    for event in events:
        name, starts = event.name, event.kind == "start"
        if event.kind == "text":
            if taking and not fallback:
                text.append(event.name)
        elif name == "Fallback":  # the same once more, for old programs
            fallback += 1 if starts else -1
        elif name == "t":
            taking = starts
        elif starts and name in ("tab", "br", "cr"):
            text.append("\t" if name == "tab" else "\n")
        elif starts and name == "pStyle":
            level = levels.get(event.attributes.get("val", ""), 0)
        elif starts and name == "outlineLvl" and event.attributes.get("val", "9") in "012345678":
            level = int(event.attributes["val"]) + 1
        elif name == "p" and not starts:
            said, level_of_it = clean("".join(text)).strip(), level
            text.clear()
            level = 0
            if tables:
                cell.append(said)
            elif said:
                yield Block("heading" if level_of_it else "text", said, level_of_it)
        elif name == "tbl":
            tables += 1 if starts else -1
            if not tables:
                yield from table(rows, notes)
                rows = []
        elif name == "tr" and starts and tables == 1:
            rows.append((0, []))
        elif name == "tc" and not starts and tables == 1 and rows:
            rows[-1][1].append(" ".join(cell))
            cell.clear()


# --- PowerPoint ---


def read_pptx(reading: Reading) -> Iterator[Block]:
    """Read the slides in their order, each with its notes; a slide is a page."""
    with opened(reading.file) as package:
        reading.title = _core_title(package)
        relations = package.relations("ppt/presentation.xml")
        slides = [
            relations.get(event.attributes.get("r:id", ""), "")
            for event in package.xml("ppt/presentation.xml")
            if event.kind == "start" and event.name == "sldId"
        ]
        slides = [slide for slide in dict.fromkeys(slides) if slide in package]  # each once
        if not slides:
            slides = sorted(
                (name for name in package.names if re.fullmatch(r"ppt/slides/slide\d+\.xml", name)),
                key=lambda name: int(re.sub(r"\D", "", name)),
            )
        reading.pages = len(slides)
        for number, slide in enumerate(slides, 1):
            yield from _slide(package.xml(slide), reading.notes, number)
            for name in package.relations(slide).values():
                if name.startswith("ppt/notesSlides/"):
                    said = _slide(package.xml(name), reading.notes, number)
                    yield from (block for block in said if not block.text.isdecimal())


def _slide(events: Iterator[Event], notes: list[Phrase], page: int) -> Iterator[Block]:
    text: list[str] = []
    paragraphs: list[str] = []
    taking = is_title = in_table = False
    rows: list[tuple[int, list[str]]] = []
    for event in events:
        name, starts = event.name, event.kind == "start"
        if event.kind == "text":
            if taking:
                text.append(event.name)
        elif name == "t":
            taking = starts
        elif name == "br" and starts:
            text.append("\n")
        elif name == "ph" and starts:
            is_title = event.attributes.get("type") in ("title", "ctrTitle")
        elif name == "p" and not starts:
            if said := clean("".join(text)).strip():
                paragraphs.append(said)
            text.clear()
        elif name == "tbl":
            in_table = starts
            if not starts:
                yield from table(rows, notes, page)
                rows = []
        elif name == "tr" and starts:
            rows.append((0, []))
        elif name == "tc" and not starts and rows:
            rows[-1][1].append(" ".join(paragraphs))
            paragraphs.clear()
        elif name == "sp" and not starts and not in_table:
            if paragraphs and is_title:
                yield Block("heading", one_line(" ".join(paragraphs)), 1, page)
            elif paragraphs:
                yield Block("text", "\n".join(paragraphs), 0, page)
            paragraphs.clear()
            is_title = False


# --- Excel ---


def read_xlsx(reading: Reading) -> Iterator[Block]:
    """Read the sheets: each is a table below its name, and its rows are the lines."""
    with opened(reading.file) as package:
        reading.title = _core_title(package)
        strings = list(_shared_strings(package))
        dates = _date_styles(package)
        relations = package.relations("xl/workbook.xml")
        sheets = [
            (event.attributes.get("name", ""), relations.get(event.attributes.get("r:id", ""), ""))
            for event in package.xml("xl/workbook.xml")
            if event.kind == "start" and event.name == "sheet"
        ]
        for title, name in {name: (title, name) for title, name in sheets}.values():  # each once
            yield Block("heading", one_line(title), 1)
            yield from table(_rows(package.xml(name), strings, dates), reading.notes)


def _shared_strings(package: Package) -> Iterator[str]:
    text: list[str] = []
    taking = spoken = False
    for event in package.xml("xl/sharedStrings.xml"):
        if event.kind == "text":
            if taking and not spoken:
                text.append(event.name)
        elif event.name == "t":
            taking = event.kind == "start"
        elif event.name == "rPh":  # how it is read aloud
            spoken = event.kind == "start"
        elif event.name == "si" and event.kind == "end":
            yield "".join(text)
            text.clear()


def _date_styles(package: Package) -> frozenset[int]:
    """Return the numbers of the cell styles that show a date."""
    own, styles, inside = set(), [], False
    for event in package.xml("xl/styles.xml"):
        if event.name == "cellXfs":
            inside = event.kind == "start"
        elif event.kind == "start" and event.name == "numFmt":
            code = re.sub(
                r'"[^"]*"|\\.|\[[^\]]*\]', "", event.attributes.get("formatCode", "")[:LONGEST_FORMAT]
            )
            if re.search(r"[yd]|年|月|日", code, re.IGNORECASE):
                own.add(event.attributes.get("numFmtId", ""))
        elif event.kind == "start" and event.name == "xf" and inside:
            styles.append(event.attributes.get("numFmtId", ""))
    return frozenset(
        n for n, id_ in enumerate(styles) if id_ in own or (id_.isdecimal() and int(id_) in _DATES)
    )


def _rows(
    events: Iterator[Event], strings: list[str], dates: frozenset[int]
) -> Iterator[tuple[int, list[str]]]:
    row: list[str] = []
    number = 0
    value: list[str] = []
    kind = style = column = ""
    taking = False
    for event in events:
        name, starts = event.name, event.kind == "start"
        if event.kind == "text":
            if taking:
                value.append(event.name)
        elif name in ("v", "t"):
            taking = starts
        elif name == "row":
            if starts:
                given = event.attributes.get("r", "")
                number = int(given) if given.isdecimal() else number + 1
                row = []
            else:
                yield number, row
        elif name == "c" and starts:
            kind, style = event.attributes.get("t", ""), event.attributes.get("s", "")
            column = re.sub(r"\d", "", event.attributes.get("r", ""))
            value.clear()
        elif name == "c":
            missing = min(_column(column), MOST_CELLS) - len(row)
            row += [""] * max(missing, 0)
            row.append(_value("".join(value), kind, style, strings, dates))


def _column(letters: str) -> int:
    """Return the number of a column from 0: ``A``, ``B`` … ``AA``."""
    number = 0
    for letter in letters[:3].upper():
        number = number * 26 + ord(letter) - 64
    return number - 1


def _value(text: str, kind: str, style: str, strings: list[str], dates: frozenset[int]) -> str:
    if kind == "s":
        return strings[int(text)] if text.isdecimal() and int(text) < len(strings) else ""
    if kind == "b":
        return {"1": "TRUE", "0": "FALSE"}.get(text, text)
    if kind in ("", "n") and style.isdecimal() and int(style) in dates:
        try:
            moment = datetime(1899, 12, 30) + timedelta(days=float(text))
        except (ValueError, OverflowError):
            return text
        return f"{moment:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
    if kind in ("", "n") and re.fullmatch(r"-?\d+\.\d{10,}(E-?\d+)?", text):
        return f"{float(text):.10g}"
    return text

"""Comma-separated values and JSON."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import Phrase, _
from glmtui.retrieval.documents import CELLS, Block, Reading
from glmtui.retrieval.readers.text import lines_of, plain, text_of
from glmtui.text import json_values
from glmtui.text.clean import one_line

MOST_CELLS = 500
"""Of a row."""
ROWS = 50
"""Of a table in one block."""
_SEPARATORS = ",\t;|"
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
"""With its end."""


def table(rows: Iterable[tuple[int, list[str]]], notes: list[Phrase], page: int = 0) -> Iterator[Block]:
    """Yield a table, some rows at a time, each time with its header.

    Args:
        rows: their numbers (0 where a person could not find them by one) and cells. The first is the header.
        notes: gets one where rows have more cells than are read.
        page: where it stands.
    """
    header: str | None = None
    lines: list[str] = []
    first = last = 0
    shortened = _("Of each row the first {most} cells were read.").format(most=MOST_CELLS)
    for number, cells in rows:
        if any(cells[MOST_CELLS:]) and shortened not in notes:
            notes.append(shortened)
        line = CELLS.join(one_line(cell) for cell in cells[:MOST_CELLS])
        if not line.strip(CELLS):
            continue
        if header is None:
            header, first, last = line, number, number
            continue
        if not lines:
            first = number
        lines.append(line)
        last = number
        if len(lines) >= ROWS:
            yield Block("table", "\n".join(lines), 0, page, first, last, header)
            lines.clear()
    if lines:
        yield Block("table", "\n".join(lines), 0, page, first, last, header or "")
    elif header and first == last:
        yield Block("text", header, 0, page, first, last)


def read_csv(reading: Reading) -> Iterator[Block]:
    """Read a table; what separates its cells is what its first lines have most of."""
    text = text_of(reading)
    head = text[:4096].splitlines()[:5]
    separator = max(
        _SEPARATORS, key=lambda character: min((line.count(character) for line in head), default=0)
    )
    rows = csv.reader((line[0] for line in _LINE.finditer(text)), delimiter=separator)
    limit = csv.field_size_limit()
    try:
        yield from table(((rows.line_num, row) for row in rows), reading.notes)
    except csv.Error as error:
        raise BadFileError(
            _("Line {number} cannot be read: {error} (a cell has at most {limit} characters).").format(
                number=rows.line_num, error=error, limit=f"{limit:,}"
            )
        ) from error


def read_json(reading: Reading) -> Iterator[Block]:
    """Read JSON: each object of a list is a piece of its own.

    What would take too much memory as values is read as the text that it is.
    """
    text = text_of(reading)
    try:
        is_list = text.lstrip()[:1] == "["
        for record in json_values.items(text) if is_list else [json_values.loads_within(text)]:
            if said := record_text(record):
                yield Block("text", said)
    except json_values.TooManyValuesError:
        reading.notes.append(_("It is too large to be read as JSON: it was read as plain text."))
        yield from plain(lines_of(text))
    except ValueError as error:
        raise BadFileError(_("It is no JSON: {error}").format(error=error)) from error


def read_json_lines(reading: Reading) -> Iterator[Block]:
    """Read JSON Lines: each line is a piece of its own; those that are wrong are named."""
    wrong = []
    for number, line in enumerate(_LINE.finditer(text_of(reading)), 1):
        if not line[0].strip():
            continue
        try:
            text = record_text(json_values.loads_within(line[0]))
        except ValueError:
            wrong.append(number)
            continue
        if text:
            yield Block("text", text, 0, 0, number, number)
    if wrong:
        listed = ", ".join(map(str, wrong[:10])) + (" …" if len(wrong) > 10 else "")
        reading.notes.append(_("Lines that are no JSON: {lines}").format(lines=listed))


def record_text(value: object) -> str:
    """Write a value as lines ``key: value``; keys inside others are joined by a dot."""
    return "\n".join(_lines("", value))


def _lines(path: str, value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(f"{path}.{key}" if path else str(key), inner)
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for item in value:
            yield from _lines(path, item)
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        if text is not None and (said := one_line(str(text))):
            yield f"{path}: {said}" if path else said

"""Jupyter notebooks: a cell is a page."""

from __future__ import annotations

from collections.abc import Iterator

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import _
from glmtui.retrieval.documents import Block, Reading
from glmtui.retrieval.readers import text
from glmtui.text import json_values

_MOST_OUTPUT = 2000
"""Characters of what a cell printed."""


def read_notebook(reading: Reading) -> Iterator[Block]:
    """Read prose, code and what the code printed."""
    try:
        notebook = json_values.loads_within(text.text_of(reading))
    except ValueError as error:
        raise BadFileError(_("It is no notebook: {error}").format(error=error)) from error
    if not isinstance(notebook, dict) or "cells" not in notebook:
        raise BadFileError(_("It is no notebook: {error}").format(error=_("it has no cells")))
    cells = notebook["cells"]
    cells = [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []
    reading.pages = len(cells)
    for number, cell in enumerate(cells, 1):
        source = _joined(cell.get("source"))
        lines = [(0, line) for _number, line in text.lines_of(source)]
        if cell.get("cell_type") == "markdown":
            yield from text.markdown(lines, number)
        elif cell.get("cell_type") == "code":
            yield Block("code", "\n".join(line for _number, line in lines).strip("\n"), 0, number)
            for output in _listed(cell.get("outputs")):
                said = _joined(output.get("text") or _table(output.get("data")).get("text/plain"))[
                    :_MOST_OUTPUT
                ]
                printed = "\n".join(line for _number, line in text.lines_of(said))
                if printed.strip():
                    yield Block("text", printed, 0, number)
        elif source.strip():
            yield from text.plain(lines, number)


def _joined(value: object) -> str:
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _listed(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}

"""PDF files by PDFium, which ``glmtui[docs]`` brings. It is not made for several threads at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from threading import Lock

from glmtui.errors import BadFileError, UnavailableError
from glmtui.protocol.phrases import _
from glmtui.retrieval.documents import Block, Reading
from glmtui.retrieval.readers.text import lines_of
from glmtui.text.clean import one_line

MOST_PAGES = 5000
INSTALL = "pip install 'glmtui[docs]'"
_PDFIUM = Lock()
_END = re.compile(r"[。！？；：.!?:;][\"'”’」』）)]*\s*$")
_NUMBERED = re.compile(
    r"\s*(\d+(\.\d+)*\.?|[一二三四五六七八九十]+、|第[一二三四五六七八九十百\d]+[章节条])\s*\S"
)
_BULLET = re.compile(r"\s*[•·●○▪■◆\-–*]\s")
_HAN = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]")
_BROKEN = re.compile("[\ufffe\x02](?=[a-z\u00df-\u00ff])")
"""How PDFium writes a hyphen at the end of a line, where it puts the next line behind it at once."""


def read_pdf(reading: Reading) -> Iterator[Block]:
    """Read the pages; those without text, as scanners make them, are named."""
    try:
        import pypdfium2
    except ImportError as error:
        raise UnavailableError(_("Reading PDF files needs: {command}").format(command=INSTALL)) from error
    with _PDFIUM:
        try:
            document = pypdfium2.PdfDocument(reading.file)
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                raise BadFileError(_("It is encrypted.")) from error
            raise BadFileError(_("It is damaged: {error}").format(error=error)) from error
        reading.pages = len(document)
        reading.title = one_line(document.get_metadata_value("Title"))[:300]
    empty: list[int] = []
    try:
        for number in range(1, min(reading.pages, MOST_PAGES) + 1):
            with _PDFIUM:
                text = _page_text(document, number - 1, pypdfium2.PdfiumError)
            if text.strip():
                yield from _paragraphs(text, number)
            else:
                empty.append(number)
    finally:
        with _PDFIUM:
            document.close()
    if empty:
        reading.notes.append(_("Pages without text (scanned?): {pages}").format(pages=ranges(empty)))
    if reading.pages > MOST_PAGES:
        reading.notes.append(
            _("Only the first {most} of {pages} pages were read.").format(
                most=f"{MOST_PAGES:,}", pages=f"{reading.pages:,}"
            )
        )


def _page_text(document: object, index: int, fault: type[Exception]) -> str:
    try:
        page = document[index]  # type: ignore[index]
        try:
            text_page = page.get_textpage()
            try:
                return str(text_page.get_text_range())
            finally:
                text_page.close()
        finally:
            page.close()
    except fault:
        return ""


def _paragraphs(text: str, page: int) -> Iterator[Block]:
    """Put the lines of a page together again: one that ends no sentence goes on in the next."""
    joined = ""
    text = _BROKEN.sub("", text).replace("\ufffe", "-").replace("\x02", "-")
    lines = [line.strip() for _number, line in lines_of(text)]
    longest = max(map(len, lines), default=0)
    for line in lines:
        starts_anew = not line or _NUMBERED.match(line) or _BULLET.match(line)
        if joined and starts_anew:
            yield Block("text", joined, 0, page)
            joined = ""
        joined = _join(joined, line)
        if joined and (_END.search(line) or len(line) < longest * 0.6):
            yield Block("text", joined, 0, page)
            joined = ""
    if joined:
        yield Block("text", joined, 0, page)


def _join(before: str, line: str) -> str:
    if not before or not line:
        return before + line
    if before.endswith("-") and line[:1].islower():
        return before[:-1] + line
    return before + line if _HAN.match(before[-1]) or _HAN.match(line[0]) else f"{before} {line}"


def ranges(numbers: list[int]) -> str:
    """Write ascending numbers with runs put together: ``1, 3-5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs[:20]) + (" …" if len(runs) > 20 else "")

"""Web pages: their main text, without what is around it on every page of a site."""

from __future__ import annotations

import codecs
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser

from glmtui.protocol.phrases import Phrase
from glmtui.retrieval.documents import Block, Reading
from glmtui.retrieval.readers.tables import table
from glmtui.retrieval.readers.text import bytes_of, lines_of, markdown, unescaped
from glmtui.text.clean import clean, one_line
from glmtui.text.encodings import decode

_SKIPPED_TAGS = (
    "script style noscript template svg math head nav footer aside form button select iframe object"
)
_BLOCK_TAGS = (
    "p div section article main header blockquote li dt dd ul ol dl figure figcaption address details "
    "summary body html table thead tbody caption center hr"
)
_VOID_TAGS = "area base br col embed hr img input link meta param source track wbr"
_SKIPPED = frozenset(_SKIPPED_TAGS.split())
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_VOID = frozenset(_VOID_TAGS.split())
_CHARSET = re.compile(
    rb"""<meta[^>]+charset\s*=\s*["']?\s*([\w-]+)|<\?xml[^>]+encoding\s*=\s*["']([\w-]+)""", re.I
)
_WIDER = {"gbk": "gb18030", "gb2312": "gb18030"}
_NO_CHARSETS = frozenset(
    ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7", "mbcs", "oem")
)
"""What Python decodes, too, some of it in a time that grows with the square of the length."""
_PIECE = 1 << 20
"""Characters that are parsed at once."""
_LINKS = 0.7
"""A block of which more than this share is in links is a menu."""


def decode_page(data: bytes, charset: str = "") -> str:
    """Return the text of a page in the encoding that its server or itself names, else the one it fits."""
    if data.startswith(BOM_UTF8):
        return data.decode("utf-8-sig", "replace")
    named = _CHARSET.search(data[:4096])
    own = (named[1] or named[2]).decode("ascii", "replace") if named else ""
    for name in filter(None, (charset, own)):
        if (text := _decoded(data, name)) is not None:
            return text
    return decode(data) or data.decode("utf-8", "replace")


def _decoded(data: bytes, charset: str) -> str | None:
    """Return a text in the encoding that is named so; None: there is none, or it is in another."""
    try:
        name = codecs.lookup(charset).name.replace("_", "-")
        return None if name in _NO_CHARSETS else data.decode(_WIDER.get(name, name))
    except (LookupError, ValueError):
        return None


def read_html(reading: Reading) -> Iterator[Block]:
    """Read a page."""
    text = decode_page(bytes_of(reading))
    page = Page()
    for at in range(0, len(text), _PIECE):
        page.feed(text[at : at + _PIECE])
        reading.title = page.title
        yield from page.blocks
        page.blocks.clear()
    page.close()
    page.finish()
    reading.title = page.title
    reading.notes += page.notes
    yield from page.blocks


def prepare() -> None:
    """Load what `read_page` needs, which takes a second."""
    with suppress(ImportError):
        import trafilatura  # noqa: F401 (``glmtui[web]``)


def read_page(reading: Reading) -> Iterator[Block]:
    """Read a page of the web: its main text by trafilatura where that is there, else as `read_html` does."""
    text = decode_page(bytes_of(reading))
    reading.file.seek(0)
    if found := _main_text(text):
        reading.title = parse(text).title
        for block in markdown(lines_of(found)):
            yield replace(block, text=unescaped(block.text)) if block.kind == "text" else block
    else:
        yield from read_html(reading)


def _main_text(text: str) -> str:
    try:
        from trafilatura import extract
    except ImportError:
        return ""
    try:
        return extract(text, output_format="markdown", include_tables=True, include_comments=False) or ""
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError):
        return ""  # a page that it cannot read


class Page(HTMLParser):
    """Collects the blocks of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.blocks: list[Block] = []
        self.notes: list[Phrase] = []
        self._skipping: list[str] = []
        self._in_title = False
        self._text: list[str] = []
        self._linked = 0
        self._in_link = 0
        self._heading = 0
        self._pre = 0
        self._rows: list[list[str]] = []
        self._tables = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        if tag == "title" and not self.title:
            self._in_title = True
            return
        if tag in _VOID:
            if tag == "br":
                self._text.append("\n")
            elif tag == "hr":
                self._end_block()
            return
        if self._skipping:
            if tag == self._skipping[0]:
                self._skipping.append(tag)
            return
        hidden = any(name == "hidden" or (name == "aria-hidden" and value == "true") for name, value in attrs)
        if tag in _SKIPPED or (hidden and tag in _BLOCKS):
            self._end_block()
            self._skipping = [tag]
        elif tag == "a":
            self._in_link += 1
        elif tag == "table":
            self._end_block()
            self._tables += 1
        elif self._tables and tag == "tr":
            self._text.clear()
            self._rows.append([])
        elif self._tables and tag in ("td", "th"):
            self._text.clear()
        elif self._tables and tag in _BLOCKS:
            self._text.append(" ")
        elif tag in _BLOCKS or tag == "pre" or (len(tag) == 2 and tag[0] == "h" and tag[1].isdecimal()):
            self._end_block()
            self._pre += tag == "pre"
            if tag[0] == "h" and tag[1:].isdecimal():
                self._heading = int(tag[1])
            elif tag == "li":
                self._text.append("- ")

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if tag == "title":
            self._in_title = False
        elif self._skipping:
            if tag == self._skipping[-1]:
                self._skipping.pop()
        elif tag == "a":
            self._in_link = max(self._in_link - 1, 0)
        elif self._tables and tag in ("td", "th"):
            if self._rows:
                self._rows[-1].append(one_line("".join(self._text)))
            self._text.clear()
        elif tag == "table" and self._tables:
            self._tables -= 1
            if not self._tables:
                self._end_table()
        elif not self._tables and (tag in _BLOCKS or tag == "pre" or tag[:1] == "h"):
            self._end_block()

    def handle_data(self, data: str) -> None:
        """Take in text."""
        if self._in_title:
            self.title = one_line(f"{self.title}{data}")[:300]
        elif not self._skipping:
            if not self._pre:
                data = re.sub(r"\s+", " ", data)
            self._text.append(data)
            self._linked += _letters(data) if self._in_link else 0

    def finish(self) -> None:
        """Take in what no tag ended."""
        if self._tables:
            self._end_table()
        self._end_block()

    def _end_table(self) -> None:
        rows = [row for row in self._rows if row]
        self._rows, self._tables = [], 0
        self._text.clear()
        if max(map(len, rows), default=0) > 1 and len(rows) > 1:
            self.blocks += table(((0, row) for row in rows), self.notes)
        else:  # laid out by a table
            self.blocks += (Block("text", cell) for row in rows for cell in row if cell)

    def _end_block(self) -> None:
        text = clean("".join(self._text))
        text = (
            text.strip("\n") if self._pre else "\n".join(line.strip(" ") for line in text.split("\n")).strip()
        )
        heading, linked, pre = self._heading, self._linked, self._pre
        self._text.clear()
        self._heading = self._linked = self._pre = 0
        if not text.strip(" -\n") or (not heading and linked > _LINKS * _letters(text)):
            return
        if heading:
            self.blocks.append(Block("heading", one_line(text), heading))
        else:
            self.blocks.append(Block("code" if pre else "text", text))


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def parse(text: str) -> Page:
    """Read the HTML in `text`."""
    page = Page()
    page.feed(text)
    page.close()
    page.finish()
    return page

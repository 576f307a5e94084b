"""Plain text, Markdown and source code, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import _
from glmtui.retrieval.documents import CELLS, MOST_TEXT, Block, Reading
from glmtui.text.clean import clean
from glmtui.text.encodings import decode

Lines = Iterable[tuple[int, str]]
"""Line numbers from 1, and the lines without their ends."""
_BREAK = re.compile(r"\r\n|\r|\n")
_CHAPTER = re.compile(
    r"\s*(第[一二三四五六七八九十百零〇\d]+[章节編编部篇回][^。！？]{0,40}|(chapter|part|section)\s+[\divxlc]+\b[^.!?]{0,60})",
    re.IGNORECASE,
)
_HEADING = re.compile(r" {0,3}(#{1,6})\s")
_UNDERLINE = re.compile(r" {0,3}(=+|-{3,})\s*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_MARKS = re.compile(_ESCAPED.pattern + r"|[*`]+|(?<!\w)_+|(?<!_)_+(?!\w)")
_RULE = re.compile(r":?-+:?")
_DEFINITION = re.compile(
    r"\s*(?:@?(?:export|public|private|protected|static|async|pub|default|abstract|final|virtual|inline)\s+)*"
    r"(?:def|class|fn|func|function|interface|struct|enum|trait|impl|type|module|namespace|sub|procedure)\s+\w[^{]*"
)
_LONGEST_LINE = 20_000
"""Characters; a longer one (data, minified code) is cut into such lines."""


def text_of(reading: Reading) -> str:
    """Return the text of a file that is nothing else.

    Raises:
        BadFileError: it is too big or no text.
    """
    text = decode(bytes_of(reading))
    if text is None:
        raise BadFileError(_("It is not text."))
    return text


def bytes_of(reading: Reading) -> bytes:
    """Return what is in a file.

    Raises:
        BadFileError: it is too big.
    """
    data = reading.file.read(MOST_TEXT + 1)
    if len(data) > MOST_TEXT:
        raise BadFileError(_("It has more than {most} MB, which is too much.").format(most=MOST_TEXT >> 20))
    return data


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Number the lines as editors do, and clean each."""
    at = number = 0
    while at <= len(text):
        end = _BREAK.search(text, at)
        stop = end.start() if end else len(text)
        number += 1
        for start in range(at, max(stop, at + 1), _LONGEST_LINE):
            yield number, clean(text[start : min(start + _LONGEST_LINE, stop)]).replace("\n", " ")
        if end is None:
            return
        at = end.end()


def read_plain(reading: Reading) -> Iterator[Block]:
    """Read paragraphs, and chapters by how they are called."""
    return plain(lines_of(text_of(reading)))


def plain(lines: Lines, page: int = 0) -> Iterator[Block]:
    """Yield the paragraphs of `lines`, which blank lines separate."""
    paragraph = _Paragraph(page)
    for number, line in lines:
        if not line.strip():
            yield from paragraph.take()
        elif len(line) <= 60 and _CHAPTER.fullmatch(line):
            yield from paragraph.take()
            yield Block("heading", line.strip(), 1, page, number, number)
        else:
            paragraph.add(number, line)
    yield from paragraph.take()


def read_markdown(reading: Reading) -> Iterator[Block]:
    """Yield the blocks of a document of the format ``md``."""
    return markdown(lines_of(text_of(reading)))


def markdown(lines: Lines, page: int = 0) -> Iterator[Block]:
    """Yield headings, paragraphs, tables and code of Markdown."""
    paragraph, code = _Paragraph(page), _Paragraph(page, "code")
    fence = ""
    rows: list[tuple[int, str]] = []
    for number, line in lines:
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
                yield from code.take()
            else:
                code.add(number, line)
            continue
        if "|" in line and (rows or line.lstrip().startswith("|") or line.count("|") > 1):
            yield from paragraph.take()
            rows.append((number, line))
            continue
        yield from _table(rows, page)
        if opened := _FENCE.match(line):
            yield from paragraph.take()
            fence = opened[1]
        elif heading := _HEADING.match(line):
            yield from paragraph.take()
            words = plain_words(_without_end(line[heading.end() :].strip()))
            yield Block("heading", words, len(heading[1]), page, number, number)
        elif _UNDERLINE.fullmatch(line) and paragraph.height == 1:
            (title,) = paragraph.take()
            level = 1 if "=" in line else 2
            yield Block("heading", plain_words(title.text), level, page, title.first, number)
        elif not line.strip():
            yield from paragraph.take()
        else:
            paragraph.add(number, line)
    yield from code.take()
    yield from _table(rows, page)
    yield from paragraph.take()


def plain_words(text: str) -> str:
    """Return a line of Markdown without the marks of emphasis and links."""
    text = re.sub(r"(?<!\\)!?\[([^\[\]]*)\]\([^()]*\)", r"\1", text)
    return _MARKS.sub(lambda found: found[1] or "", text).strip()


def unescaped(text: str) -> str:
    """Return a text without the backslashes before signs that would mean something in Markdown."""
    return _ESCAPED.sub(r"\1", text)


def _without_end(heading: str) -> str:
    """Return a heading without the ``#`` that may stand behind it, too."""
    bare = heading.rstrip("#")
    return bare.rstrip() if not bare or bare[-1].isspace() else heading


def _table(rows: list[tuple[int, str]], page: int) -> Iterator[Block]:
    """Yield the lines with bars collected so far: a table if the second is its rule, else a paragraph."""
    if not rows:
        return
    first, last = rows[0][0], rows[-1][0]
    if len(rows) > 2 and all(
        _RULE.fullmatch(cell.strip()) for cell in rows[1][1].strip().strip("|").split("|")
    ):
        header, *cells = (_cells(line) for number, line in rows if number != rows[1][0])
        yield Block("table", "\n".join(cells), 0, page, first + 2, last, header)
    else:
        yield Block("text", "\n".join(line for _number, line in rows), 0, page, first, last)
    rows.clear()


def _cells(line: str) -> str:
    cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return CELLS.join(plain_words(cell.replace("\\|", "|")) for cell in cells)


def read_code(reading: Reading) -> Iterator[Block]:
    """Read source code: what blank lines separate, below the definition it stands in."""
    return code(lines_of(text_of(reading)))


def code(lines: Lines, page: int = 0) -> Iterator[Block]:
    """Yield pieces of code; a definition that is not indented begins a new heading."""
    piece = _Paragraph(page, "code")
    for number, line in lines:
        if not line.strip():
            yield from piece.take()
            continue
        if line[:1] not in " \t" and len(line) < 200 and (found := _DEFINITION.match(line)):
            yield from piece.take()
            yield Block("heading", found[0].strip().rstrip(":({ "), 1, page, number, number)
        piece.add(number, line)
    yield from piece.take()


class _Paragraph:
    """Lines that belong together."""

    def __init__(self, page: int, kind: str = "text") -> None:
        self._page = page
        self._kind = kind
        self._lines: list[str] = []
        self._first = self._last = 0

    @property
    def height(self) -> int:
        return len(self._lines)

    def add(self, number: int, line: str) -> None:
        if not self._lines:
            self._first = number
        self._lines.append(line.rstrip())
        self._last = number

    def take(self) -> list[Block]:
        text = "\n".join(self._lines)
        self._lines.clear()
        if not text.strip():
            return []
        kind = "code" if self._kind == "code" else "text"
        return [Block(kind, text, 0, self._page, self._first, self._last)]  # type: ignore[arg-type]

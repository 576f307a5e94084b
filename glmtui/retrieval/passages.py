"""Cuts documents into passages: what is found and quoted as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from glmtui.retrieval.documents import Block

ROOM = 400.0
"""Of a passage, in Chinese characters; a letter takes `LETTER` of that."""
LETTER = 0.4
LONGEST_HEADING = 120
MOST_BLOCKS = 400
"""That are looked at together."""
PATH = " › "
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff01-\uff60]+")
_SENTENCE = re.compile(
    r"(?<=[。！？；…])(?![”’」』）])|(?<=[.!?][\s])|(?<=[.!?][\"”’)][\s])|(?<=[。！？；…][”’」』）])|\n"
)
_CLAUSE = re.compile(r"(?<=[，、：,;:])")
_QUESTION = re.compile(r"\s*[*#\-\d.、)）]*\s*\**(问题?|提问|Q(uestion)?)\s*\d*\s*[：:.、]", re.IGNORECASE)
MOST_OF_AN_ANSWER = 4
"""Blocks of a question with its answer."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, and where it stands."""

    text: str
    heading: str = ""
    """The headings it stands below, outermost first."""
    page: int = 0
    first: int = 0
    last: int = 0
    """Lines, or rows of a table, from 1; 0 where there are none."""


def extent(text: str) -> float:
    """Return how much of `ROOM` a text takes."""
    narrow = len(_WIDE.sub("", text))
    return len(text) - narrow + narrow * LETTER


def cut(blocks: Iterable[Block]) -> Iterator[Passage]:
    """Put blocks together to passages, and cut those that are too long.

    A passage never goes on over a heading or a page. Where one is cut, the next begins with the sentence
    before the cut; in a table, with the header.
    """
    path: list[tuple[int, str]] = []
    group: list[Block] = []
    bare: Block | None = None
    """A heading with nothing below it so far."""
    for block in blocks:
        if block.kind == "heading":
            yield from _passages(group, path)
            group = []
            level = max(block.level, 1)
            if bare is not None and level <= max(bare.level, 1):
                yield from _passages([bare], path[:-1])
            title = " ".join(block.text.split())[:LONGEST_HEADING]
            path = [*((above, text) for above, text in path if above < level), (level, title)]
            bare = block
            continue
        bare = None
        if group and (block.page != group[0].page or "table" in (block.kind, group[0].kind)):
            yield from _passages(group, path)
            group = []
        group += _questions(block)
        if len(group) >= MOST_BLOCKS:  # a file without headings is never in memory as a whole
            yield from _passages(group, path)
            group = []
    yield from _passages(group, path)
    if bare is not None:
        yield from _passages([bare], path[:-1])


def _questions(block: Block) -> Iterator[Block]:
    """Cut a block before each line that asks a question to which an answer follows."""
    if block.kind != "text" or "\n" not in block.text:
        yield block
        return
    lines = block.text.split("\n")
    starts = [0, *(at for at, line in enumerate(lines) if at and _asks(line)), len(lines)]
    for start, end in pairwise(starts):
        first = block.first + start if block.first else 0
        last = min(first + end - start - 1, block.last) if block.first else 0
        yield Block("text", "\n".join(lines[start:end]), 0, block.page, first, last)


def _asks(line: str) -> bool:
    return _QUESTION.match(line.lstrip()[:LONGEST_HEADING]) is not None


def _passages(group: list[Block], path: list[tuple[int, str]]) -> Iterator[Passage]:
    heading = PATH.join(text for _level, text in path)
    for pieces in _fitted(group):
        numbered = [piece for piece in pieces if piece.first]
        yield Passage(
            "\n".join(filter(None, (pieces[0].header, *(piece.text for piece in pieces)))),
            heading,
            pieces[0].page,
            numbered[0].first if numbered else 0,
            max((piece.last for piece in numbered), default=0),
        )


def _fitted(group: list[Block]) -> Iterator[list[Block]]:
    """Share the blocks among passages."""
    pieces: list[Block] = []
    used = 0.0
    for unit in _units(group):
        size = sum(extent(block.text) for block in unit)
        if pieces and used + size > ROOM:
            yield pieces
            pieces, used = [], 0.0
        if size > ROOM:
            for block in unit:
                for part in _split(block):
                    yield [part]
        else:
            pieces += unit
            used += size
    if pieces:
        yield pieces


def _units(group: list[Block]) -> Iterator[list[Block]]:
    """Yield what is not to be parted: a question and its answer, else each block."""
    at = 0
    while at < len(group):
        end = at + 1
        used = extent(group[at].text)
        if _asks(group[at].text):
            while end < len(group) and end - at < MOST_OF_AN_ANSWER and not _asks(group[end].text):
                used += extent(group[end].text)
                if used > ROOM:
                    break
                end += 1
        yield group[at:end]
        at = end


def _split(block: Block) -> Iterator[Block]:
    """Cut one long block: a table at its rows, code at its lines, prose at sentences."""
    if block.kind in ("table", "code"):
        yield from _by_lines(block)
        return
    text, last_sentence, used = "", "", 0.0
    line = start = block.first
    for sentence in _sentences(block.text):
        size = extent(sentence)
        if text and used + size > ROOM:
            yield _piece(block, text, start, line)
            text = last_sentence if extent(last_sentence) < ROOM / 4 else ""
            start, used = line - last_sentence.count("\n") if text else line, extent(text)
        text += sentence
        used += size
        last_sentence = sentence
        line += sentence.count("\n") if block.first else 0
    if text.strip():
        yield _piece(block, text, start, line)


def _piece(block: Block, text: str, first: int, last: int) -> Block:
    return Block(block.kind, text.strip("\n"), 0, block.page, first, min(max(last, first), block.last))


def _by_lines(block: Block) -> Iterator[Block]:
    lines = block.text.split("\n")
    at = 0
    while at < len(lines):
        used = extent(block.header)
        end = at
        while end < len(lines) and (end == at or used + extent(lines[end]) <= ROOM):
            used += extent(lines[end])
            end += 1
        first = block.first + at if block.first else 0
        last = min(block.first + end - 1, block.last) if block.first else 0
        for text in _chopped("\n".join(lines[at:end])):
            yield Block(block.kind, text, 0, block.page, first, last, block.header)
        at = end


def _sentences(text: str) -> Iterator[str]:
    """Yield the sentences of `text`, none longer than a passage; together they are the text."""
    at = 0
    for match in _SENTENCE.finditer(text):
        if match.end() > at:
            yield from _clauses(text[at : match.end()])
            at = match.end()
    if at < len(text):
        yield from _clauses(text[at:])


def _clauses(sentence: str) -> Iterator[str]:
    if extent(sentence) <= ROOM:
        yield sentence
        return
    piece = ""
    for clause in _CLAUSE.split(sentence):
        if piece and extent(piece) + extent(clause) > ROOM:
            yield piece
            piece = ""
        *whole, piece = _chopped(piece + clause)
        yield from whole
    if piece:
        yield piece


def _chopped(text: str) -> list[str]:
    """Cut a text in which nothing says where."""
    if extent(text) <= 2 * ROOM:
        return [text]
    step = int(ROOM if _WIDE.search(text) else ROOM / LETTER)
    return [text[at : at + step] for at in range(0, len(text), step)]

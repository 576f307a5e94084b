"""The numbers in an answer: what they may point to, and whether the sources say what they are cited for.

After WebGLM (arXiv 2306.07906, section 3.4), which compares each statement with each source by its words; in
Chinese pairs of characters are compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from glmtui.protocol.messages import Source
from glmtui.retrieval import terms

UNSUPPORTED = "[?]"
"""Stands behind a statement that no source supports."""
CITED = 0.5
"""Share of a statement's terms that a source it cites must have..."""
ADDED = 0.75
"""...and one that it does not cite, to be cited for it."""
DOUBTFUL = 0.4
"""A statement without a number, of which no source has more than this, is marked."""
SHORTEST = 4
"""Terms of a statement that is checked: shorter ones say nothing or are said by everything..."""
SHORTEST_CITED = 3
"""...unless they cite something; with a figure, any that do are checked."""
WRONG_NUMBER = 0.5
"""What is left of the share where a figure of the statement is not in the source."""

_OPEN = r"[\[［【](?:[^\S\n]|[\d,，、\-–~来源资料source]){0,64}"
"""A mark as far as it may have come: where a stream is cut, all that may still become one is held back."""
_NUMBERS = r"(?:来源|资料|source)?[^\S\n]*\d{1,3}(?:[^\S\n]*[,，、\-–~][^\S\n]*\d{1,3})*"
_MARK = re.compile(rf"(?={_OPEN}[\]］】])[\[［【][^\S\n]*({_NUMBERS})[^\S\n]*[\]］】]", re.IGNORECASE)
_OPEN_MARK = re.compile(rf"(?:{_OPEN}|`+)\Z", re.IGNORECASE)
_PIECE = re.compile(rf"`+|\n|{_MARK.pattern}", re.IGNORECASE)
_CODE = r"(`+)[^`\n]+\1"
"""In a line, at the end of which it ends: brackets in it are none of ours."""
_CODE_OR_MARK = re.compile(rf"{_CODE}|\s?\[(\d{{1,3}}|\?)\]")
_STATEMENT = re.compile(
    rf"(?:{_CODE}|.)+?"
    r"(?:(?:[。！？!；;]|(?<!\[)\?)+[”’\"）)]*|(?<=[\d?]\])\s*[，,、]|\.(?=\s|\[|$)|$)"
    r"(?:\s*\[(?:\d{1,3}|\?)\])*\s*",
    re.DOTALL,
)
"""Up to the end of a sentence, or to a comma behind a number: each part of a sentence may rest on another."""
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_LEAD = re.compile(r"\s*(?:[-*+•]|\d+[.)、])?\s*")
_MISSING = re.compile(
    r"未提|没有提|没提|无法回答|不清楚|不知道|抱歉|(?:资料|来源|文档|文件)[^，。；]{0,12}(?:没有?|未|无|不)"
    r"|not mention|cannot answer|can't answer|don't know|do not know|sorry"
    r"|\b(?:sources?|documents?|passages?)\b.*(?:\bnot?\b|n't\b)"
    r"|(?:\bnot?\b|n't\b).*\b(?:sources?|documents?|passages?)\b",
    re.IGNORECASE,
)
"""Says that something is not in the sources, which none of them says."""
_ACCORDING = re.compile(
    r"(?:根据|依据|按照|据)[^，。；]{0,8}(?:资料|来源|文档|文件)[^，。；]{0,8}[，,]?"
    r"|(?:资料|来源|文档|文件)中?(?:显示|提到|指出|表明|说|写道)[，,：:]?"
    r"|according to (?:the )?(?:\w+ )?(?:sources?|documents?|passages?)\b,?"
    r"|(?:the )?(?:sources?|documents?|passages?) (?:says?|states?|mentions?|shows?)(?: that)?\b,?",
    re.IGNORECASE,
)
"""Says that what follows is in the sources, and nothing of it."""
_FIGURE = re.compile(r"\d+|[零〇一二三四五六七八九十百千万亿两]{2,}")
_ENDING = re.compile(r"[。！？!?；;.,，：:]*[”’\"）)]*\s*\Z")


def numbers(inside: str, count: int) -> list[int]:
    """Return the numbers from 1 to `count` in what stands between brackets: ``1, 3-5``."""
    found: dict[int, None] = {}
    for first, last in re.findall(r"(\d+)(?:\s*[\-–~]\s*(\d+))?", inside):
        for number in range(int(first), int(last or first) + 1):
            if 1 <= number <= count:
                found[number] = None
    return list(found)


class CitationFilter:
    """Takes the numbers that point to no source out of an answer while it comes, and writes all as ``[1]``.

    Code is left as it is.

    Args:
        count: how many sources there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pending = ""
        self._fence = ""

    def push(self, text: str) -> str:
        """Return what can be shown with `text` added."""
        text = self._pending + text
        open_mark = _OPEN_MARK.search(text)
        ready = text[: open_mark.start()] if open_mark else text
        self._pending = text[len(ready) :]
        return self._corrected(ready)

    def finish(self) -> str:
        """Return what was held back."""
        pending, self._pending = self._pending, ""
        return self._corrected(pending)

    def _corrected(self, text: str) -> str:
        def replaced(match: re.Match[str]) -> str:
            found = match[0]
            if found == "\n":
                self._fence = "" if len(self._fence) < 3 else self._fence  # code in a line ends with it
            elif found.startswith("`"):
                if not self._fence:
                    self._fence = found
                elif found == self._fence:
                    self._fence = ""
            elif not self._fence:
                return "".join(f"[{number}]" for number in numbers(match[1], self._count))
            return found

        return _PIECE.sub(replaced, text)


def check(text: str, sources: Sequence[Source]) -> str:
    """Compare each statement of an answer with the sources; return it with the numbers that are right.

    A number stays where its source has enough of the statement's terms; else the source that has most of
    them is cited, or if none has enough, the statement is marked with `UNSUPPORTED`.
    """
    checker = _Checker(sources)

    def checked(line: str) -> str:
        if line.lstrip().startswith(("#", "|", ">")):
            return line
        found = "".join(map(checker.checked, _statements(line)))
        return line if _FENCE.match(found) else found  # a number that is taken away may leave one

    return _in_prose(text, checked)


def marked_statements(text: str) -> list[str]:
    """Return the statements of an answer that `check` marked as not supported."""
    found: list[str] = []

    def look(line: str) -> str:
        found.extend(_plain(each).strip() for each in _statements(line) if UNSUPPORTED in each)
        return line

    _in_prose(text, look)
    return found


def without_marks(text: str) -> str:
    """Return an answer without its numbers: those of another answer mean other sources."""
    return _in_prose(text, _plain)


def _in_prose(text: str, change: Callable[[str], str]) -> str:
    """Return an answer with each line changed that is not code."""
    lines, fence = [], ""
    for line in text.split("\n"):
        opened = _FENCE.match(line)
        if fence:
            fence = "" if opened and line.strip().startswith(fence) else fence
        elif opened:
            fence = opened[1]
        else:
            line = change(line)
        lines.append(line)
    return "\n".join(lines)


def _plain(line: str) -> str:
    """Return a line, or a part of it, without its numbers."""
    return _CODE_OR_MARK.sub(lambda found: found[0] if found[1] else "", line)


def _statements(line: str) -> Iterator[str]:
    lead = _LEAD.match(line)
    start = lead.end() if lead else 0
    first = line[:start]
    for match in _STATEMENT.finditer(line, start):
        yield first + match[0]
        first = ""
    if first:
        yield first


class _Checker:
    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = {source.number: self._read(source) for source in sources}

    @staticmethod
    def _read(source: Source) -> _SourceTerms:
        text = f"{source.title} {source.place} {source.text}"
        return _SourceTerms(frozenset(terms.terms(text)), _figures(text), terms.is_chinese(source.text))

    def checked(self, statement: str) -> str:
        """Return a statement with the numbers that are right for it."""
        plain = _plain(statement)
        claim = _ACCORDING.sub(" ", _LEAD.sub("", plain, count=1))
        said = [term for term in terms.asked(claim) if len(term) > 1 or term.isdecimal()]
        cited = [int(number) for _code, number in _CODE_OR_MARK.findall(statement) if number.isdecimal()]
        chinese, figures = terms.is_chinese(claim), _figures(claim)
        shortest = SHORTEST if not cited else 1 if figures else SHORTEST_CITED
        if len(said) < shortest or _MISSING.search(plain):
            return statement
        shares = {number: self._share(said, chinese, figures, number) for number in self._sources}
        known = {number: share for number, share in shares.items() if share is not None}
        best = max(known, key=lambda number: known[number], default=None)
        kept = [number for number in cited if known.get(number, 0.0) >= CITED]
        if not kept and best is not None and known[best] >= ADDED:
            kept = [best]
        if not kept:  # of another language: who can tell
            kept = [number for number in cited if number in shares and number not in known]
        if kept:
            return statement if kept == cited else _marked(plain, [f"[{number}]" for number in kept])
        if cited or (len(known) == len(shares) and best is not None and known[best] <= DOUBTFUL):
            return _marked(plain, [UNSUPPORTED])
        return statement

    def _share(
        self, said: Sequence[str], chinese: bool, figures: frozenset[str], number: int
    ) -> float | None:
        """Return how much of a statement a source has; None where they are of different languages."""
        source = self._sources[number]
        if chinese != source.chinese:
            said = [term for term in said if not terms.is_han(term) and (chinese or term.isdecimal())]
            figures = frozenset(figure for figure in figures if figure.isdecimal())
            if not said:
                return None
        share = sum(term in source.terms for term in said) / len(said)
        return share if figures <= source.figures else share * WRONG_NUMBER


class _SourceTerms(NamedTuple):
    """What of a source is compared."""

    terms: frozenset[str]
    figures: frozenset[str]
    chinese: bool


def _figures(text: str) -> frozenset[str]:
    """Return the numbers in a text, also those in Chinese characters."""
    return frozenset(_FIGURE.findall(terms.fold(text)))


def _marked(plain: str, marks: Sequence[str]) -> str:
    """Put marks at the end of a statement, before what ends it."""
    ending = _ENDING.search(plain)
    at = ending.start() if ending else len(plain)
    return f"{plain[:at]}{''.join(marks)}{plain[at:]}"

"""Lines of a text as they stand on the screen, and where text may be broken into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len, get_character_cell_size
from textual.content import Content
from textual.strip import Strip

EMPTY = Content("")

_NOT_FIRST = frozenset("、。，．：；？！‼⁇⁈⁉）］｝〕〉》」』】〗〙〛｠»›’”…‥—～〜・·％‰℃°々〻ー!%),.:;?]}'\"")
"""What must not begin a line: it belongs to the character before it."""
_NOT_LAST = frozenset("（［｛〔〈《「『【〖〘〚｟«‹‘“￥＄＃([{$#")
"""What must not end a line: it belongs to the character after it."""
_JOINER = "\u200d"


@dataclass(eq=False, slots=True)
class Line:
    """One line, as wide as it is."""

    content: Content
    start: int = 0
    """Where in it, in characters, what a person would copy begins: behind a frame."""
    end: int | None = None
    """Where that ends; None: at the end."""
    joint: str | None = None
    """What stood between this line and the one before, if both are one line of the text; else None."""
    strip: Strip | None = None
    """The line as it was drawn last, and …"""
    drawn_for: object = None
    """… for what: a palette and a width."""

    @property
    def copied(self) -> str:
        """What a person gets who selects all of it."""
        return self.content.plain[self.start : self.end]

    def behind(self, prefix: Content, *, copied: bool = False) -> Line:
        """Return the line with `prefix` before it, which is copied with it or not (never over a frame)."""
        shift = len(prefix)
        return Line(
            prefix + self.content,
            start=0 if copied and not self.start else self.start + shift,
            end=None if self.end is None else self.end + shift,
            joint=self.joint,
        )


def copied(lines: Sequence[Line]) -> str:
    """Return the text of several lines: what was broken only to fit the screen is joined again."""
    parts: list[str] = []
    for number, line in enumerate(lines):
        if number:
            parts.append("\n" if line.joint is None else line.joint)
        parts.append(line.copied)
    return "".join(parts)


def wrap(content: Content, width: int) -> list[Line]:
    """Break a text into lines of at most `width` cells, at its line ends and where it may be broken."""
    lines: list[Line] = []
    for paragraph in content.split("\n", allow_blank=True) if "\n" in content.plain else (content,):
        lines += _wrap_paragraph(paragraph, max(width, 1))
    return lines


def _wrap_paragraph(content: Content, width: int) -> Iterable[Line]:
    text = content.plain
    if "\t" in text:
        content = content.expand_tabs(4)
        text = content.plain
    if len(text) * 2 <= width or cell_len(text) <= width:
        return [Line(content)]
    lines: list[Line] = []
    joint: str | None = None
    for part in content.divide(breaks(text, width)):
        kept = part.rstrip(" ")
        lines.append(Line(kept, joint=joint))
        joint = " " * (len(part) - len(kept))
    return lines


def breaks(text: str, width: int, *, hanging: bool = True) -> list[int]:
    """Return the offsets in `text` at which to begin new lines, so that each takes at most `width` cells.

    Between words at the blank, between Chinese characters anywhere, but never so that a line begins with
    ``。`` or ends with ``（``. Only what is too long for any line is broken elsewhere. Blanks at the end of a
    line may stand out; where a cursor has to stand behind them, `hanging` is False.
    """
    found: list[int] = []
    start, cells, last = 0, 0, 0  # of the line; `last`: where it may be broken at the latest
    since = 0  # cells from `last` on
    before = ""
    for at, character in enumerate(text):
        size, blank, _wide = _kind(character)
        if at > start and _may_break(before, character):
            last, since = at, 0
        while cells + size > width and at > start and size and not (blank and hanging):
            if last > start:
                start, cells = last, since
            else:
                start, cells = at, 0
            found.append(start)
            last, since = start, cells
        cells += size
        since += size
        before = character
    return found


@lru_cache(maxsize=8192)
def _kind(character: str) -> tuple[int, bool, bool]:
    """Return the width in cells of a character, and whether it is a blank or Chinese (or an emoji)."""
    size = get_character_cell_size(character)
    return size, character == " ", size == 2


@lru_cache(maxsize=16384)
def _may_break(before: str, after: str) -> bool:
    _size, blank_before, wide_before = _kind(before)
    size_after, blank_after, wide_after = _kind(after)
    if blank_after or not size_after or before == _JOINER:
        return False
    if blank_before:
        return True
    if after in _NOT_FIRST or before in _NOT_LAST:
        return False
    return wide_before or wide_after or (before == "-" and after.isalpha())


def fold(content: Content, width: int) -> list[Line]:
    """Break code into lines of at most `width` cells: where it must be, or at a blank shortly before.

    No blank is lost.
    """
    if "\t" in content.plain:
        content = content.expand_tabs(4)
    text = content.plain
    if len(text) * 2 <= width or cell_len(text) <= width:
        return [Line(content)]
    cuts: list[int] = []
    cells = 0
    for at, character in enumerate(text):
        size = _kind(character)[0]
        if cells + size > width:
            start = cuts[-1] if cuts else 0
            blank = text.rfind(" ", at - (at - start) // 4, at) + 1
            cuts.append(blank or at)
            cells = sum(_kind(each)[0] for each in text[cuts[-1] : at])
        cells += size
    return [Line(part, joint="" if number else None) for number, part in enumerate(content.divide(cuts))]

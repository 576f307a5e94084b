"""Words and characters as a person counts them, for moving and deleting in the composer.

A terminal has no dictionary, and taking a whole run of hanzi for one word (as ``\\w+`` does) deletes a
sentence at a key press. The rule here: Latin letters, digits, kana and hangul make words by runs; hanzi
make words of two, as most Chinese words are, except that grammatical words (的 了 是 我 …) stand alone
and the commonest pairs that begin with one (我们, 这个, 什么 …) stay together. Counted from the start of
the run, so moving there and back visits the same places.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_SINGLE = frozenset(
    "的了是在我你您他她它和与或及就都也很不没有这那着过把被给对从到让向为之其而且但若则吗呢吧啊呀嘛哦请"
)
_PAIRS = frozenset(
    """
    我们 你们 他们 她们 它们 这个 那个 这些 那些 这里 那里 这样 那样 这么 那么 没有 不是 不会
    不能 不要 不用 不过 就是 但是 也是 都是 还是 或者 而且 为了 对于 对话 从来 到底 让步 有些
    有的 是否 在线 请问 与其 和平 不同 不错 不行 不想 有人 有用 有效 没事 没法 其中 其他 其实
    之前 之后 之间 给予 过程 过去 向量 被动 把握 你好 您好
    """.split()  # noqa: SIM905 - a hundred words read better so
)


@cache
def _tokens() -> re.Pattern[str]:
    """Return the pattern, made when it is first needed: its classes take milliseconds to compile."""
    return re.compile(
        r"(?P<space>\s+)"
        r"|(?P<hanzi>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff々〇]+)"
        r"|(?P<kana>[\u3040-\u30ff\u31f0-\u31ff]+)"
        r"|(?P<word>[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff々〇]+)"
        r"|(?P<other>[^\w\s]+)"
    )


def _hanzi_ends(run: str) -> list[int]:
    ends = []
    position = 0
    while position < len(run):
        first, second = run[position], run[position + 1 : position + 2]
        pair = bool(second) and (first + second in _PAIRS or (first not in _SINGLE and second not in _SINGLE))
        position += 2 if pair else 1
        ends.append(position)
    return ends


def word_spans(line: str) -> list[tuple[int, int]]:
    """Return the (start, end) of every word and every run of punctuation in `line`, without blanks."""
    spans: list[tuple[int, int]] = []
    for match in _tokens().finditer(line):
        start, end = match.span()
        if match.lastgroup == "hanzi":
            for stop in _hanzi_ends(match.group()):
                spans.append((start, match.start() + stop))
                start = match.start() + stop
        elif match.lastgroup != "space":
            spans.append((start, end))
    return spans


def previous_word(line: str, column: int) -> int:
    """Return the column where the word left of `column` starts."""
    return max((start for start, _end in word_spans(line) if start < column), default=0)


def next_word(line: str, column: int) -> int:
    """Return the column where the word at or right of `column` ends."""
    return min((end for _start, end in word_spans(line) if end > column), default=len(line))


def _joins(line: str, at: int) -> bool:
    """Tell whether no cursor belongs before the character at `at` (marks, emoji sequences, flags)."""
    before, after = line[at - 1], line[at]
    return (
        before == "\u200d"
        or after in "\u200d\ufe0e\ufe0f\u20e3"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
        or "\U000e0020" <= after <= "\U000e007f"
        or unicodedata.category(after) in ("Mn", "Me")
        or (_is_half_flag(before) and _is_half_flag(after) and _half_flags_before(line, at) % 2 == 1)
    )


def _is_half_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _half_flags_before(line: str, at: int) -> int:
    start = at
    while start > 0 and _is_half_flag(line[start - 1]):
        start -= 1
    return at - start


def previous_character(line: str, column: int) -> int:
    """Return the column before the whole character (with its marks) left of `column`."""
    column -= 1
    while column > 0 and _joins(line, column):
        column -= 1
    return max(column, 0)


def next_character(line: str, column: int) -> int:
    """Return the column after the whole character (with its marks) right of `column`."""
    column += 1
    while column < len(line) and _joins(line, column):
        column += 1
    return min(column, len(line))

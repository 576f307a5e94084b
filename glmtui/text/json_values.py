"""Reading JSON that anybody may have written, into values that everything else can rely on.

Python's own reader takes more than can be used: numbers without end, strings that cannot be encoded, nesting
that cannot be written again. Here such a value costs itself alone:

* ``NaN``, ``Infinity`` and numbers beyond what a float holds become None;
* lone surrogates become U+FFFD;
* what lies deeper than `DEEPEST` becomes None.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from glmtui.text.clean import without_surrogates

DEEPEST = 64
"""Lists and objects in each other; what a person or a program means to keep has a dozen."""
MOST_VALUES = 1_000_000
"""Each takes up to a hundred bytes of memory."""
_WINDOW = 1 << 18
_WIDEST = 4 << 20
"""Characters that are looked at for items of a list: as a rule, and where one is long."""
_BLANKS = re.compile(r"[ \t\r\n]*")
_DIGITS = 300
"""Of a whole number; a few more are no float any more."""
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}]', re.DOTALL)
"""And strings, in which they mean nothing."""
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class TooManyValuesError(ValueError):
    """A JSON text would take too much memory as values."""


def loads(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        value = _decoder.decode(text)
    except RecursionError:
        return plain(_decoder.decode(_shallow(text, 0)[0]))
    return _checked(value, text, 0, len(text))


def loads_within(text: str) -> Any:
    """Return the value of a JSON text that anybody may have made as large as they like.

    Raises:
        ValueError: it is not JSON.
        TooManyValuesError: it may have more than `MOST_VALUES`.
    """
    if len(text) > MOST_VALUES and sum(map(text.count, ",[{")) > MOST_VALUES:
        raise TooManyValuesError("there are too many values")
    return loads(text)


def raw_decode(text: str, start: int) -> tuple[Any, int]:
    """Return the value that begins at `start` of `text`, and where it ends.

    Raises:
        ValueError: there is no value, or not all of it.
    """
    try:
        value, end = _decoder.raw_decode(text, start)
    except RecursionError:
        shallow, end = _shallow(text, start)
        return plain(_decoder.decode(shallow)), end
    return _checked(value, text, start, end), end


def items(text: str) -> Iterator[Any]:
    """Yield the items of the list that a JSON text is; no more than `MOST_VALUES` or so are made at once.

    Raises:
        ValueError: it is no such list.
        TooManyValuesError: one item is too large.
    """
    at = _blank(text, text.index("[") + 1)
    if text[at : at + 1] == "]":
        return
    room = _WINDOW
    while True:
        window, inside = text[at : at + room], 0
        last = at + room >= len(text)
        while True:
            try:
                value, end = raw_decode(window, inside)
                end = _blank(window, end)
                ending = window[end : end + 1]
            except ValueError:
                if last:
                    raise
                break
            if ending not in (",", "]"):  # the rest is in the next window
                break
            yield value
            if ending == "]":
                return
            inside = _blank(window, end + 1)
        if last:
            raise ValueError(f"a comma is missing at {at + inside}")
        if not inside and room == _WIDEST:
            raise TooManyValuesError("an item is too large")
        at, room = _blank(text, at + inside), _WINDOW if inside else _WIDEST


def _blank(text: str, at: int) -> int:
    """Return where the white space ends that begins at `at`."""
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def plain(value: Any, depth: int = DEEPEST) -> Any:
    """Return a JSON value with nothing in it that cannot be written and read again, as told above."""
    match value:
        case str():
            return without_surrogates(value)
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [plain(item, depth - 1) for item in value] if depth else None
        case dict():
            if not depth:
                return None
            return {without_surrogates(key): plain(item, depth - 1) for key, item in value.items()}
        case _:
            return value


def _shallow(text: str, start: int) -> tuple[str, int]:
    """Return the value at `start` as JSON that is no deeper than `DEEPEST`, and where it ends."""
    pieces: list[str] = []
    depth, kept = 0, start
    for match in _BRACKETS.finditer(text, start):
        if match[0] in "[{":
            depth += 1
            if depth == DEEPEST + 1:
                pieces += (text[kept : match.start()], "null")
        elif match[0] in "]}":
            if depth == DEEPEST + 1:
                kept = match.end()
            depth -= 1
            if depth == 0:
                return "".join([*pieces, text[kept : match.end()]]), match.end()
    raise ValueError("the end is missing")


def _checked(value: Any, text: str, start: int, end: int) -> Any:
    """Return `value`, read from a part of `text`, in `plain` form. Nearly all texts show that it is."""
    deep = text.count("[", start, end) + text.count("{", start, end) > DEEPEST
    return plain(value) if deep or _ESCAPED_SURROGATE.search(text, start, end) else value


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= _DIGITS else None


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


_decoder = json.JSONDecoder(parse_constant=lambda _name: None, parse_int=_integer, parse_float=_float)

"""JSON files of any size, read one conversation at a time, in the memory that the largest needs."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from glmtui.text.json_values import raw_decode

CHUNK = 1 << 18
"""Bytes read at once; more where a value is longer."""
LONGEST = 128 << 20
"""Characters of one value."""
MOST_VALUES = 4_000_000
"""Brackets and commas of one value: each of its own values takes up to a hundred bytes of memory."""
_SPACE = re.compile(r"[ \t\r\n]*")
_CUT = object()
_TAIL = 16
"""Characters at the end of what was read so far that may be the half of a word."""


class JsonStream:
    """The documents in a file: one, or several behind each other as in JSON Lines.

    Args:
        read: returns up to so many bytes, none at the end: UTF-8, with or without a byte order mark.
        advance: told after each step how many bytes have been read; may raise to end it.
    """

    def __init__(self, read: Callable[[int], bytes], advance: Callable[[int], None]) -> None:
        self._read_bytes = read
        self._advance = advance
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        """What was read and is not behind us."""
        self._at = 0
        self._read = 0
        self._ended = False

    def documents(self) -> Iterator[Any]:
        """Yield each document: a list as an iterator over its items, which are read as they are asked for.

        Raises:
            UnicodeDecodeError: the file is no text.
            ValueError: it is not JSON, or one value is too large.
        """
        while char := self._next():
            if char != "[":
                yield self._value()
                continue
            self._at += 1
            items = self._items()
            yield items
            for _unwanted in items:
                pass

    def _items(self) -> Iterator[Any]:
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            char = self._next()
            self._at += 1
            if char == "]":
                return
            if char != ",":
                raise ValueError("a comma is missing between two items" if char else "the end is missing")

    def _next(self) -> str:
        """Return the next character that is no white space; none at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _value(self) -> Any:
        if not self._next():
            raise ValueError("the end is missing")
        while (value := self._attempt()) is _CUT:
            pass
        return value

    def _attempt(self) -> Any:
        """Return the next value; `_CUT` where more of it was read and it is worth another attempt."""
        try:
            value, end = raw_decode(self._text, self._at)
        except ValueError as error:
            if not self._may_be_cut(error):
                raise
            self._refuse_too_large()
            if not self._more():
                raise
            return _CUT
        if end == len(self._text) and not isinstance(value, list | dict | str) and self._more():
            return _CUT  # a number may go on
        self._at = end
        return value

    def _refuse_too_large(self) -> None:
        length = len(self._text) - self._at
        inner = sum(self._text.count(mark, self._at) for mark in "[{,")
        if length > LONGEST or inner > MOST_VALUES:
            raise ValueError("one conversation in it is too large")

    def _may_be_cut(self, error: ValueError) -> bool:
        """Whether there may be nothing wrong but that the rest of the value was not read yet."""
        if not isinstance(error, json.JSONDecodeError):
            return True
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _TAIL

    def _more(self) -> bool:
        """Read on; return whether there was something."""
        while not self._ended:
            # What is cut is decoded again from its beginning: so read twice as much each time.
            data = self._read_bytes(max(CHUNK, len(self._text) - self._at))
            self._ended = not data
            self._read += len(data)
            self._advance(self._read)
            if text := self._decoder.decode(data, self._ended):
                self._text, self._at = self._text[self._at :] + text, 0
                return True
        return False

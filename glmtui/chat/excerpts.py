"""The lines that a search shows, read from the conversation files themselves."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

from glmtui.chat.files import LARGEST, parse
from glmtui.chat.search_index import fold
from glmtui.chat.titles import shorten
from glmtui.chat.tree import Tree
from glmtui.regular_files import read_regular

LENGTH = 120
"""Characters of a line that are shown."""
PIECE = 4096
"""Characters of a long line that are folded at once."""


def matching_lines(path: Path, ids: Sequence[str], word: bytes) -> Iterator[tuple[str | None, str]]:
    """Yield the id and the first line with the folded `word` of each message in `ids`.

    The index may be behind the file, so a message without the word any more is passed over. The id "" stands
    for the title: it comes back as None, with an empty line.
    """
    try:
        data = read_regular(path, LARGEST)
    except OSError:
        return
    messages = Tree(parse(_lines_with(data, ids)).records).messages
    if not all(message_id in messages for message_id in ids if message_id):
        messages = Tree(parse(data).records).messages  # ids that are not written in the file
    for message_id in ids:
        if not message_id:
            yield None, ""
        elif message_id in messages:
            for line in messages[message_id].searchable.split("\n"):
                folded = fold(line)
                if (at := folded.find(word)) >= 0:
                    yield message_id, _excerpt(line, folded, at)
                    break


def _lines_with(data: bytes, ids: Sequence[str]) -> bytes:
    """Return the lines of `data` in which one of `ids` stands, in order."""
    naming = re.compile(
        b"|".join(re.escape(message_id.encode()) for message_id in ids if message_id) or b"(?!)"
    )
    lines = []
    position = 0
    while match := naming.search(data, position):
        start = data.rfind(b"\n", 0, match.start()) + 1
        position = data.find(b"\n", match.end())
        position = len(data) if position < 0 else position
        lines.append(data[start:position])
    return b"\n".join(lines)


def _start(line: str, folded: bytes, at: int) -> int:
    """Return the character of `line` that became the byte `at` of its `folded` form."""
    if len(folded.decode()) == len(line):  # each character has become one
        return len(folded[:at].decode())
    for begin in range(0, len(line), PIECE):
        piece = line[begin : begin + PIECE]
        if at < (length := len(fold(piece))):
            ends = range(1, len(piece) + 1)
            return begin + bisect_left(ends, at + 1, key=lambda end: len(fold(piece[:end])))
        at -= length
    return len(line)


def _excerpt(line: str, folded: bytes, at: int) -> str:
    """Return what stands around the byte `at` of the `folded` line, marking cuts."""
    begin = max(0, _start(line, folded, at) - LENGTH // 4) if len(line) > LENGTH else 0
    return ("…" if begin else "") + shorten(line[begin:].strip(), LENGTH)

"""Writing to the standard streams."""

from __future__ import annotations

import os
import re
from typing import ClassVar, TextIO

from glmtui.i18n import _
from glmtui.text.clean import clean, split_partial

_RULE = re.compile(r"\|?(?:\s*:?-+:?\s*\|)+\s*")


def write(stream: TextIO, text: str) -> None:
    """Write and flush; what the stream's encoding lacks is replaced instead of raising."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


class Paint:
    """Colours text where colours are on; elsewhere it returns the text as it is."""

    STYLES: ClassVar[dict[str, str]] = {"person": "1;36", "model": "1;32", "warning": "33", "error": "1;31"}

    def __init__(self, on: bool = False) -> None:
        self._on = on

    def __call__(self, text: str, style: str) -> str:
        """Return `text` in one of the styles; an unknown one is none."""
        code = self.STYLES.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if self._on and code and text else text

    def heading(self, word: str, style: str) -> str:
        heading = _("{word}: ").format(word=word)
        return self(heading.rstrip(), style) + heading[len(heading.rstrip()) :]


def wants_color(choice: str | None, setting: bool, stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`.

    Args:
        choice: ``always``, ``never``, or ``auto``: where the terminal can and ``NO_COLOR`` is not set.
        setting: whether no choice means ``auto``; else it means ``never``.
        stream: where it goes.
    """
    if choice in ("always", "never"):
        return choice == "always"
    able = stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return able and not os.environ.get("NO_COLOR") and (setting or choice == "auto")


class AnswerWriter:
    """An answer that goes out as it comes, without what would steer a terminal.

    Args:
        stream: takes the answer.
        thoughts: takes, dim, what the model thinks before it, where it is a terminal.
    """

    def __init__(self, stream: TextIO, thoughts: TextIO | None = None) -> None:
        self._stream = stream
        self._thoughts = thoughts or stream
        self._partial = ""
        self._in_thought = False
        self._column_is_0 = True

    def append(self, text: str, *, thought: bool = False) -> None:
        """Write `text`, but for an unfinished escape sequence at its end."""
        if thought != self._in_thought:
            self._take(clean(self._partial))
            self._partial = ""
            self._end_thought()
            self._in_thought = thought
        ready, self._partial = split_partial(self._partial + text)
        self._take(clean(ready))

    def finish(self) -> None:
        """End the line."""
        self._take(clean(self._partial))
        self._partial = ""
        if not self._column_is_0:
            write(self._stream, "\n")
        elif self._in_thought and self._thoughts.isatty():
            write(self._thoughts, "\n")

    def _take(self, text: str) -> None:
        if not text:
            return
        if not self._in_thought:
            write(self._stream, text)
            self._column_is_0 = text.endswith("\n")
        elif self._thoughts.isatty():
            write(self._thoughts, f"\x1b[2m{text}\x1b[22m")

    def _end_thought(self) -> None:
        if self._in_thought and self._thoughts.isatty():
            write(self._thoughts, "\n\n")


def unmarked(markdown: str) -> str:
    """Return the app's own Markdown as plain lines: no marks, and a row of a table as ``name: value``."""
    lines: list[str] = []
    for line in markdown.split("\n"):
        if _RULE.fullmatch(line):
            lines.pop()  # the table's head says nothing that its rows do not
            continue
        if line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            line = ": ".join(cell for cell in cells if cell)
        lines.append(re.sub(r"^#+\s+", "", line).replace("`", "").replace("**", ""))
    return "\n".join(lines)

"""Answers and headings on the standard streams."""

from __future__ import annotations

import os
import re
from typing import ClassVar

from glmtui.i18n import _
from glmtui.streams import Output, Safe, clean_writer
from glmtui.text.clean import clean, flat, split_partial

_RULE = re.compile(r"\|?(?:\s*:?-+:?\s*\|)+\s*")


class Paint:
    """Cleans text, and colours it where colours are on."""

    STYLES: ClassVar[dict[str, str]] = {"person": "1;36", "model": "1;32", "warning": "33", "error": "1;31"}

    def __init__(self, on: bool = False) -> None:
        self._on = on

    def __call__(self, text: str, style: str) -> Safe:
        """Return `text` on one line, in one of the styles; an unknown one is none."""
        code, text = self.STYLES.get(style), flat(text)
        return Safe(f"\x1b[{code}m{text}\x1b[0m" if self._on and code and text else text)

    def heading(self, word: str, style: str) -> Safe:
        heading = flat(_("{word}: ").format(word=word))
        return Safe(self(heading.rstrip(), style) + heading[len(heading.rstrip()) :])


def wants_color(choice: str | None, setting: bool, stream: Output) -> bool:
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
        in_line: whether something stands before it on its line.
    """

    def __init__(self, stream: Output, thoughts: Output | None = None, *, in_line: bool = False) -> None:
        self._stream = clean_writer(stream)
        self._thoughts = clean_writer(thoughts or stream)
        self._partial = ""
        self._in_thought = False
        self._column_is_0 = not in_line

    def append(self, text: str, *, thought: bool = False) -> None:
        """Write `text`, but for an unfinished escape sequence at its end."""
        if thought != self._in_thought:
            self._take(self._partial)
            self._partial = ""
            self._end_thought()
            self._in_thought = thought
        ready, self._partial = split_partial(self._partial + text)
        self._take(ready)

    def finish(self) -> None:
        """End the line."""
        self._take(self._partial)
        self._partial = ""
        if not self._column_is_0:
            self.break_line()
        elif self._in_thought and self._thoughts.isatty():
            self._thoughts.write("\n")

    def break_line(self) -> None:
        """End the line that has begun; what comes goes on in the next."""
        if not self._column_is_0:
            self._stream.write("\n")
            self._column_is_0 = True

    def _take(self, text: str) -> None:
        text = clean(text)
        if not text:
            return
        if not self._in_thought:
            self._stream.write(text)
            self._column_is_0 = text.endswith("\n")
        elif self._thoughts.isatty():
            self._thoughts.write_safe(Safe(f"\x1b[2m{text}\x1b[22m"))

    def _end_thought(self) -> None:
        if self._in_thought and self._thoughts.isatty():
            self._thoughts.write("\n\n")


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

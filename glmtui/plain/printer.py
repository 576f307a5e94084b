"""Writing to the standard streams."""

from __future__ import annotations

import os
import re
from typing import ClassVar, TextIO

from glmtui import reasoning
from glmtui.chat.conversation import Message
from glmtui.i18n import _
from glmtui.text.clean import clean, split_partial

_RULE = re.compile(r"\|?(?:\s*:?-+:?\s*\|)+\s*")


def write(stream: TextIO, text: str) -> None:
    """Write and flush; what the stream's encoding lacks is replaced instead of raising."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


class Paint:
    """Colours words where it is wanted; everywhere else it gives them back as they are."""

    STYLES: ClassVar[dict[str, str]] = {"person": "1;36", "model": "1;32", "warning": "33", "error": "1;31"}

    def __init__(self, on: bool = False) -> None:
        self._on = on

    def __call__(self, text: str, style: str) -> str:
        """Return `text` in one of the styles; an unknown one is none."""
        code = self.STYLES.get(style)
        return f"\x1b[{code}m{text}\x1b[0m" if self._on and code and text else text

    def heading(self, word: str, style: str) -> str:
        """Return `word`, as what stands before the rest of a line."""
        whole = _("{word}: ").format(word=word)
        return self(whole.rstrip(), style) + whole[len(whole.rstrip()) :]


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
    """An answer that goes out as it comes, without what would steer a terminal (an `AnswerHandle`).

    Args:
        stream: takes the answer.
        thoughts: takes, dim, what the model thinks before it, where it is a terminal.
    """

    def __init__(self, stream: TextIO, thoughts: TextIO | None = None) -> None:
        self._stream = stream
        self._thoughts = thoughts or stream
        self._came = self._thought = self._answer = ""
        self._held = ""
        self._column_is_0 = True

    def append(self, text: str) -> None:
        """Write `text`, but for an unfinished escape sequence at its end."""
        ready, self._held = split_partial(self._held + text)
        self._take(clean(ready))

    async def finish(self, message: Message) -> None:
        """End the line."""
        self._take(clean(self._held))
        if not self._column_is_0:
            self._write("\n")
        elif self._thought and not self._answer and self._thoughts.isatty():
            write(self._thoughts, "\n")

    def _take(self, text: str) -> None:
        self._came += text
        thought, answer, _thinking = reasoning.split(self._came)
        if self._thoughts.isatty() and thought:
            if new := thought[len(self._thought) :]:
                write(self._thoughts, f"\x1b[2m{new}\x1b[22m")
            if answer and not self._answer:
                write(self._thoughts, "\n\n")
        new, self._thought, self._answer = answer[len(self._answer) :], thought, answer
        self._write(new)

    def _write(self, text: str) -> None:
        if text:
            write(self._stream, text)
            self._column_is_0 = text.endswith("\n")


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

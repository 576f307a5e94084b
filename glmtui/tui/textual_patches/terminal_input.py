"""What a terminal sends, cut into keys and pastes before Textual's parser sees it.

Textual 8.2 takes a sequence that it does not know for keys, one for each character: an answer of the terminal
is typed, and a paste is none any more from its first escape character on. Not reported upstream.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from io import StringIO

ESC = "\x1b"
PASTE_END = f"{ESC}[201~"
STALLED_SECONDS = 0.5
"""After which the rest of a sequence does not come any more."""
LATE_SECONDS = 1.0
"""After an escape character became a key, in which the rest of a report may come all the same."""
PASTE_SECONDS = 2.0
"""After which the rest of a paste does not come any more: a slow connection pauses for a while."""
LONGEST = 256
"""Characters of a control sequence; a longer one is none."""
PASTE_LIMIT = 1 << 24
"""Characters of a paste that are held back; more come as another paste."""

_PIECE = re.compile(
    r"""
      (?P<text> [^\x1b]+ )
    | (?P<paste> \x1b\[200~ )
    | (?P<sequence>
          \x1b \[ (?: M... | \[. | [@-LN-Z\\-~] | (?: [0-?]+ [ -/]* | [ -/]+ ) [@-~] ) # CSI, two old kinds
        | \x1b O [ -~]                                                                 # SS3
        | \x1b [^\x1b\[OP\]X^_]                                                        # a key with Alt
        | \x1b (?: [\[O] (?=[^ -~]) | [P\]X^_] (?=[\x00-\x1f]) | (?=\x1b) ) )          # a key before another
    | (?P<answer>
          # OSC, DCS, SOS, PM, APC up to their end, or to a key
          \x1b [P\]X^_] [^\x00-\x1f]+ (?: [\x07\x18\x1a] | \x1b\\ | (?= [\x00-\x1a\x1c-\x1f] | \x1b[^\\] ) )
          # CSI that is broken off
        | \x1b \[ (?: [0-?]+ (?=[^ -~]) | [0-?]* [ -/]+ (?=[^ -/@-~]) ) )
    """,
    re.VERBOSE | re.DOTALL,
)
_STRING = re.compile(r"\x1b[P\]X^_].")
_LATE = re.compile(
    r"\[ (?: [?<=>][\d;]*\$?[A-Za-z] | \d+(?:;\d+)+[Rct] | 20[01]~ | [IO]\Z ) | \]\d+; | P[01>][$+|] | _G",
    re.VERBOSE,
)
"""The rest of an answer, or of a report of mouse, paste or focus: nobody types so much at once."""


@dataclass(frozen=True, slots=True)
class Pasted:
    """Text that was pasted: nothing in it is a key."""

    text: str


class TerminalInput:
    """Cuts what comes, however it is divided. Answers of string type (OSC, DCS and the like) are left out.

    Args:
        escape_delay: seconds after which an escape character, alone or before one more, is a key.
        clock: in seconds.
    """

    def __init__(self, escape_delay: float = 0.1, clock: Callable[[], float] = time.monotonic) -> None:
        self._escape_delay = escape_delay
        self._clock = clock
        self._held = ""
        """A sequence of which the rest is to come."""
        self._paste: StringIO | None = None
        """What has come of a paste."""
        self._came = self._escaped = float("-inf")
        """When something came last, and when an escape character became a key."""

    def feed(self, data: str) -> Iterator[str | Pasted]:
        """Yield text without escape characters, complete sequences, lone escape characters, and pastes."""
        if not data:
            return
        now = self._clock()
        late = now - self._escaped < LATE_SECONDS and _LATE.match(data)
        self._came, self._escaped = now, float("-inf")
        data = f"{ESC if late else self._held}{data}"
        while data:
            data = yield from self._cut(data) if self._paste is None else self._take_pasted(data)

    def tick(self) -> Iterator[str | Pasted]:
        """Yield what becomes clear because nothing more came; call it some times a second."""
        quiet = self._clock() - self._came
        if self._paste is not None:
            if quiet >= PASTE_SECONDS:
                yield Pasted(self._paste.getvalue() + self._held)
                self._paste, self._held = None, ""
        elif self._held and quiet >= (self._escape_delay if len(self._held) <= 2 else STALLED_SECONDS):
            held, self._held = self._held, ""
            if held == ESC:
                self._escaped = self._clock()
            if not _STRING.match(held):
                yield held

    def _cut(self, text: str) -> Generator[str | Pasted, None, str]:
        """Yield the pieces of `text`, hold back what is incomplete; return what follows a paste's start."""
        at = 0
        while found := _PIECE.match(text, at):
            at = found.end()
            if found.lastgroup == "paste":
                self._held, self._paste = "", StringIO()
                return text[at:]
            if found.lastgroup != "answer":
                yield found[0]
        self._held = text[at:]
        if _STRING.match(self._held):  # of which nothing is needed but that it goes on
            self._held = self._held[:3] + (ESC if self._held.endswith(ESC) else "")
        elif len(self._held) > LONGEST:
            self._held = ""
        return ""

    def _take_pasted(self, text: str) -> Generator[Pasted, None, str]:
        """Yield the paste if `text` has its end, or if there is much of it; return what follows."""
        assert self._paste is not None
        body, end, rest = text.partition(PASTE_END)
        at = len(body)
        if not end:  # the end itself may be cut
            at -= next(n for n in range(len(PASTE_END) - 1, -1, -1) if body.endswith(PASTE_END[:n]))
        self._paste.write(body[:at])
        self._held = body[at:]
        if end or self._paste.tell() > PASTE_LIMIT:
            yield Pasted(self._paste.getvalue())
            self._paste = None if end else StringIO()
        return rest

"""Text that people and models wrote, made safe and readable for a terminal.

Patterns are compiled when they are first used, by `re` itself: most programs that end at once need none.
"""

from __future__ import annotations

import json
import re

_STRING = r"[^\x07\x1b\x90\x98\x9c-\x9f\n]*"
"""Up to what ends one, or begins another one: a run of beginnings is looked at once."""
_ESCAPE = rf"""(?x)
      (?: \x1b\] | \x9d ) {_STRING} (?: \x07 | \x1b\\ | \x9c ) # OSC: title, clipboard
    | (?: \x1b[PX^_] | [\x90\x98\x9e\x9f] ) {_STRING} (?: \x1b\\ | \x9c )  # DCS, SOS, PM, APC
    | (?: \x1b\[ | \x9b ) [0-?]* [ -/]* [@-~] # CSI: colours, cursor
    | \x1b [ -/]* [0-Z\\^-~] # the short ones
    """
_LINE_ENDS = "\r\v\f\x1c-\x1e\x85\u2028\u2029"
_CONTROLS = (
    "\x00-\x08\x0e-\x1f\x7f-\x9f"  # C0 without tab and newline, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks: they reorder what is on the screen
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # byte order mark, annotations, invisible tags
)
_NEWLINE = f"\r\n|[{_LINE_ENDS}]"
_CONTROL = f"[{_CONTROLS}]"
_SURROGATE = "[\ud800-\udfff]"
_UNSAFE = f"[{_LINE_ENDS}{_CONTROLS}\ud800-\udfff]"
_WITHOUT_CELL = f"[\t\n{_LINE_ENDS}{_CONTROLS}]"
_OBEYED = f"[\t\n{_LINE_ENDS}{_CONTROLS}\ud800-\udfff]"
_PARTIAL = r"(?:\r|\x1b[^\n]{0,256})\Z"


def clean(text: str) -> str:
    """Return `text` without anything that would steer the terminal.

    Escape sequences and control characters go, lone surrogates (which cannot be encoded) become U+FFFD,
    and every character that some part of the program would take for a line end becomes a newline, so that
    all agree on how many lines there are.
    """
    if text.isprintable() or not re.search(_UNSAFE, text):  # the former is ten times as fast
        return text
    text = re.sub(_ESCAPE, "", text)
    text = re.sub(_NEWLINE, "\n", text)
    return re.sub(_SURROGATE, "\ufffd", re.sub(_CONTROL, "", text))


def is_text(character: str) -> bool:
    """Whether a key with this character writes it: all but control characters, tab and line ends do.

    More than what Python calls printable: blanks of every width, joiners, characters of private use.
    """
    return bool(character) and character not in "\t\n" and clean(character) == character


def without_surrogates(text: str) -> str:
    """Return `text` with U+FFFD in place of lone surrogates, which no file and no terminal can hold."""
    try:
        text.encode()  # ten times as fast as a search
    except UnicodeEncodeError:
        return re.sub(_SURROGATE, "\ufffd", text)
    return text


def one_line(text: str) -> str:
    """Return `text` cleaned and with every run of white space as one blank: for titles, tables, popups."""
    return " ".join(clean(text).split())


def flat(text: str) -> str:
    """Return `text` cleaned and on one line, each line end as a blank: for rows that are laid out."""
    return clean(text).replace("\n", " ")


def inert(text: str) -> str:
    """Return `text`, which is laid out already, without anything that a terminal would obey.

    Tabs and line ends go too. What goes takes no cells, and what takes one is replaced: all else stays where
    it was laid out.
    """
    if text.isprintable() or not re.search(_OBEYED, text):
        return text
    return re.sub(_SURROGATE, "\ufffd", re.sub(_WITHOUT_CELL, "", text))


def escape_unsafe(text: str) -> str:
    """Return JSON in which the characters that `clean` would take away are written as escapes."""
    return re.sub(_UNSAFE, lambda found: json.dumps(found.group())[1:-1], text)


def split_partial(text: str) -> tuple[str, str]:
    """Split streamed raw `text` into what can be cleaned now and an unfinished sequence at its end.

    A stream may be cut inside an escape sequence or between CR and LF; cleaning such a half on its own
    would leave its other half as letters on the screen.
    """
    match = re.search(_PARTIAL, text)
    if match is None or re.fullmatch(_ESCAPE, match.group()):
        return text, ""
    start = match.start()
    if match.group() != "\r":  # the last escape character may stand after finished sequences
        start = text.rindex("\x1b")
        if re.compile(_ESCAPE).match(text, start):
            return text, ""
    return text[:start], text[start:]

"""Kitty's graphics protocol with Unicode placeholders, which kitty and Ghostty know.

A picture is sent once, under a number. Where it is to be seen stand cells with the character U+10EEEE, whose
colour is the number and whose marks are row and column: text for everything in between.
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.color import Color
from textual.content import Content
from textual.style import Style

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PLACE = "\U0010eeee"
MARKS = (
    "\u0305\u030d\u030e\u0310\u0312\u033d\u033e\u033f\u0346\u034a\u034b\u034c\u0350\u0351\u0352\u0357"
    "\u035b\u0363\u0364\u0365\u0366\u0367\u0368\u0369\u036a\u036b\u036c\u036d\u036e\u036f\u0483\u0484"
    "\u0485\u0486\u0487\u0592\u0593\u0594\u0595\u0597\u0598\u0599\u059c\u059d\u059e\u059f\u05a0\u05a1"
    "\u05a8\u05a9\u05ab\u05ac\u05af\u05c4\u0610\u0611\u0612\u0613\u0614\u0615\u0616\u0617\u0657\u0658"
    "\u0659\u065a\u065b\u065d\u065e\u06d6\u06d7\u06d8\u06d9\u06da\u06db\u06dc\u06df\u06e0\u06e1\u06e2"
    "\u06e4\u06e7\u06e8\u06eb\u06ec\u0730\u0732\u0733\u0735\u0736\u073a\u073d\u073f\u0740\u0741\u0743"
    "\u0745\u0747\u0749\u074a\u07eb\u07ec\u07ed\u07ee\u07ef\u07f0\u07f1\u07f3\u0816\u0817\u0818\u0819"
    "\u081b\u081c\u081d\u081e\u081f\u0820\u0821\u0822\u0823\u0825\u0826\u0827\u0829\u082a\u082b\u082c"
)
"""The protocol's marks for 0, 1, 2 …, as far as they are needed."""
MOST = len(MARKS)
"""Columns and rows."""
PIECE = 4096
"""Characters of base64 that are sent at once."""
FIRST_KITTY = (4000, 28)
"""As kitty 0.28 says it when it is asked: the first of its numbers and 4000, and the second."""
_NUMBERS = 1 << 24
"""As many as there are colours."""


def is_known(environment: Mapping[str, str], version: Sequence[int]) -> bool:
    """Whether the terminal is one that knows placeholders, and no multiplexer is in between.

    Args:
        environment: by which Ghostty is told.
        version: what the terminal says it is: kitty before 0.28 shows placeholders as the character they are.
    """
    if version[:1] == [1] and len(version) > 2 and version[1] >= FIRST_KITTY[0]:
        return tuple(version[1:3]) >= FIRST_KITTY
    term = environment.get("TERM", "")
    if environment.get("TMUX") or term.startswith(("tmux", "screen")):
        return False
    return term == "xterm-ghostty" or environment.get("TERM_PROGRAM") == "ghostty"


def first_number() -> int:
    """Return a number to begin from, which hardly another program has."""
    return random.randrange(1, _NUMBERS)


def next_number(number: int) -> int:
    """Return the number of the next picture; never 0."""
    return number % (_NUMBERS - 1) + 1


def transmit(number: int, picture: Picture, columns: int, rows: int) -> str:
    """Return what sends a picture, to be seen in so many cells. The terminal answers nothing."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    head = f"a=T,U=1,f=100,t=d,q=2,i={number},c={columns},r={rows},"
    return "".join(
        f"\x1b_G{'' if place else head}m={int(place + 1 < len(pieces))};{piece}\x1b\\"
        for place, piece in enumerate(pieces)
    )


def forget(number: int) -> str:
    """Return what lets the terminal drop a picture."""
    return f"\x1b_Ga=d,d=I,q=2,i={number}\x1b\\"


def lines(number: int, columns: int, rows: int) -> list[Content]:
    """Return the cells in which the picture is seen."""
    style = Style(foreground=Color(number >> 16, number >> 8 & 255, number & 255))
    marks = MARKS[:columns]
    return [
        Content.styled("".join(f"{PLACE}{MARKS[row]}{mark}" for mark in marks), style) for row in range(rows)
    ]

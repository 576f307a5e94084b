"""What is drawn loses what would steer the terminal, whichever widget drew it."""

from __future__ import annotations

from rich.console import Console
from rich.segment import Segment
from textual.strip import Strip

from glmtui.text.clean import inert
from glmtui.tui.pictures.sixel import SIXEL

_KEY = SIXEL.encode()
"""As it stands in the meta data of a style, which Rich keeps as bytes."""


def install() -> None:
    """Clean strips where they become what is written to the terminal.

    Textual 8.2 writes the text and the links of segments as they are; not reported upstream. Unlike the other
    modules this one works in every release: it replaces a public method, and no release may go without it.
    """
    textuals = Strip.render
    if textuals.__module__ == __name__:  # replaced already
        return

    def render(strip: Strip, /, console: Console) -> str:
        text = strip.text
        if inert(text) != text or any(style and style.link for _text, style, _control in strip):
            strip = Strip(map(_cleaned, strip), strip.cell_length)
        if any(_sixels(segment) for segment in strip):
            return "".join(textuals(Strip([segment]), console) + _sixels(segment) for segment in strip)
        return textuals(strip, console)

    Strip.render = render  # type: ignore[method-assign, assignment]


def _sixels(segment: Segment) -> str:
    """Return what draws the pixels over blanks that were written, if they have some and none is cut off."""
    text, style, _control = segment
    if style is None or not style._meta or _KEY not in style._meta:
        return ""
    pixels = style.meta.get(SIXEL)
    if not isinstance(pixels, tuple) or len(text) != pixels[0]:
        return ""
    return f"\x1b7\x1b[{pixels[0]}D{pixels[1]}\x1b8"


def _cleaned(segment: Segment) -> Segment:
    text, style, control = segment
    if style is not None and style.link and inert(style.link) != style.link:
        style = style.update_link(inert(style.link))
    return Segment(inert(text), style, control)

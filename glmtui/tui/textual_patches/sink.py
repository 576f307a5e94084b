"""What is drawn loses what would steer the terminal, whichever widget drew it."""

from __future__ import annotations

from rich.console import Console
from rich.segment import Segment
from textual.strip import Strip

from glmtui.text.clean import inert


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
        return textuals(strip, console)

    Strip.render = render  # type: ignore[method-assign, assignment]


def _cleaned(segment: Segment) -> Segment:
    text, style, control = segment
    if style is not None and style.link and inert(style.link) != style.link:
        style = style.update_link(inert(style.link))
    return Segment(inert(text), style, control)

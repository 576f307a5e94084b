"""What is drawn, and what of it reaches the terminal."""

from __future__ import annotations

import pytest
from hostile import HOSTILE, steering
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from glmtui.text.clean import inert
from glmtui.tui.textual_patches import sink

SGR = r"\x1b\[[\d;]*m"
LINK = r"\x1b\]8;[^\x1b]*\x1b\\"


@pytest.mark.parametrize(
    "style", [None, Style(bold=True, color="red"), Style(link=f"https://example.org/{HOSTILE}")]
)
def test_segments_are_cleaned_where_they_are_written(style: Style | None) -> None:
    sink.install()
    strip = Strip([Segment("你好 "), Segment(f"{HOSTILE}\ttext", style)])
    console = Console(color_system="truecolor")
    written = strip.render(console)
    assert "\n" not in written
    assert "\t" not in written
    assert steering(written, SGR, LINK) == []


def test_what_goes_takes_no_cells() -> None:
    text = f"a{HOSTILE}b\tc"
    assert Strip([Segment(inert(text))]).cell_length == Strip([Segment(text)]).cell_length

"""How text that is being written is broken into lines: as in the transcript, right for Chinese."""

from __future__ import annotations

from typing import Any

from glmtui.tui.textual_patches import textual_is


def install() -> None:
    """Make Textual's text areas break lines this way.

    Textual 8.2 takes a run of Chinese for one word, and lets a line begin with ``。``; not reported upstream.
    It has no place to say otherwise: its documents call one function, which is replaced here.
    """
    if not textual_is((8, 2)):
        return
    from textual.document import _wrapped_document

    from glmtui.tui.transcript.typeset.lines import breaks

    module: Any = _wrapped_document
    textuals = module.compute_wrap_offsets
    if textuals.__module__ == __name__:  # replaced already
        return

    def compute_wrap_offsets(text: str, width: int, *arguments: Any, **options: Any) -> list[int]:
        if "\t" in text:  # has no width of its own
            found: list[int] = textuals(text, width, *arguments, **options)
            return found
        return breaks(text, width, hanging=False) if len(text) * 2 > width else []

    module.compute_wrap_offsets = compute_wrap_offsets

"""Keys that write text, whichever text it is."""

from __future__ import annotations

from textual.events import Key

from glmtui.text.clean import is_text
from glmtui.tui.textual_patches import textual_is


def install() -> None:
    """Let text areas and fields take every character that is text.

    Textual 8.2 asks whether it is printable, which Python denies of the ideographic space (U+3000), of
    no-break and thin blanks, of joiners (in emoji and in Persian) and of private use: input methods and macOS
    type them. Not reported upstream.
    """
    if textual_is((8, 2)):
        Key.is_printable = property(lambda key: is_text(key.character or ""))  # type: ignore[assignment]

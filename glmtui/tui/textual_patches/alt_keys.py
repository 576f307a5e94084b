"""Alt with a letter or with Enter, as terminals without the Kitty protocol send it: Escape, then the key."""

from __future__ import annotations

from string import ascii_lowercase
from types import SimpleNamespace
from typing import cast

from glmtui.tui.textual_patches import textual_is


def install() -> None:
    """Add these sequences to those that Textual knows.

    Textual 8.2 passes such a letter on as a key that also types it, so that Alt+P wrote a p into the composer
    (xterm, tmux): not reported upstream. It takes Alt+Enter for Enter, which sent the message:
    Textualize/textual#6577 (open).
    """
    if not textual_is((8, 2)):
        return
    from textual._ansi_sequences import ANSI_SEQUENCES_KEYS

    table = cast("dict[str, object]", ANSI_SEQUENCES_KEYS)
    names = {f"\x1b{letter}": f"alt+{letter}" for letter in ascii_lowercase} | {"\x1b\r": "alt+enter"}
    for sequence, name in names.items():
        table.setdefault(sequence, (SimpleNamespace(value=name),))  # Textual reads nothing but the value

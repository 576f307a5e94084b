"""The terminal of an app, for what Textual has no method for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.app import App

if TYPE_CHECKING:
    from glmtui.tui.textual_patches.driver import TerminalDriver


def driver(app: App[Any]) -> TerminalDriver | None:
    """Return what speaks with the terminal of `app`; None in tests, and where it is Textual's own."""
    found = getattr(app, "_driver", None)
    return found if hasattr(found, "give_up_output") else None


WHAT_ARE_YOU = "\x1b[c"
"""Asks the terminal for its attributes."""
WHICH_VERSION = "\x1b[>c"
"""Asks it which program it is like, and of which version."""
SIXELS = 4
"""The attribute of one that draws them."""


def cell(app: App[Any]) -> tuple[int, int]:
    """Return width and height of a cell in pixels; zeros where the terminal does not tell."""
    if (found := driver(app)) is None:
        return 0, 0
    return found.cell()


def send(app: App[Any], sequence: str) -> None:
    """Write `sequence` to the terminal of `app` (Textual 8.2; not reported upstream)."""
    if (driver := getattr(app, "_driver", None)) is not None:
        driver.write(sequence)

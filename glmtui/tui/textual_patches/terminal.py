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


def send(app: App[Any], sequence: str) -> None:
    """Write `sequence` to the terminal of `app` (Textual 8.2; not reported upstream)."""
    if (driver := getattr(app, "_driver", None)) is not None:
        driver.write(sequence)

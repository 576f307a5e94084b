"""Escape sequences that Textual has no method for."""

from __future__ import annotations

from typing import Any

from textual.app import App


def send(app: App[Any], sequence: str) -> None:
    """Write `sequence` to the terminal of `app` (Textual 8.2; not reported upstream)."""
    if (driver := getattr(app, "_driver", None)) is not None:
        driver.write(sequence)

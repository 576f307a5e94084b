"""Copying: through the terminal (OSC 52), which works over ssh, and through the platform's own tool."""

from __future__ import annotations

import os
import sys

from glmtui.i18n import _


def copy_with_tool(text: str) -> bool:
    """Copy by the platform's tool (pbcopy, clip, wl-copy, xclip …); return whether it is there now.

    It is read back, as a tool that fails (no such display) does not say so. This may take a moment.
    """
    import pyperclip

    if not (sys.platform in ("win32", "darwin") or _has_display()):
        return False
    try:
        pyperclip.copy(text)
        return str(pyperclip.paste()).replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
    except (pyperclip.PyperclipException, OSError, UnicodeDecodeError):
        return False


def said(copied_by_tool: bool) -> str:
    """Say honestly what is known: a terminal does not tell whether it took the text."""
    if copied_by_tool:
        return _("Copied")
    return _(
        "Sent to the terminal's clipboard. If pasting gives something else, your terminal does not allow it."
    )


def _has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""Copying: through the terminal (OSC 52), which works over ssh, and through the platform's own tool."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress

from glmtui.i18n import _

TOOL_SECONDS = 3.0
"""For the platform's tool, which may wait for a display that does not answer."""


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


async def copied_with_tool(text: str) -> bool:
    """Copy by the platform's tool, not waiting for one that hangs; return whether the text is there now."""
    loop = asyncio.get_running_loop()
    copied: asyncio.Future[bool] = loop.create_future()

    def tell(found: bool) -> None:
        if not copied.done():
            copied.set_result(found)

    def work() -> None:
        found = copy_with_tool(text)
        with suppress(RuntimeError):  # the app was closed meanwhile
            loop.call_soon_threadsafe(tell, found)

    # Not the loop's own threads: the program would wait for a tool that hangs before it ends.
    threading.Thread(target=work, name="glmtui-clipboard", daemon=True).start()
    done, _waiting = await asyncio.wait([copied], timeout=TOOL_SECONDS)
    return bool(done) and copied.result()


def said(copied_by_tool: bool) -> str:
    """Say honestly what is known: a terminal does not tell whether it took the text."""
    if copied_by_tool:
        return _("Copied")
    return _(
        "Sent to the terminal's clipboard. If pasting gives something else, your terminal does not allow it."
    )


def _has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""The table of keys in the form of Textual."""

from __future__ import annotations

from textual.binding import Binding

from glmtui.session.keys import BY_ID, KEYS, Scope


def bindings(scope: Scope) -> list[Binding]:
    """Return the Textual bindings of `scope`, for a widget's ``BINDINGS``."""
    return [
        Binding(key.keys, key.action, key.help, id=key.id, priority=key.priority, show=bool(key.hint))
        for key in KEYS
        if key.scope == scope
    ]


def interrupting() -> list[Binding]:
    """Return the binding that stops and quits, for screens over the chat, which keep the app's keys off."""
    key = BY_ID["app.interrupt"]
    return [Binding(key.keys, f"app.{key.action}", key.help, id=key.id, show=False)]

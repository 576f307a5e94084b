"""A full-screen terminal chat for ChatGLM models, and the engine behind it.

>>> import glmtui
>>> model = glmtui.load()                        # the built-in model; or a folder, a hub id, a short name
>>> response, history = model.chat("你好")

Importing this package is cheap: torch comes with the first `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glmtui.version import __version__

if TYPE_CHECKING:
    from glmtui.engine.loader import load
    from glmtui.integrations.transformers import register
    from glmtui.models.chat_tokenizer import load_tokenizer

__all__ = ["__version__", "load", "load_tokenizer", "register"]

_HOMES = {
    "load": "glmtui.engine.loader",
    "load_tokenizer": "glmtui.models.chat_tokenizer",
    "register": "glmtui.integrations.transformers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""Teaching a model: P-tuning v2 and LoRA on top of weights that stay as they are.

``options`` and ``progress`` are plain data; ``job`` does a whole run, from rows of text to a folder that
the chat loads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glmtui.training.prefix_trainer import PrefixTrainer

__all__ = ["PrefixTrainer"]


def __getattr__(name: str) -> Any:
    if name != "PrefixTrainer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from glmtui.training.prefix_trainer import PrefixTrainer

    return PrefixTrainer

"""A full-screen terminal chat for ChatGLM models, and the engine behind it.

>>> import glmtui
>>> model = glmtui.load()                        # the built-in model; or a folder, a hub id, a short name
>>> response, history = model.chat("你好")

Importing this package is cheap: torch comes with the first `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from glmtui.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from glmtui.engine.chat_model import ChatModel
    from glmtui.engine.loader import Progress
    from glmtui.integrations.transformers import register
    from glmtui.models.chat_tokenizer import load_tokenizer
    from glmtui.protocol.models import Cache, Quant

__all__ = ["__version__", "load", "load_tokenizer", "register"]

_HOMES = {
    "load_tokenizer": "glmtui.models.chat_tokenizer",
    "register": "glmtui.integrations.transformers",
}


def load(
    source: str | Path | None = None,
    *,
    quant: Quant | Literal[4, 8] | None = None,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    ptuning: str | Path | None = None,
    lora: str | Path | None = None,
    gpus: int | str | Path | None = None,
    threads: int | None = None,
    cache: Cache = "auto",
    progress: Progress | None = None,
) -> ChatModel:
    """Load a model.

    Args:
        source: a folder, a hub id or a short name; None is the built-in model. A folder without a tokenizer
            loads for `logits` and `generate`.
        quant: bits per weight, or ``none``; None keeps what the files are.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        dtype: of the weights that are not quantised, and of the products; None takes the device's best. With
            quantised weights None also lets the CPU round activations to 8 bits, which is what makes it fast.
        ptuning: the folder of a P-tuning v2 checkpoint to put on top.
        lora: the folder of a LoRA, in PEFT's files, to put on top.
        gpus: over how many GPUs to spread the model, or a JSON file that says what goes where; None is one.
        threads: for products on the CPU; None takes the physical cores, or one for a tiny model.
        cache: how keys and values lie in memory: ``float``, ``int8`` (on the CPU), or ``auto``.
        progress: called after every tensor with the stage, the bytes done and those in all; it may raise.

    Raises:
        UserError: the model cannot be found, read or run as asked; the message says what to do.
        OutOfMemoryError: it would not fit, which is estimated before anything is read; or the device says so.
    """
    from glmtui.engine import loader
    from glmtui.errors import BadValueError
    from glmtui.protocol.models import LocalModel
    from glmtui.protocol.phrases import _

    def text(value: object) -> str | None:
        return None if value is None else str(value)

    if threads is not None and not (isinstance(threads, int) and threads >= 0):
        raise BadValueError(_("{name} cannot be {value}.").format(name="threads", value=repr(threads)))
    spec = LocalModel(
        source=text(source),
        device=device,
        gpus=text(gpus),
        quant=cast("Quant | None", text(quant)),
        dtype=None if dtype is None else str(dtype).removeprefix("torch."),
        threads=threads,
        cache=cache,
        ptuning=text(ptuning),
        lora=text(lora),
    )
    return loader.load(spec, progress)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

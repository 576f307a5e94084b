"""Folders as SwissArmyTransformer writes them, in which VisualGLM-6B was first published.

``model_config.json`` says what the model is, ``latest`` names a folder, and that holds one pickle,
``mp_rank_00_model_states.pt``. Every fine-tuned VisualGLM comes like this. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmtui.errors import BadFileError, NotFoundError
from glmtui.hub.fields import Choice, Kind, check_fields
from glmtui.hub.files import read, read_json_object
from glmtui.protocol.phrases import _
from glmtui.text.quoting import quoted

CONFIG = "model_config.json"
WEIGHTS = "mp_rank_00_model_states.pt"
ROWS = "query_key_value_rows"
"""A field for ``model_config.json`` that tells the order of rows where the weights do not."""
PER_HEAD, THIRDS = "per head", "thirds"
_OWN: Mapping[str, Kind] = {ROWS: Choice((PER_HEAD, THIRDS))}
_NEEDED = (
    *("eva_args", "qformer_args", "num_layers", "hidden_size", "num_attention_heads", "vocab_size"),
    "bos_token_id",
)
_LATEST_BYTES = 1024


def is_sat(folder: Path) -> bool:
    """Whether `folder` looks like one of SwissArmyTransformer's, and like nothing else."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").exists()


def read_sat_config(folder: Path) -> dict[str, Any]:
    """Return ``model_config.json`` under the names of ``config.json``; nothing in it is compared yet.

    Raises:
        BadFileError: it cannot be read, or is of another model than VisualGLM.
    """
    file = folder / CONFIG
    found = read_json_object(file)
    check_fields(file, found, _OWN)
    name = found.get("model_class")
    if name not in ("VisualGLMModel", "FineTuneVisualGLMModel") and not (
        found.get("eva_args") and found.get("qformer_args")
    ):
        message = _(
            "{path} is of a model {name} of SwissArmyTransformer, of which glmtui reads VisualGLM alone."
        )
        raise BadFileError(message.format(path=file, name=quoted(name)))
    for part in _NEEDED:
        if not found.get(part):
            raise BadFileError(_("{path} does not say {name}.").format(path=file, name=part))
    config = {key: value for key, value in found.items() if key not in ("eva_args", "qformer_args")}
    config |= {
        "model_type": "chatglm",
        "torch_dtype": "float16",
        "eva_config": found.get("eva_args"),
        "qformer_config": found.get("qformer_args"),
    }
    if config.get("inner_hidden_size") is None and isinstance(hidden := config.get("hidden_size"), int):
        config["inner_hidden_size"] = 4 * hidden
    if config.get("eos_token_id") is None and isinstance(begin := config.get("bos_token_id"), int):
        config["eos_token_id"] = begin + 1  # <sop> and <eop>, in this order in every vocabulary
    return config


def weight_file(folder: Path) -> Path:
    """Return the pickle with the weights.

    Raises:
        UserError: ``latest`` or the file it leads to is missing, or is not what it should be.
    """
    step = latest(folder)
    file = folder / step / WEIGHTS
    if not file.exists():
        message = _(
            "{path} says that the weights are in {folder}, but there is no {file}. Download it again."
        )
        raise NotFoundError(
            message.format(path=folder / "latest", folder=quoted(step), file=f"{quoted(step)}/{WEIGHTS}")
        )
    return file


def latest(folder: Path) -> str:
    """Return what ``latest`` says: the steps of training, and the folder of their weights.

    Raises:
        UserError: there is no such file, or it names no folder in this one.
    """
    file = folder / "latest"
    try:
        step = read(file, _LATEST_BYTES).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        message = _("{path} has no file {name}, which says where its weights are. Download it again.")
        raise NotFoundError(message.format(path=folder, name="latest")) from None
    if not step or step in (".", "..") or set(step) & set("/\\\0\n"):
        message = _("{path} names no folder: {value}")
        raise BadFileError(message.format(path=file, value=quoted(step)))
    return step

"""What people take for a model that glmtui reads and is none: files for other programs, parts of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from glmtui.errors import BadFileError
from glmtui.hub.files import open_regular, read_json_object
from glmtui.protocol.phrases import NOTHING, Option, Phrase, _, sentences
from glmtui.text.quoting import quoted

_MAGIC: Mapping[bytes, str] = {
    b"GGUF": "GGUF",
    **dict.fromkeys((b"ggml", b"lmgg", b"ggmf", b"fmgg", b"ggjt", b"tjgg", b"ggla", b"algg"), "GGML"),
    b"PAR1": "Parquet",
    b"\x89HDF": "HDF5",
}
"""What files of other programs begin with; those of GGML in both orders of bytes."""
_SUFFIXES: Mapping[str, str] = {
    ".gguf": "GGUF",
    ".ggml": "GGML",
    ".onnx": "ONNX",
    ".h5": "HDF5",
    ".mlmodel": "Core ML",
    ".mnn": "MNN",
    ".tflite": "TensorFlow Lite",
}
_ADAPTER = "adapter_config.json"


def explain(place: Path) -> Phrase:
    """Say what a file is, or a folder holds, that is no model; nothing where that is not known."""
    if place.is_file():
        return other_program(place)
    if (place / _ADAPTER).is_file():
        return _adapter(place)
    try:
        inside = sorted(place.iterdir())
    except OSError:
        return NOTHING
    for file in inside:
        if file.is_file() and (found := other_program(file)):
            return found
    return NOTHING


def lora(path: Path, base: str = "") -> Phrase:
    """Say that a folder or file holds a LoRA adapter, and what to do with it."""
    message = _(
        "{path} holds a LoRA adapter, not a whole model. Load the model it was trained on, with {option}"
    ).format(path=path, option=Option("lora", path))
    return sentences(message, _("It was trained on {base}.").format(base=base)) if base else message


def _adapter(folder: Path) -> Phrase:
    try:
        base = read_json_object(folder / _ADAPTER).get("base_model_name_or_path")
    except BadFileError:
        base = None
    return lora(folder, quoted(base) if isinstance(base, str) else "")


def other_program(file: Path) -> Phrase:
    """Say that a weight file is for other programs; nothing where it is not known to be."""
    try:
        with open_regular(file) as stream:
            form = _MAGIC.get(stream.read(4)) or _SUFFIXES.get(file.suffix.lower())
    except (BadFileError, FileNotFoundError):
        return NOTHING
    if form is None:
        return NOTHING
    message = _(
        "{path} is a model in the format {form}, which other programs read and glmtui does not. Take the "
        "model as it was published: safetensors or pytorch_model.bin, with its config.json."
    )
    return message.format(path=file, form=form)

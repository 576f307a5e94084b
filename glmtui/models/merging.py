"""A LoRA made part of the weights: a model folder that needs it no more, for other programs or to be
quantised."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from glmtui.atomic import sync_directory
from glmtui.errors import BadValueError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.checkpoint import Checkpoint, expected_shapes, new_network
from glmtui.models.lora import read_products
from glmtui.models.weight_files import write_tensors
from glmtui.protocol.phrases import _
from glmtui.quant.partial import partial_folder, remove_leftovers, sync_file

SHARD = 2 << 30
"""Bytes of a weight file, above which another one begins."""
_COPIED = (".json", ".jinja", ".model", ".txt", ".py", ".md")


def merge(source: ModelFolder, lora: Path, target: Path, done: Callable[[int], None] | None = None) -> None:
    """Write the model `source` with a LoRA's products added to its weights to the new folder `target`.

    Args:
        source: in floating point; each tensor keeps its type.
        lora: the folder of the adapter.
        target: is complete or not there.
        done: told of the bytes that were written.

    Raises:
        UserError: `source` is quantised, or one of the two is damaged or made for another.
        OSError: there is no room or no permission, or `target` is there already.
    """
    if source.quant != "none":
        message = _(
            "{path} is quantised: what a LoRA adds would be lost in rounding. Merge into the model as it was "
            "before, then quantise that."
        )
        raise BadValueError(message.format(path=source.path))
    network = new_network(source)
    gains = {f"{name}.weight": product for name, product in read_products(lora, network).named()}

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in Checkpoint(source).tensors(expected_shapes(network), network.TIED):
            gain = gains.get(name)
            yield name, tensor if gain is None else (tensor.float() + gain.weight).to(tensor.dtype)

    remove_leftovers(target.parent, target.name)
    with partial_folder(target) as made:
        _write_shards(tensors(), made, done or (lambda _count: None))
        for file in source.path.iterdir():
            if file.is_file() and file.suffix in _COPIED and not file.name.endswith(".index.json"):
                shutil.copyfile(file, made / file.name)
        for file in made.iterdir():
            sync_file(file)
        made.rename(target)
    sync_directory(target.parent)


def _write_shards(tensors: Iterator[tuple[str, Tensor]], folder: Path, done: Callable[[int], None]) -> None:
    places: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    count = 0

    def write() -> None:
        nonlocal count, shard
        count += 1
        file = f"model-{count:05}.safetensors"
        write_tensors(shard, folder / file)
        places.update(dict.fromkeys(shard, file))
        done(sum(tensor.nbytes for tensor in shard.values()))
        shard = {}

    for name, tensor in tensors:
        shard[name] = torch.empty_like(tensor).copy_(tensor)  # its file is let go
        if sum(each.nbytes for each in shard.values()) >= SHARD:
            write()
    if shard:
        write()
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")

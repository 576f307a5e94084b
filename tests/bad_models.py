"""Model folders that are wrong in one way each, and what a person must be told about them."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from tiny_model import write_tiny_model, write_tiny_model2

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 1234567890\n"


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def _state(folder: Path) -> dict[str, torch.Tensor]:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return state


def _shard(folder: Path) -> list[Path]:
    """Split the weights into two shards with an index."""
    state = _state(folder)
    names, shards, weight_map = sorted(state), [], {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = folder / f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in part}, file)
        weight_map |= dict.fromkeys(part, file.name)
        shards.append(file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return shards


def _change_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def lfs_pointer(folder: Path) -> None:
    _shard(folder)[1].write_bytes(LFS_POINTER)


def lfs_pointer_tokenizer(folder: Path) -> None:
    (folder / "ice_text.model").write_bytes(LFS_POINTER)


def truncated_shard(folder: Path) -> None:
    file = _shard(folder)[1]
    file.write_bytes(file.read_bytes()[:-1000])


def truncated_safetensors(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def corrupt_shard(folder: Path) -> None:
    file = _shard(folder)[1]
    content = bytearray(file.read_bytes())
    weights = max(torch.load(file, weights_only=True).values(), key=torch.Tensor.numel)
    content[content.index(weights.numpy().tobytes()) + 100] ^= 1
    file.write_bytes(content)


def missing_shard(folder: Path) -> None:
    _shard(folder)[0].unlink()


def tensors_missing_from_the_index(folder: Path) -> None:
    """A shard that was left out of the index, file and all."""
    first, second = _shard(folder)
    names = torch.load(first, weights_only=True)
    second.unlink()
    index = {"weight_map": dict.fromkeys(names, first.name)}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def wrong_shapes(folder: Path) -> None:
    _change_config(folder, inner_hidden_size=96)


def unknown_architecture(folder: Path) -> None:
    _change_config(folder, model_type="llama")


def executing_pickle(folder: Path) -> None:
    state: dict[str, object] = {**_state(folder)}
    state["transformer.final_layernorm.bias"] = Malicious(folder.with_name("executed"))
    torch.save(state, folder / "pytorch_model.bin")


def plain_executing_pickle(folder: Path) -> None:
    _state(folder)
    content = pickle.dumps({"lm_head.weight": Malicious(folder.with_name("executed"))}, protocol=2)
    (folder / "pytorch_model.bin").write_bytes(content)


def foreign_tokenizer(folder: Path) -> None:
    """Of another size than the embedding."""
    other = write_tiny_model2(folder.with_name("other"))
    (folder / "ice_text.model").write_bytes((other / "tokenizer.model").read_bytes())


def no_tokenizer(folder: Path) -> None:
    (folder / "ice_text.model").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def too_big(folder: Path) -> None:
    """A thousand layers of the widest kind: thousands of gigabytes by its sizes."""
    _change_config(folder, num_layers=1000, hidden_size=16384, inner_hidden_size=65536)


BAD: Mapping[Callable[[Path], None], tuple[str, ...]] = {
    lfs_pointer: ("pytorch_model-00002-of-00002.bin", "Git-LFS pointer", "git lfs pull"),
    lfs_pointer_tokenizer: ("ice_text.model", "Git-LFS pointer", "git lfs pull"),
    truncated_shard: ("pytorch_model-00002-of-00002.bin", "cut short", "Download it again"),
    truncated_safetensors: ("model.safetensors", "cut short", "Download it again"),
    corrupt_shard: ("pytorch_model-00002-of-00002.bin", "damaged", "Download it again"),
    missing_shard: ("pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "Download it again"),
    tensors_missing_from_the_index: ("model", "lacks", "transformer.", "Download the model again"),
    wrong_shapes: ("model.safetensors", "shape", "config.json", "do not belong together"),
    unknown_architecture: ("config.json", "llama"),
    executing_pickle: ("pytorch_model.bin", "refused", "nothing was run", "do not use this file"),
    plain_executing_pickle: ("pytorch_model.bin", "refused", "nothing was run"),
    foreign_tokenizer: ("ice_text.model", "does not belong"),
    no_tokenizer: ("ice_text.model", "is missing", "next to the weights"),
    no_config: ("config.json",),
    too_big: ("model", "needs about", "are free"),
}
"""What makes a folder bad, and words that its message must have."""


def write_bad_model(folder: Path, spoil: Callable[[Path], None]) -> Path:
    """Write a good model and spoil it."""
    write_tiny_model(folder)
    spoil(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}

"""A model folder as it lies on disk: which family it is, which files hold its weights, what it needs.

Reads only ``config.json``, the index and file sizes, and imports no torch: recognising a 13 GB checkpoint
takes a few milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glmtui import paths
from glmtui.errors import BadFileError, NotFoundError
from glmtui.protocol.phrases import Option, _

if TYPE_CHECKING:
    from glmtui.protocol.models import Quant

Family = Literal[
    "chatglm", "chatglm2", "chatglm3", "codegeex2", "chatglm4", "glm", "glm4", "glm4_moe", "glm4_moe_lite"
]
"""``chatglm4`` is GLM-4-9B in its first layout; the last four are what transformers calls newer ones."""

TRANSFORMERS: tuple[Family, ...] = ("glm", "glm4", "glm4_moe", "glm4_moe_lite")
"""The families that run through transformers' own classes, by its ``model_type``."""

TOKENIZER_FILES: Mapping[Family, str] = {
    "chatglm": "ice_text.model",
    "chatglm2": "tokenizer.model",
    "chatglm3": "tokenizer.model",
    "codegeex2": "tokenizer.model",
    "chatglm4": "tokenizer.model",
    **dict.fromkeys(TRANSFORMERS, "tokenizer.json"),
}
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The names that transformers gives a checkpoint; a sharded one has an index ``<name>.index.json``."""

_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Sizes:
    """How many weights there are, computed from a ``config.json``."""

    linear: int
    """Weights of the four linear layers of every block: what quantisation makes smaller."""
    rows: int
    """Output rows of those layers; each has a scale when quantised."""
    other: int
    """Embeddings, output layer, biases and norms; they stay as they are."""
    kv_per_token: int
    """Keys and values that one token adds to the cache, in numbers."""

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.linear + self.other

    def memory_bytes(self, quant: Quant, dtype_bytes: int = 4) -> int:
        """Bytes of the weights in memory, where what is not quantised takes `dtype_bytes` each."""
        if quant == "none":
            return (self.linear + self.other) * dtype_bytes
        return self.linear * int(quant) // 8 + self.rows * 4 + self.other * dtype_bytes


@dataclass(frozen=True)
class ModelFolder:
    """A folder in the published layout whose files are all there."""

    path: Path
    config: Mapping[str, Any]
    family: Family
    weight_files: tuple[Path, ...]
    """In the order in which they are to be read."""

    @classmethod
    def open(cls, path: str | Path) -> ModelFolder:
        """Recognise `path` and check that its weights are there.

        Raises:
            UserError: no such folder, no ``config.json``, an unknown architecture, no weights, a shard that
                is missing, or a Git-LFS pointer in the place of a file.
        """
        path = paths.typed(path)
        config = read_config(path)
        return cls(path, config, recognise(path, config), _weight_files(path))

    @property
    def file_bytes(self) -> int:
        """Size of the weights on disk."""
        return sum(file.stat().st_size for file in self.weight_files)

    @property
    def quant(self) -> Quant:
        """How the weights are stored: ``none`` for floating point."""
        return quant_of(self.config)

    @property
    def quantizes_embeddings(self) -> bool:
        """Whether embedding and output layer are stored quantised too (the discontinued int4-qe)."""
        return bool(self.config.get("quantization_embeddings")) and self.quant != "none"

    @property
    def sizes(self) -> Sizes:
        """How many weights there are."""
        return sizes_of(self.config)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the folder's ``config.json``.

    Raises:
        UserError: there is none, or it is not a JSON object.
    """
    if not folder.is_dir():
        raise NotFoundError(_("There is no folder {path}").format(path=folder))
    file = folder / "config.json"
    if not file.is_file():
        raise NotFoundError(
            _(
                "{path} has no config.json, so it is not a model folder. Give the folder that holds it."
            ).format(path=folder)
        )
    config = read_json(file)
    if not isinstance(config, dict):
        raise BadFileError(_("{path} is not a JSON object").format(path=file))
    return config


def read_json(file: Path) -> Any:
    """Return what a JSON file holds, or None where there is no such file.

    Raises:
        UserError: it cannot be read as JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        message = _("{path} cannot be read: {error}. Download it again.")
        raise BadFileError(message.format(path=file, error=error)) from error


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Return the folder's ``tokenizer_config.json``; nothing where it has none.

    Raises:
        UserError: it cannot be read as JSON.
    """
    settings = read_json(folder / "tokenizer_config.json")
    return settings if isinstance(settings, dict) else {}


def is_v2(config: Mapping[str, Any]) -> bool:
    """Whether a ChatGLM config is of the second architecture (ChatGLM2, ChatGLM3, CodeGeeX2)."""
    return "padded_vocab_size" in config or "multi_query_attention" in config


def recognise(folder: Path, config: Mapping[str, Any]) -> Family:
    """Tell the family of a folder by what its files say, and only then by its name.

    ChatGLM2, ChatGLM3 and CodeGeeX2 share one architecture and differ in how a conversation is written.

    Raises:
        UserError: the architecture is not known.
    """
    model_type = config.get("model_type")
    for newer in TRANSFORMERS:
        if model_type == newer:
            return newer
    if model_type != "chatglm":
        raise BadFileError(
            _(
                "{path} holds a model of type {model_type}, which glmtui does not know. It runs ChatGLM-6B, "
                "ChatGLM2-6B, ChatGLM3-6B, CodeGeeX2-6B, and GLM-4 and later of the types {types}."
            ).format(path=folder / "config.json", model_type=model_type, types=", ".join(TRANSFORMERS))
        )
    if not is_v2(config):
        return "chatglm"
    if (config.get("padded_vocab_size") or 0) > 150_000:  # 151,552 in every GLM-4; 65,024 before
        return "chatglm4"
    tokenizer = read_tokenizer_config(folder)
    if any(
        _mentions(folder / name, "<|user|>") for name in ("tokenizer_config.json", "tokenization_chatglm.py")
    ):
        return "chatglm3"
    # A hub cache has the name two folders up: models--THUDM--chatglm3-6b/snapshots/0123abc.
    places = (
        config.get("_name_or_path"),
        tokenizer.get("name_or_path"),
        *reversed(folder.absolute().parts[-3:]),
    )
    families: tuple[Family, ...] = ("codegeex2", "chatglm3", "chatglm2")
    for place in places:
        for family in families:
            if family in str(place).lower():
                return family
    return "codegeex2" if config.get("torch_dtype") == "bfloat16" else "chatglm2"


def _mentions(file: Path, text: str) -> bool:
    return file.is_file() and text.encode() in file.read_bytes()


def quant_of(config: Mapping[str, Any]) -> Quant:
    """How a checkpoint with this config is stored.

    Raises:
        UserError: a quantisation that no ChatGLM was published with.
    """
    if other := config.get("quantization_config"):
        method = other.get("quant_method", other) if isinstance(other, dict) else other
        message = _(
            "config.json: the weights are quantised by {method}, which glmtui does not read. "
            "Take the model as it was published, and load it with {option} or 8."
        )
        raise BadFileError(message.format(method=method, option=Option("quant", 4)))
    bits = config.get("quantization_bit") or 0
    quants: dict[int, Quant] = {0: "none", 8: "8", 4: "4"}
    if bits not in quants:
        raise BadFileError(_("config.json: quantization_bit is {bits}, not 0, 4 or 8").format(bits=bits))
    return quants[bits]


def sizes_of(config: Mapping[str, Any]) -> Sizes:
    """Count the weights of a config.

    Raises:
        UserError: a size is missing.
    """
    try:
        if config.get("model_type") in TRANSFORMERS:
            return _sizes_of_glm(config)
        layers, hidden = config["num_layers"], config["hidden_size"]
        if is_v2(config):
            kv = config["kv_channels"]
            heads = config["num_attention_heads"]
            groups = config["multi_query_group_num"] if config.get("multi_query_attention") else heads
            ffn = config["ffn_hidden_size"]
            qkv = (heads + 2 * groups) * kv
            linear = hidden * qkv + heads * kv * hidden + 3 * hidden * ffn
            rows = qkv + 2 * hidden + 2 * ffn
            other = layers * (qkv + 2 * hidden) + hidden + 2 * config["padded_vocab_size"] * hidden
            kv_width = groups * kv
        else:
            inner = config["inner_hidden_size"]
            linear = 4 * hidden * hidden + 2 * hidden * inner
            rows = 5 * hidden + inner
            tables = 1 if config.get("tie_word_embeddings", True) else 2
            other = layers * (rows + 4 * hidden) + 2 * hidden + tables * config["vocab_size"] * hidden
            kv_width = hidden
    except KeyError as error:
        raise BadFileError(_("config.json does not say {name}").format(name=error)) from None
    return Sizes(layers * linear, layers * rows, other, kv_per_token=2 * layers * kv_width)


def _sizes_of_glm(config: Mapping[str, Any]) -> Sizes:
    """Count the weights of a GLM that transformers knows. Raises KeyError where a size is missing."""
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    heads = config["num_attention_heads"]
    if "kv_lora_rank" in config:  # what the cache holds is compressed, and padded to one width
        rank, rope, nope = config["kv_lora_rank"], config["qk_rope_head_dim"], config["qk_nope_head_dim"]
        query, low = heads * (nope + rope), config.get("q_lora_rank")
        products = [
            *([(low, hidden), (query, low)] if low else [(query, hidden)]),
            (rank + rope, hidden),
            (heads * (nope + config["v_head_dim"]), rank),
            (hidden, heads * config["v_head_dim"]),
        ]
        kv_width = max(rank, rope)
    else:
        head = config.get("head_dim") or hidden // heads
        kv_width = config["num_key_value_heads"] * head
        products = [(heads * head, hidden), (kv_width, hidden), (kv_width, hidden), (hidden, heads * head)]
    linear, rows = _count(products)
    linear, rows, routers = linear * layers, rows * layers, 0
    for layer in range(layers):
        experts = config.get("n_routed_experts", 0) if layer >= config.get("first_k_dense_replace", 1) else 0
        width, copies = config["intermediate_size"], 1
        if experts:
            width, copies = config["moe_intermediate_size"], experts + config.get("n_shared_experts", 1)
            routers += experts * (hidden + 1)
        more, more_rows = _count([(2 * width, hidden), (hidden, width)])
        linear, rows = linear + copies * more, rows + copies * more_rows
    tables = 1 if config.get("tie_word_embeddings") else 2
    norms = 4 if config["model_type"] == "glm4" else 2
    other = tables * config["vocab_size"] * hidden + layers * norms * hidden + hidden + routers
    if config.get("attention_bias"):
        other += layers * sum(out for out, _in in products[:-1])
    return Sizes(linear, rows, other, kv_per_token=2 * layers * kv_width)


def _count(products: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the weights and the rows of matrices ``(rows, columns)``."""
    return sum(rows * columns for rows, columns in products), sum(rows for rows, _columns in products)


def check_not_pointer(file: Path) -> None:
    """Raise UserError where `file` is what ``git clone`` leaves without Git LFS: a pointer of 130 bytes."""
    if file.stat().st_size < 1024:
        with file.open("rb") as stream:
            if stream.read(len(_LFS)) == _LFS:
                raise BadFileError(
                    _(
                        "{path} is only a Git-LFS pointer, not the file itself. Run `git lfs install` once, "
                        "then `git lfs pull` in that folder."
                    ).format(path=file)
                )


def _weight_files(folder: Path) -> tuple[Path, ...]:
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if index.is_file():
            content = read_json(index)
            weight_map = content.get("weight_map") if isinstance(content, dict) else None
            if not isinstance(weight_map, dict) or not weight_map:
                raise BadFileError(_("{path} has no weight_map. Download it again.").format(path=index))
            files = [folder / Path(str(shard)).name for shard in sorted(set(weight_map.values()))]
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise NotFoundError(
                    _(
                        "{index} names {files}, but there is no such file in {path}. Download it again."
                    ).format(index=index.name, files=", ".join(missing), path=folder)
                )
            break
        if (folder / name).is_file():
            files = [folder / name]
            break
    else:
        raise NotFoundError(
            _("{path} has no weights: neither {first} nor {second}, nor an index of shards").format(
                path=folder, first=WEIGHTS[0], second=WEIGHTS[1]
            )
        )
    for file in files:
        check_not_pointer(file)
    return tuple(files)

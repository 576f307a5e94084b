"""A model folder as it lies on disk: which family it is, which files hold its weights, what it needs.

Reads only ``config.json``, the index and file sizes, and imports no torch: recognising a 13 GB checkpoint
takes a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from glmtui import paths
from glmtui.errors import BadFileError, NotFoundError
from glmtui.hub import foreign, sat
from glmtui.hub.config import read_config, read_tokenizer_config
from glmtui.hub.files import (
    TEXT_BYTES,
    check_regular,
    open_regular,
    os_errors_for_people,
    read,
    read_json_object,
)
from glmtui.protocol.phrases import Option, _, listing
from glmtui.text.quoting import quoted

if TYPE_CHECKING:
    from glmtui.protocol.models import Quant

Family = Literal[
    "chatglm",
    "visualglm",
    "chatglm2",
    "chatglm3",
    "codegeex2",
    "chatglm4",
    "glm",
    "glm4",
    "glm4_moe",
    "glm4_moe_lite",
    "glm4v",
    "glm4v_moe",
    "glm46v",
    "glmga",
    "glm_ocr",
]
"""``chatglm4`` is GLM-4-9B in its first layout; those after it are what transformers calls newer ones."""

SEEING: tuple[Family, ...] = ("glm4v", "glm4v_moe", "glm46v", "glmga", "glm_ocr")
"""Those of them that see pictures: GLM-4.1V, GLM-4.5V, GLM-4.6V and what has its network, GLM-OCR."""
TRANSFORMERS: tuple[Family, ...] = ("glm", "glm4", "glm4_moe", "glm4_moe_lite", *SEEING)
"""The families that run through transformers' own classes, by its ``model_type``."""

TOKENIZER_FILES: Mapping[Family, str] = {
    "chatglm": "ice_text.model",
    "visualglm": "ice_text.model",
    "chatglm2": "tokenizer.model",
    "chatglm3": "tokenizer.model",
    "codegeex2": "tokenizer.model",
    "chatglm4": "tokenizer.model",
    **dict.fromkeys(TRANSFORMERS, "tokenizer.json"),
}
SECOND: tuple[Family, ...] = ("codegeex2", "chatglm3", "chatglm2")
"""The families of the second architecture, which only differ in how a conversation is written."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""The names that transformers gives a checkpoint; a sharded one has an index ``<name>.index.json``."""

NAMED_SHARDS = 5
"""Most files that a message names as missing."""
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
    vision: int = 0
    """What looks at pictures; it has at least 16 bits, also next to quantised weights."""

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.linear + self.other + self.vision

    def memory_bytes(self, quant: Quant, dtype_bytes: int = 4) -> int:
        """Bytes of the weights in memory, where what is not quantised takes `dtype_bytes` each."""
        if quant == "none":
            return self.parameters * dtype_bytes
        vision = self.vision * max(dtype_bytes, 2)
        return self.linear * int(quant) // 8 + self.rows * 4 + self.other * dtype_bytes + vision


@dataclass(frozen=True)
class ModelFolder:
    """A folder in the published layout whose files are all there."""

    path: Path
    config: Mapping[str, Any]
    """Its ``config.json``: see `glmtui.hub.config`."""
    family: Family
    weight_files: tuple[Path, ...]
    """In the order in which they are to be read."""

    @classmethod
    def open(cls, path: str | Path) -> ModelFolder:
        """Recognise `path` and check that its weights are there.

        Raises:
            UserError: no such folder, no ``config.json`` or one with a field that cannot be, an unknown
                architecture, no weights, a shard that is missing, or a Git-LFS pointer instead of a file.
        """
        path = paths.typed(path)
        with os_errors_for_people(path):
            config = read_config(path)
            return cls(path, config, recognise(path, config), _weight_files(path))

    @property
    def is_sat(self) -> bool:
        """Whether it is as SwissArmyTransformer writes it (`glmtui.hub.sat`)."""
        return sat.is_sat(self.path)

    @property
    def file_bytes(self) -> int:
        """Size of the weights on disk."""
        return sum(file.stat().st_size for file in self.weight_files)

    @property
    def quant(self) -> Quant:
        """How the weights are stored: ``none`` for floating point."""
        return quant_of(self.config)

    @property
    def sizes(self) -> Sizes:
        """How many weights there are."""
        return sizes_of(self.config)

    @property
    def tells_its_family(self) -> bool:
        """Whether files or names tell the family, so that it is more than what is likeliest."""
        return self.family not in SECOND or _told_family(self.path, self.config) is not None


def is_v2(config: Mapping[str, Any]) -> bool:
    """Whether a ChatGLM config is of the second architecture (ChatGLM2, ChatGLM3, CodeGeeX2)."""
    return "padded_vocab_size" in config or "multi_query_attention" in config


def sees(config: Mapping[str, Any]) -> bool:
    """Whether a ChatGLM config is VisualGLM's, which has the ``model_type`` of ChatGLM-6B."""
    auto_map = config.get("auto_map")
    classes = auto_map.values() if isinstance(auto_map, dict) else ()
    return bool(config.get("eva_config") or config.get("image_length")) or any(
        str(name).endswith("WithImage") for name in classes
    )


def recognise(folder: Path, config: Mapping[str, Any]) -> Family:
    """Tell the family of a folder by what its files say, and only then by its name.

    ChatGLM2, ChatGLM3 and CodeGeeX2 share one architecture and differ in how a conversation is written. Where
    neither files nor names tell which one it is, it is taken for a ChatGLM2.

    Raises:
        UserError: the architecture is not known.
    """
    model_type = config.get("model_type")
    if config.get("vision_config") and model_type in ("chatglm", *(set(TRANSFORMERS) - set(SEEING))):
        message = _(
            "{path}: this model sees by code of its own, as GLM-4V-9B, CogAgent-9B and GLM-Edge-V were "
            "published, which glmtui does not run. Take {models}, or let a server run this one and give its "
            "address: {option}"
        )
        raise BadFileError(
            message.format(
                path=folder / "config.json",
                models=listing(("GLM-4.1V-9B-Thinking", "VisualGLM-6B")),
                option=Option("model", "http://localhost:8000/v1"),
            )
        )
    for newer in TRANSFORMERS:
        if model_type == newer:
            return newer
    if model_type != "chatglm":
        raise BadFileError(
            _(
                "{path} holds a model of type {model_type}, which glmtui does not know. It runs ChatGLM-6B, "
                "VisualGLM-6B, ChatGLM2-6B, ChatGLM3-6B, CodeGeeX2-6B, and GLM-4 and later of the types "
                "{types}."
            ).format(
                path=folder / "config.json", model_type=quoted(model_type), types=", ".join(TRANSFORMERS)
            )
        )
    if not is_v2(config):
        return "visualglm" if sees(config) else "chatglm"
    if (config.get("padded_vocab_size") or 0) > 150_000:  # 151,552 in every GLM-4; 65,024 before
        return "chatglm4"
    return _told_family(folder, config) or "chatglm2"


def _told_family(folder: Path, config: Mapping[str, Any]) -> Family | None:
    """Return which of the second architecture's families a folder says that it is of, if it does."""
    tokenizer = read_tokenizer_config(folder)
    tokenizer_files = ("tokenizer_config.json", "tokenization_chatglm.py")
    if any(_mentions(folder / name, "<|user|>") for name in tokenizer_files):
        return "chatglm3"
    # A hub cache has the name two folders up: models--THUDM--chatglm3-6b/snapshots/0123abc.
    places = (
        config.get("_name_or_path"),
        tokenizer.get("name_or_path"),
        *reversed(folder.absolute().parts[-3:]),
    )
    for place in places:
        for family in SECOND:
            if family in str(place).lower():
                return family
    papers = ("MODEL_LICENSE", "MODEL_LICENSE.txt", "LICENSE", "README.md")
    return "codegeex2" if any(_mentions(folder / name, "CodeGeeX") for name in papers) else None


def _mentions(file: Path, text: str) -> bool:
    try:
        return text.encode() in read(file, TEXT_BYTES)
    except FileNotFoundError:
        return False


def quant_of(config: Mapping[str, Any]) -> Quant:
    """How a checkpoint with this config is stored.

    Raises:
        UserError: a quantisation that no ChatGLM was published with.
    """
    if other := config.get("quantization_config"):
        method = quoted(other.get("quant_method", other) if isinstance(other, dict) else other)
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


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields about the language model, which those that see have in a ``text_config``."""
    return {**config, **(config.get("text_config") or {}), "model_type": config.get("model_type")}


def sizes_of(config: Mapping[str, Any]) -> Sizes:
    """Count the weights of a config.

    Raises:
        UserError: a size is missing.
    """
    config = {name: value for name, value in config.items() if value is not None}
    try:
        if config.get("model_type") in SEEING:
            text = {name: value for name, value in text_config(config).items() if value is not None}
            return replace(_sizes_of_glm(text), vision=_sizes_of_glm_vision(config))
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
    vision = 0 if is_v2(config) or not sees(config) else _sizes_of_vision(config)
    return Sizes(layers * linear, layers * rows, other, kv_per_token=2 * layers * kv_width, vision=vision)


def _sizes_of_vision(config: Mapping[str, Any]) -> int:
    """Count the weights of VisualGLM's image encoder, queries and projection. Raises as `sizes_of`."""

    def of(name: str, field: str) -> Any:
        part = config.get(name) or {}
        if part.get(field) is None:
            raise BadFileError(_("config.json does not say {name}").format(name=f"{name}.{field}"))
        return part[field]

    def layer(hidden: int, inner: int) -> int:
        return 4 * hidden * (hidden + 1) + inner * (hidden + 1) + hidden * (inner + 1) + 4 * hidden

    wide, narrow = of("eva_config", "hidden_size"), of("qformer_config", "hidden_size")
    inner = config["eva_config"].get("inner_hidden_size") or 4 * wide
    patch = of("eva_config", "patch_size")
    places = of("eva_config", "max_sequence_length") + 1  # and the class token
    channels = config["eva_config"].get("in_channels") or 3
    count = of("eva_config", "num_layers") * layer(wide, inner)
    count += (places + channels * patch * patch + 1 + 2) * wide
    layers = of("qformer_config", "num_layers")
    count += layers * layer(narrow, config["qformer_config"].get("inner_hidden_size") or 4 * narrow)
    crossing = sum(crosses(config["qformer_config"], layers))
    count += crossing * (2 * narrow * (narrow + 1) + 2 * narrow * (wide + 1) + 2 * narrow)
    queries = of("qformer_config", "vocab_size")
    return int(count + (queries + 2) * narrow + config["hidden_size"] * (narrow + 1))


def crosses(qformer: Mapping[str, Any], layers: int) -> list[bool]:
    """Return which layers of VisualGLM's queries look at the picture: as ``is_decoder`` says.

    Raises:
        UserError: it says so of another number of layers.
    """
    found = qformer.get("is_decoder")
    if found is None:
        return [layer % 2 == 0 for layer in range(layers)]
    said = list(found) if isinstance(found, list) else [bool(found)] * layers
    if len(said) != layers:
        message = _("config.json: is_decoder is of {count} layers, and there are {layers}")
        raise BadFileError(message.format(count=len(said), layers=layers))
    return said


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
    dense = "n_routed_experts" not in config
    norms = 4 if dense and config["model_type"] in ("glm4", *SEEING) else 2
    other = tables * config["vocab_size"] * hidden + layers * norms * hidden + hidden + routers
    if config.get("attention_bias", dense and config["model_type"] in ("glm4v", "glm46v", "glmga")):
        other += layers * sum(out for out, _in in products[:-1])
    return Sizes(linear, rows, other, kv_per_token=2 * layers * kv_width)


def _sizes_of_glm_vision(config: Mapping[str, Any]) -> int:
    """Count the weights of what looks at pictures. Raises KeyError where a size is missing."""
    vision = config.get("vision_config") or {}
    ocr = config["model_type"] == "glm_ocr"
    hidden, out, inner = vision["hidden_size"], vision["out_hidden_size"], vision["intermediate_size"]
    patch, merge = vision["patch_size"], vision.get("spatial_merge_size") or 2
    volume = patch * patch * (vision.get("temporal_patch_size") or 2) * (vision.get("in_channels") or 3)
    wide = inner if ocr else out
    block = 4 * hidden * hidden + 3 * hidden * wide + 2 * hidden
    if ocr:  # biases, and norms of queries and keys
        block += 4 * hidden + 2 * wide + hidden + 2 * (hidden // vision["num_heads"])
    places = 0 if ocr else (vision["image_size"] // patch) ** 2 * hidden
    ends = hidden * volume + hidden + (hidden if ocr else 2 * hidden)
    merger_width = out * (vision.get("in_channels") or 3) if ocr else inner
    merger = out * out + 2 * out + 3 * out * merger_width
    down = out * hidden * merge * merge + out
    return int(vision["depth"] * block + places + ends + merger + down)


def _count(products: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the weights and the rows of matrices ``(rows, columns)``."""
    return sum(rows * columns for rows, columns in products), sum(rows for rows, _columns in products)


def check_not_pointer(file: Path) -> None:
    """Raise UserError where `file` is what ``git clone`` leaves without Git LFS, or no regular file."""
    if check_regular(file).st_size < 1024:
        with open_regular(file) as stream:
            if stream.read(len(_LFS)) == _LFS:
                raise BadFileError(
                    _(
                        "{path} is only a Git-LFS pointer, not the file itself. Run `git lfs install` once, "
                        "then `git lfs pull` in that folder."
                    ).format(path=file)
                )


def _weight_files(folder: Path) -> tuple[Path, ...]:
    if sat.is_sat(folder):
        check_not_pointer(file := sat.weight_file(folder))
        return (file,)
    for name in WEIGHTS:
        if (folder / f"{name}.index.json").exists():
            files = _shards(folder / f"{name}.index.json")
            break
        if (folder / name).exists():
            files = [folder / name]
            break
    else:
        missing = _("{path} has no weights: neither {first} nor {second}, nor an index of shards").format(
            path=folder, first=WEIGHTS[0], second=WEIGHTS[1]
        )
        raise NotFoundError(foreign.explain(folder) or missing)
    for file in files:
        check_not_pointer(file)
    return tuple(files)


def _shards(index: Path) -> list[Path]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadFileError(_("{path} has no weight_map. Download it again.").format(path=index))
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        message = _("{path}: weight_map names no file for some of the tensors. Download it again.")
        raise BadFileError(message.format(path=index))
    files = [index.with_name(Path(shard).name or "?") for shard in sorted(set(weight_map.values()))]
    if missing := [quoted(file.name) for file in files if not file.exists()]:
        raise NotFoundError(
            _("{index} names {files}, but there is no such file in {path}. Download it again.").format(
                index=index.name, files=listing(missing[:NAMED_SHARDS]), path=index.parent
            )
        )
    return files

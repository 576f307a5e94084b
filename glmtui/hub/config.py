"""``config.json`` and the other settings of a model: what their fields may be, compared as they are read.

Whoever takes a field from one of them may rely on its type and its bounds. A field may be missing or null
all the same, and those that have no place here are anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmtui.errors import NotFoundError
from glmtui.hub import foreign, sat
from glmtui.hub.fields import Flag, Group, Integer, Kind, Number, Several, Text, check_fields
from glmtui.hub.files import read_json_object
from glmtui.protocol.phrases import _

_WIDTH, _COUNT, _LAYERS = Integer(1, 1 << 22), Integer(1, 1 << 16), Integer(1, 1 << 10)
"""Far above every published model; what they multiply to is compared with the weight files."""
_LENGTH, _VOCABULARY, _TOKEN = Integer(1, 1 << 28), Integer(1, 1 << 24), Integer(-1, 1 << 24)
_EPSILON, _RATIO = Number(0, 1), Number(1e-6, 1e9)

VISION: Mapping[str, Kind] = {
    "num_layers": _LAYERS,
    **dict.fromkeys(("hidden_size", "inner_hidden_size", "cross_attn_hidden_size"), _WIDTH),
    "num_attention_heads": _COUNT,
    **dict.fromkeys(("vocab_size", "max_sequence_length"), Integer(0, 1 << 16)),
    "layernorm_epsilon": _EPSILON,
    "image_size": Several(Integer(1, 1 << 14), 2),
    **dict.fromkeys(("patch_size", "in_channels"), Integer(1, 1 << 10)),
    "pre_len": Integer(1, 1),
    "is_decoder": Several(Flag(), 1 << 10),
}
"""Of VisualGLM's ``eva_config`` and ``qformer_config``: its image encoder, and the queries put to that."""
LANGUAGE: Mapping[str, Kind] = {
    **dict.fromkeys(("model_type", "torch_dtype", "_name_or_path", "quantization_format"), Text()),
    **dict.fromkeys(("num_layers", "num_hidden_layers"), _LAYERS),
    **dict.fromkeys(
        ("hidden_size", "inner_hidden_size", "ffn_hidden_size", "intermediate_size", "moe_intermediate_size"),
        _WIDTH,
    ),
    **dict.fromkeys(
        ("kv_channels", "head_dim", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"),
        _WIDTH,
    ),
    "v_head_dim": _WIDTH,
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "multi_query_group_num"), _COUNT),
    **dict.fromkeys(("n_routed_experts", "n_shared_experts", "first_k_dense_replace"), Integer(0, 1 << 12)),
    **dict.fromkeys(("vocab_size", "padded_vocab_size"), _VOCABULARY),
    **dict.fromkeys(("max_sequence_length", "seq_length", "max_position_embeddings"), _LENGTH),
    **dict.fromkeys(
        ("bos_token_id", "mask_token_id", "gmask_token_id", "pad_token_id", "image_token_id"), _TOKEN
    ),
    "eos_token_id": Several(_TOKEN, 256),
    **dict.fromkeys(("layernorm_epsilon", "rms_norm_eps"), _EPSILON),
    **dict.fromkeys(("rope_ratio", "rope_theta"), _RATIO),
    "partial_rotary_factor": Number(0, 1),
    "pre_seq_len": Integer(0, 1 << 16),
    "quantization_bit": Integer(0, 64),
    "num_labels": Integer(0, 1 << 12),  # no layer asks for it, but transformers makes a table that long
    **dict.fromkeys(("quantization_embeddings", "quantization_published", "prefix_projection"), Flag()),
    **dict.fromkeys(("multi_query_attention", "tie_word_embeddings", "position_encoding_2d"), Flag()),
    **dict.fromkeys(("add_bias_linear", "add_qkv_bias", "attention_bias"), Flag()),
}
CONFIG: Mapping[str, Kind] = {
    **LANGUAGE,
    "image_length": Integer(1, 1 << 12),
    **dict.fromkeys(("eva_config", "qformer_config"), Group(VISION)),
    "text_config": Group(LANGUAGE),
    "vision_config": Group(
        {
            "depth": _LAYERS,
            **dict.fromkeys(("hidden_size", "intermediate_size", "out_hidden_size"), _WIDTH),
            "num_heads": _COUNT,
            "image_size": Several(Integer(1, 1 << 14), 2),
            **dict.fromkeys(("patch_size", "temporal_patch_size"), Several(Integer(1, 1 << 10), 2)),
            **dict.fromkeys(("in_channels", "spatial_merge_size"), Integer(1, 1 << 10)),
        }
    ),
}
"""Of ``config.json``, in every layout."""
GENERATION: Mapping[str, Kind] = {"eos_token_id": Several(_TOKEN, 256)}
"""Of ``generation_config.json``; how it samples is passed over where no sampling can be so."""
TOKENIZER: Mapping[str, Kind] = {
    "num_image_tokens": Integer(0, 1 << 20),
    **dict.fromkeys(("name_or_path", "tokenizer_class"), Text()),
}
"""Of ``tokenizer_config.json``."""


def read_config(folder: Path) -> dict[str, Any]:
    """Return the folder's ``config.json``, or what SwissArmyTransformer writes instead under its names.

    Raises:
        NotFoundError: there is no such folder, or no ``config.json`` in it; what is there instead is named.
        BadFileError: it cannot be read, or a field is not what it should be.
    """
    if sat.is_sat(folder):
        values = sat.read_sat_config(folder)
        check_fields(folder / sat.CONFIG, values, CONFIG)
        return values
    file = folder / "config.json"
    if not file.exists():
        raise _no_config(folder)
    return _checked(file, CONFIG)


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Return the folder's ``tokenizer_config.json``; nothing where it has none.

    Raises:
        BadFileError: it cannot be read, or a field is not what it should be.
    """
    return _checked(folder / "tokenizer_config.json", TOKENIZER)


def read_generation_config(folder: Path) -> dict[str, Any]:
    """Return the folder's ``generation_config.json``; nothing where it has none.

    Raises:
        BadFileError: it cannot be read, or a field is not what it should be.
    """
    return _checked(folder / "generation_config.json", GENERATION)


def _checked(file: Path, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    values = read_json_object(file)
    check_fields(file, values, kinds)
    return values


def _no_config(folder: Path) -> NotFoundError:
    if found := foreign.explain(folder):
        return NotFoundError(found)
    if folder.is_file():
        return NotFoundError(_("{path} is a file. Give the folder that holds it.").format(path=folder))
    if not folder.is_dir():
        return NotFoundError(_("There is no folder {path}").format(path=folder))
    message = _("{path} has no config.json, so it is not a model folder. Give the folder that holds it.")
    return NotFoundError(message.format(path=folder))

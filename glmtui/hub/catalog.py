"""Known models, and finding a model by name. Imports no torch and never touches the network."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glmtui import paths
from glmtui.errors import ModelNotHereError, NotFoundError
from glmtui.hub import cache as hub_cache
from glmtui.hub.model_dir import Family, ModelFolder, Sizes, sizes_of
from glmtui.protocol.models import Quant, hub_page
from glmtui.protocol.phrases import Phrase, _, listing
from glmtui.text.quoting import quoted

BUILTIN = Path(__file__).parent.parent / "models" / "nano"
"""The folder of the built-in model."""

REGISTERED = _("Weights: free for research; for commercial use after registering with the authors.")
"""What the licences of ChatGLM, CodeGeeX2, GLM-4 and GLM-Edge have in common (marked for translation)."""
MIT = _("Weights: MIT licence, free for any use.")

RESEARCH = _("Weights: for research alone, not for commercial use.")

Shape = Mapping[str, Any]
"""The sizes in a ``config.json``."""

_FIRST: Shape = {"num_layers": 28, "hidden_size": 4096, "inner_hidden_size": 16384, "vocab_size": 130528}
_EVA: Shape = {
    "num_layers": 39,
    "hidden_size": 1408,
    "num_attention_heads": 16,
    "inner_hidden_size": 6144,
    "max_sequence_length": 257,
    "layernorm_epsilon": 1e-6,
    "image_size": [224, 224],
    "patch_size": 14,
    "in_channels": 3,
}
_QUERIES: Shape = {
    "num_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "vocab_size": 32,
    "is_decoder": [True, False] * 6,
    "cross_attn_hidden_size": 1408,
    "layernorm_epsilon": 1e-12,
}
_VISUAL: Shape = {**_FIRST, "image_length": 32, "eva_config": _EVA, "qformer_config": _QUERIES}
_SECOND: Shape = {
    "num_layers": 28,
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "padded_vocab_size": 65024,
}
_FOURTH: Shape = {**_SECOND, "num_layers": 40, "padded_vocab_size": 151552}


def _shape(
    model_type: Family, layers: int, hidden: int, inner: int, heads: int, groups: int, **more: int
) -> Shape:
    """Return the sizes as transformers names them; `groups` are the heads of keys and values."""
    return {
        "model_type": model_type,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": 128,
        "attention_bias": False,
        "vocab_size": 151552,
        **more,
    }


_GLM_9B = _shape("glm", 40, 4096, 13696, 32, 2, attention_bias=True)
_EDGE_1B = _shape("glm", 28, 2048, 6144, 16, 4, vocab_size=59264)
_EDGE_4B = _shape("glm", 40, 3072, 8192, 24, 6, vocab_size=59264)
_GLM4_9B = _shape("glm4", 40, 4096, 13696, 32, 2)
_GLM4_32B = _shape("glm4", 61, 6144, 23040, 48, 8)
_EXPERTS = {"moe_intermediate_size": 1408, "n_routed_experts": 128, "n_shared_experts": 1}
_AIR = _shape("glm4_moe", 46, 4096, 10944, 96, 8, attention_bias=True, **_EXPERTS)
_FLASH: Shape = {
    "model_type": "glm4_moe_lite",
    "num_hidden_layers": 47,
    "hidden_size": 2048,
    "intermediate_size": 10240,
    "moe_intermediate_size": 1536,
    "n_routed_experts": 64,
    "n_shared_experts": 1,
    "num_attention_heads": 20,
    "kv_lora_rank": 512,
    "q_lora_rank": 768,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 192,
    "v_head_dim": 256,
    "vocab_size": 154880,
}


_GLM_4V: Shape = {
    "model_type": "glm4v",
    "text_config": {**_GLM4_9B, "attention_bias": True},
    "vision_config": {
        "depth": 24,
        "hidden_size": 1536,
        "num_heads": 12,
        "intermediate_size": 13696,
        "out_hidden_size": 4096,
        "image_size": 336,
        "patch_size": 14,
    },
}


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A published model."""

    name: str
    """Short, as ``--model`` takes it."""
    hub_id: str
    family: Family
    shape: Shape
    """The sizes in its config.json."""
    max_length: int
    quant: Quant = "none"
    """How its files store the linear weights."""
    dtype: str = "float16"
    """What its files store the other weights in."""
    licence: Phrase = REGISTERED
    """What its weights may be used for, an English msgid."""
    chats: bool = True
    """Whether it was trained to answer; a base model only goes on with a text."""

    @property
    def sizes(self) -> Sizes:
        """How many weights it has."""
        return sizes_of(self.shape)

    @property
    def file_bytes(self) -> int:
        """About how large its files are, computed from its shapes."""
        # ChatGLM-6B's float files hold the output layer next to the embedding that it equals.
        twice = self.family in ("chatglm", "visualglm") and self.quant == "none"
        again = 2 * 130528 * 4096 if twice else 0
        return self.sizes.memory_bytes(self.quant, 2) + again

    def memory_bytes(self, quant: Quant | None = None, dtype_bytes: int = 2) -> int:
        """Bytes of memory for its weights with `quant` (None: as published)."""
        return self.sizes.memory_bytes(self.quant if quant is None else quant, dtype_bytes)

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """Its hub id, and the one it had before its authors renamed themselves."""
        return (self.hub_id, self.hub_id.replace("zai-org/", "THUDM/"))


def _first(name: str, quant: Quant = "none") -> KnownModel:
    return KnownModel(name, f"zai-org/{name}", "chatglm", _FIRST, 2048, quant)


def _second(
    name: str, family: Family, max_length: int, quant: Quant = "none", *, chats: bool = True
) -> KnownModel:
    dtype = "bfloat16" if family == "codegeex2" else "float16"
    return KnownModel(name, f"zai-org/{name}", family, _SECOND, max_length, quant, dtype, chats=chats)


def _newer(
    name: str, family: Family, shape: Shape, max_length: int, licence: Phrase = MIT, *, chats: bool = True
) -> KnownModel:
    hub_id = f"zai-org/{name}"
    return KnownModel(name.lower(), hub_id, family, shape, max_length, "none", "bfloat16", licence, chats)


KNOWN: tuple[KnownModel, ...] = (
    _first("chatglm-6b"),
    _first("chatglm-6b-int8", "8"),
    _first("chatglm-6b-int4", "4"),
    _first("chatglm-6b-int4-qe", "4"),
    KnownModel("visualglm-6b", "zai-org/visualglm-6b", "visualglm", _VISUAL, 2048, licence=RESEARCH),
    _second("chatglm2-6b", "chatglm2", 32768),
    _second("chatglm2-6b-int4", "chatglm2", 32768, "4"),
    _second("chatglm2-6b-32k", "chatglm2", 32768),
    _second("chatglm2-6b-32k-int4", "chatglm2", 32768, "4"),
    _second("chatglm3-6b", "chatglm3", 8192),
    _second("chatglm3-6b-base", "chatglm3", 32768, chats=False),
    _second("chatglm3-6b-32k", "chatglm3", 32768),
    _second("chatglm3-6b-128k", "chatglm3", 131072),
    _second("codegeex2-6b", "codegeex2", 8192),
    _second("codegeex2-6b-int4", "codegeex2", 8192, "4"),
    _newer("glm-edge-1.5b-chat", "glm", _EDGE_1B, 8192, REGISTERED),
    _newer("glm-edge-4b-chat", "glm", _EDGE_4B, 8192, REGISTERED),
    _newer("glm-4-9b-chat", "chatglm4", _FOURTH, 131072, REGISTERED),
    _newer("glm-4-9b-chat-hf", "glm", _GLM_9B, 131072, REGISTERED),
    _newer("glm-4-9b-chat-1m", "chatglm4", {**_FOURTH, "multi_query_group_num": 4}, 1_048_576, REGISTERED),
    _newer("glm-4-9b-chat-1m-hf", "glm", {**_GLM_9B, "num_key_value_heads": 4}, 1_048_576, REGISTERED),
    _newer("glm-4-9b", "chatglm4", _FOURTH, 8192, REGISTERED, chats=False),
    _newer("glm-4-9b-hf", "glm", _GLM_9B, 8192, REGISTERED, chats=False),
    _newer("codegeex4-all-9b", "chatglm4", _FOURTH, 131072, REGISTERED),
    _newer("GLM-4-9B-0414", "glm4", _GLM4_9B, 32768),
    _newer("GLM-Z1-9B-0414", "glm4", _GLM4_9B, 32768),
    _newer("GLM-4-32B-0414", "glm4", _GLM4_32B, 32768),
    _newer("GLM-Z1-32B-0414", "glm4", _GLM4_32B, 32768),
    _newer("GLM-4.1V-9B-Thinking", "glm4v", _GLM_4V, 65536),
    _newer("GLM-4.5-Air", "glm4_moe", _AIR, 131072),
    _newer("GLM-4.7-Flash", "glm4_moe_lite", _FLASH, 202752),
)
"""Oldest first, as people look for them."""

BEST: tuple[str, ...] = ("glm-4-32b-0414", "glm-4-9b-0414", "glm-edge-4b-chat", "glm-edge-1.5b-chat")
"""Models for talks of every kind, the best answers first: what is recommended is the first that fits."""
MOST_ON_CPU = 10_000_000_000
"""Parameters up to which a processor answers at the pace of reading."""


def split(source: str) -> tuple[str, str | None]:
    """Return the name and the pinned revision of ``name@revision``, or of a model's address on a hub."""
    if page := hub_page(source):
        return page
    name, at, revision = source.rpartition("@")
    return (name, revision) if at and name and revision and not is_path(name) else (source, None)


def find(name: str) -> KnownModel | None:
    """Return the known model with this short name or hub id, however it is capitalised."""
    name = split(name)[0].lower()
    for model in KNOWN:
        if name == model.name or name in (hub_id.lower() for hub_id in model.hub_ids):
            return model
    return None


def hub_ids_of(source: str) -> tuple[str, ...]:
    """Return the hub ids that a name may stand for; the first is the one to download from.

    Raises:
        UserError: `source` is neither the name of a known model nor a hub id.
    """
    name, _revision = split(source)
    if known := find(name):
        return known.hub_ids
    if _SERVER.match(name):
        message = _("The address of a server is written with http:// in front: {source}")
        raise NotFoundError(message.format(source=f"http://{name}"))
    if is_hub_id(name):
        return (name,)
    if "://" in name:
        message = _("{source} is no address of a model that glmtui can fetch. Give its name: owner/name.")
        raise NotFoundError(message.format(source=quoted(source)))
    if is_path(name):
        raise NotFoundError(_("There is no folder {path}").format(path=name))
    near = difflib.get_close_matches(name.lower(), [model.name for model in KNOWN], n=3)
    names = listing(near or [model.name for model in KNOWN])
    raise NotFoundError(
        _("{source} is neither a folder nor the name of a known model. Known are: {names}").format(
            source=source, names=names
        )
    )


def resolve(source: str | None) -> ModelFolder:
    """Return the folder of a model on this machine.

    Args:
        source: a folder; or a short name or hub id that the local hub cache has, with ``@revision`` if one
            is pinned. None is the built-in model.

    Raises:
        ModelNotHereError: it is a model that could be downloaded.
        UserError: it is none, or the folder is not a good model folder.
    """
    if source is None:
        return ModelFolder.open(BUILTIN)
    if page := hub_page(source):
        source = "@".join(filter(None, page))  # as it is written in advice and in the list of models
    path = paths.typed(source)
    if path.is_dir():
        return ModelFolder.open(path)
    if path.is_file():
        ModelFolder.open(path)  # says what it is
    cached = hub_cache.find(hub_ids_of(source), split(source)[1])
    if cached is None:
        message = _(
            "{source} is not on this machine. Download it with `glmtui models download {source}`, "
            "or give the folder that holds its files."
        )
        raise ModelNotHereError(message.format(source=source), source)
    return ModelFolder.open(cached)


_SERVER = re.compile(r"[\w.-]{2,}:\d{1,5}(?=[/#]|$)")
"""How the address of a server begins where its scheme is left out."""


def is_hub_id(name: str) -> bool:
    """Whether `name` looks like ``owner/name``."""
    owner, slash, rest = name.partition("/")
    return bool(slash and owner and rest) and "/" not in rest and not is_path(name)


def is_path(source: str) -> bool:
    """Whether `source` can only mean a folder."""
    return source.startswith((".", "~", "/")) or "\\" in source or source.count("/") > 1

"""Known models, and finding a model by name. Imports no torch and never touches the network."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from glmtui.engine.events import Quant
from glmtui.errors import ModelNotHereError, UserError
from glmtui.i18n import N_, _
from glmtui.models import hub_cache
from glmtui.models.folder import ModelFolder, Sizes, sizes_of

BUILTIN = Path(__file__).with_name("nano")
"""The folder of the built-in model."""

REGISTERED = N_("Weights: free for research; for commercial use after registering with the authors.")
"""What the licences of ChatGLM, CodeGeeX2, GLM-4 and GLM-Edge have in common (marked for translation)."""
MIT = N_("Weights: MIT licence, free for any use.")

_Shape = Mapping[str, int | bool]
_FIRST: _Shape = {
    "num_layers": 28,
    "hidden_size": 4096,
    "inner_hidden_size": 16384,
    "vocab_size": 130528,
}
_SECOND: _Shape = {
    "num_layers": 28,
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "padded_vocab_size": 65024,
}
# Counted on transformers' own classes of these shapes.
_EDGE_1B = Sizes(linear=1_350_565_888, rows=544_768, other=242_948_096, kv_per_token=28_672)
_EDGE_4B = Sizes(linear=3_963_617_280, rows=1_085_440, other=364_551_168, kv_per_token=61_440)
_GLM_9B = Sizes(linear=8_157_921_280, rows=1_607_680, other=1_242_030_080, kv_per_token=20_480)
_GLM_9B_1M = Sizes(linear=8_241_807_360, rows=1_628_160, other=1_242_050_560, kv_per_token=40_960)
_GLM4_9B = Sizes(linear=8_157_921_280, rows=1_607_680, other=1_242_357_760, kv_per_token=20_480)
_GLM4_32B = Sizes(linear=31_277_973_504, rows=4_060_160, other=1_864_275_968, kv_per_token=124_928)
_AIR = Sizes(linear=105_586_098_176, rows=40_998_016, other=1_266_147_328, kv_per_token=94_208)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A published model."""

    name: str
    """Short, as ``--model`` takes it."""
    hub_id: str
    family: str
    """A `glmtui.models.folder.Family`, or transformers' ``model_type`` of a newer GLM."""
    max_length: int
    quant: Quant = "none"
    """How its files store the linear weights."""
    dtype: str = "float16"
    """What its files store the other weights in."""
    counted: Sizes | None = None
    """How many weights a newer GLM has."""
    licence: str = REGISTERED
    """What its weights may be used for, an English msgid."""
    chats: bool = True
    """Whether it was trained to answer; a base model only goes on with a text."""

    @property
    def sizes(self) -> Sizes:
        """How many weights it has."""
        return self.counted or sizes_of(self.shape)

    @property
    def shape(self) -> Mapping[str, int | bool]:
        """The sizes in its config.json, of a ChatGLM."""
        return _FIRST if self.family == "chatglm" else _SECOND

    @property
    def file_bytes(self) -> int:
        """About how large its files are, computed from its shapes."""
        # ChatGLM-6B's float files hold the output layer next to the embedding that it equals.
        twice = self.family == "chatglm" and self.quant == "none"
        again = 2 * _FIRST["vocab_size"] * _FIRST["hidden_size"] if twice else 0
        return self.sizes.memory_bytes(self.quant, 2) + again

    def memory_bytes(self, quant: Quant | None = None, dtype_bytes: int = 2) -> int:
        """Bytes of memory for its weights with `quant` (None: as published)."""
        return self.sizes.memory_bytes(self.quant if quant is None else quant, dtype_bytes)

    @property
    def hub_ids(self) -> tuple[str, ...]:
        """Its hub id, and the one it had before its authors renamed themselves."""
        return (self.hub_id, self.hub_id.replace("zai-org/", "THUDM/"))


def _glm(
    hub_name: str, family: str, counted: Sizes, max_length: int, licence: str = MIT, *, chats: bool = True
) -> KnownModel:
    """Describe a model that transformers knows natively."""
    hub_id = f"zai-org/{hub_name}"
    name = hub_name.lower()
    return KnownModel(name, hub_id, family, max_length, "none", "bfloat16", counted, licence, chats)


KNOWN: tuple[KnownModel, ...] = (
    KnownModel("chatglm-6b", "zai-org/chatglm-6b", "chatglm", 2048),
    KnownModel("chatglm-6b-int8", "zai-org/chatglm-6b-int8", "chatglm", 2048, "8"),
    KnownModel("chatglm-6b-int4", "zai-org/chatglm-6b-int4", "chatglm", 2048, "4"),
    KnownModel("chatglm-6b-int4-qe", "zai-org/chatglm-6b-int4-qe", "chatglm", 2048, "4"),
    KnownModel("chatglm2-6b", "zai-org/chatglm2-6b", "chatglm2", 32768),
    KnownModel("chatglm2-6b-int4", "zai-org/chatglm2-6b-int4", "chatglm2", 32768, "4"),
    KnownModel("chatglm2-6b-32k", "zai-org/chatglm2-6b-32k", "chatglm2", 32768),
    KnownModel("chatglm2-6b-32k-int4", "zai-org/chatglm2-6b-32k-int4", "chatglm2", 32768, "4"),
    KnownModel("chatglm3-6b", "zai-org/chatglm3-6b", "chatglm3", 8192),
    KnownModel("chatglm3-6b-base", "zai-org/chatglm3-6b-base", "chatglm3", 32768, chats=False),
    KnownModel("chatglm3-6b-32k", "zai-org/chatglm3-6b-32k", "chatglm3", 32768),
    KnownModel("chatglm3-6b-128k", "zai-org/chatglm3-6b-128k", "chatglm3", 131072),
    KnownModel("codegeex2-6b", "zai-org/codegeex2-6b", "codegeex2", 8192, dtype="bfloat16"),
    KnownModel("codegeex2-6b-int4", "zai-org/codegeex2-6b-int4", "codegeex2", 8192, "4", "bfloat16"),
    _glm("glm-edge-1.5b-chat", "glm", _EDGE_1B, 8192, REGISTERED),
    _glm("glm-edge-4b-chat", "glm", _EDGE_4B, 8192, REGISTERED),
    _glm("glm-4-9b-chat-hf", "glm", _GLM_9B, 131072, REGISTERED),
    _glm("glm-4-9b-chat-1m-hf", "glm", _GLM_9B_1M, 1_048_576, REGISTERED),
    _glm("glm-4-9b-hf", "glm", _GLM_9B, 8192, REGISTERED, chats=False),
    _glm("GLM-4-9B-0414", "glm4", _GLM4_9B, 32768),
    _glm("GLM-Z1-9B-0414", "glm4", _GLM4_9B, 32768),
    _glm("GLM-4-32B-0414", "glm4", _GLM4_32B, 32768),
    _glm("GLM-Z1-32B-0414", "glm4", _GLM4_32B, 32768),
    _glm("GLM-4.5-Air", "glm4_moe", _AIR, 131072),
)
"""Oldest first, as people look for them."""


def split(source: str) -> tuple[str, str | None]:
    """Return the name and the pinned revision of ``name@revision``."""
    name, at, revision = source.rpartition("@")
    return (name, revision) if at and name and revision and not is_path(name) else (source, None)


def find(name: str) -> KnownModel | None:
    """Return the known model with this short name or hub id, however it is capitalised."""
    wanted = split(name)[0].lower()
    for model in KNOWN:
        if wanted == model.name or wanted in (hub_id.lower() for hub_id in model.hub_ids):
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
    if is_hub_id(name):
        return (name,)
    if is_path(name):
        raise UserError(_("There is no folder {path}").format(path=name))
    near = difflib.get_close_matches(name.lower(), [model.name for model in KNOWN], n=3)
    names = ", ".join(near or [model.name for model in KNOWN])
    raise UserError(
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
    path = Path(source).expanduser()
    if path.is_dir():
        return ModelFolder.open(path)
    if path.is_file():
        raise UserError(_("{path} is a file. Give the folder that holds it.").format(path=path))
    cached = hub_cache.find(hub_ids_of(source), split(source)[1])
    if cached is None:
        message = _(
            "{source} is not on this machine. Download it with `glmtui models download {source}`, "
            "or give the folder that holds its files."
        )
        raise ModelNotHereError(message.format(source=source), source)
    return ModelFolder.open(cached)


def is_hub_id(name: str) -> bool:
    """Whether `name` looks like ``owner/name``."""
    owner, slash, rest = name.partition("/")
    return bool(slash and owner and rest) and "/" not in rest and not is_path(name)


def is_path(source: str) -> bool:
    """Whether `source` can only mean a folder."""
    return source.startswith((".", "~", "/")) or "\\" in source or source.count("/") > 1

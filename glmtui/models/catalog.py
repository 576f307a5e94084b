"""Known models and where they are on this machine. Imports no torch and never touches the network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from glmtui.engine.events import Quant
from glmtui.errors import UserError
from glmtui.i18n import N_, _
from glmtui.models.folder import Family, ModelFolder, Sizes, sizes_of

BUILTIN = Path(__file__).with_name("nano")
"""The folder of the built-in model."""

LICENCE = N_("Weights: free for research; for commercial use after registering with the authors.")
"""What the ChatGLM model licences have in common, for people (marked for translation)."""

_FIRST: Mapping[str, int | bool] = {
    "num_layers": 28,
    "hidden_size": 4096,
    "inner_hidden_size": 16384,
    "vocab_size": 130528,
}
_SECOND: Mapping[str, int | bool] = {
    "num_layers": 28,
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "padded_vocab_size": 65024,
}


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A published model."""

    name: str
    """Short, as ``--model`` takes it."""
    hub_id: str
    family: Family
    max_length: int
    quant: Quant = "none"
    """How its files store the linear weights."""
    dtype: str = "float16"
    """What its files store the other weights in."""

    @property
    def sizes(self) -> Sizes:
        """How many weights it has."""
        return sizes_of(self.shape)

    @property
    def shape(self) -> Mapping[str, int | bool]:
        """The sizes in its config.json."""
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


KNOWN: tuple[KnownModel, ...] = (
    KnownModel("chatglm-6b", "zai-org/chatglm-6b", "chatglm", 2048),
    KnownModel("chatglm-6b-int8", "zai-org/chatglm-6b-int8", "chatglm", 2048, "8"),
    KnownModel("chatglm-6b-int4", "zai-org/chatglm-6b-int4", "chatglm", 2048, "4"),
    KnownModel("chatglm2-6b", "zai-org/chatglm2-6b", "chatglm2", 32768),
    KnownModel("chatglm2-6b-int4", "zai-org/chatglm2-6b-int4", "chatglm2", 32768, "4"),
    KnownModel("chatglm2-6b-32k", "zai-org/chatglm2-6b-32k", "chatglm2", 32768),
    KnownModel("chatglm3-6b", "zai-org/chatglm3-6b", "chatglm3", 8192),
    KnownModel("chatglm3-6b-32k", "zai-org/chatglm3-6b-32k", "chatglm3", 32768),
    KnownModel("codegeex2-6b", "zai-org/codegeex2-6b", "codegeex2", 8192, dtype="bfloat16"),
    KnownModel("codegeex2-6b-int4", "zai-org/codegeex2-6b-int4", "codegeex2", 8192, "4", "bfloat16"),
)


def find(name: str) -> KnownModel | None:
    """Return the known model with this short name or hub id, however it is capitalised."""
    wanted = name.lower()
    for model in KNOWN:
        if wanted == model.name or wanted in (hub_id.lower() for hub_id in model.hub_ids):
            return model
    return None


def resolve(source: str | None) -> ModelFolder:
    """Return the folder of a model on this machine.

    Args:
        source: a folder, a short name, or a hub id in the local hub cache; None is the built-in model.

    Raises:
        UserError: it is not on this machine, or the folder is not a good model folder.
    """
    if source is None:
        return ModelFolder.open(BUILTIN)
    path = Path(source).expanduser()
    if path.is_dir():
        return ModelFolder.open(path)
    if path.is_file():
        raise UserError(_("{path} is a file. Give the folder that holds it.").format(path=path))
    known = find(source)
    hub_ids = known.hub_ids if known else (source,) if _is_hub_id(source) else ()
    if not hub_ids and _is_path(source):
        raise UserError(_("There is no folder {path}").format(path=source))
    if not hub_ids:
        names = ", ".join(model.name for model in KNOWN)
        message = _("{source} is neither a folder nor the name of a known model. Known are: {names}")
        raise UserError(message.format(source=source, names=names))
    cached = find_in_cache(hub_ids)
    if cached is None:
        raise UserError(
            _(
                "{source} is not on this machine. Download it with `hf download {hub_id}`, or give the "
                "folder that holds its files."
            ).format(source=source, hub_id=hub_ids[0])
        )
    return ModelFolder.open(cached)


def find_in_cache(hub_ids: Iterable[str], revision: str = "main") -> Path | None:
    """Return the snapshot of the first of `hub_ids` that the local hub cache has, or None."""
    for hub_id in hub_ids:
        repository = hub_cache() / f"models--{hub_id.replace('/', '--')}"
        reference = repository / "refs" / revision
        commit = reference.read_text(encoding="ascii").strip() if reference.is_file() else revision
        snapshot = repository / "snapshots" / commit
        if (snapshot / "config.json").is_file():
            return snapshot
    return None


def hub_cache() -> Path:
    """Return the hub cache, from the same variables that huggingface_hub reads (importing it takes long)."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return Path(value).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _is_hub_id(source: str) -> bool:
    owner, slash, name = source.partition("/")
    return bool(slash and owner and name) and "/" not in name and not _is_path(source)


def _is_path(source: str) -> bool:
    return source.startswith((".", "~", "/")) or "\\" in source or source.count("/") > 1

"""A checkpoint's weights tensor by tensor, and the network they belong to, built without memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glmtui.errors import BadFileError
from glmtui.hub import foreign
from glmtui.hub.integrity import check_belongs
from glmtui.hub.model_dir import SEEING, TRANSFORMERS, ModelFolder
from glmtui.models import sat
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.chatglm2 import ChatGLM2, ChatGLM2Config
from glmtui.models.glm_hf import GLM, GLMConfig, taken_by_transformers
from glmtui.models.glm_vision import SeeingGLM
from glmtui.models.prefix import KEYS as PREFIX
from glmtui.models.visualglm import VisualGLM, VisualGLMConfig
from glmtui.models.weight_files import is_finite, read_file
from glmtui.protocol.models import Quant
from glmtui.protocol.phrases import Option, Phrase, _, ngettext
from glmtui.text.quoting import quoted

QUANTIZED = re.compile(
    r"^(?!image_encoder\.).*\.layers\.\d+\.(self_)?(attention|mlp)\.(query_key_value|dense|dense_h_to_4h|dense_4h_to_h)\.weight$"
)
"""The weights that a published int8 or int4 file has quantised."""

_STACKED = re.compile(r"(.+\.experts)\.(gate_up|down)_proj")
_WRAPPERS = re.compile(r"(?:(?:module|_orig_mod|_fsdp_wrapped_module|base_model\.model)\.)+")
"""What DeepSpeed, DistributedDataParallel, torch.compile, FSDP and peft put before the names."""
_BARE_PREFIX = re.compile(r"(embedding|trans\.\d+)\.(weight|bias)$")
_DERIVED = re.compile(r"rotary(_pos)?_emb\.inv_freq$")

Network: TypeAlias = ChatGLM | ChatGLM2 | GLM
"""A network of the family, of whichever architecture."""


class Checkpoint:
    """The weights of a `ModelFolder`."""

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """Open a folder. For the errors see `ModelFolder.open`."""
        return cls(ModelFolder.open(path))

    def tensors(
        self,
        expected: Mapping[str, tuple[int, ...]] | None = None,
        tied: Mapping[str, str] | None = None,
        *,
        once: bool = False,
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield ``(name, tensor)``, each mapped from its file; a file is let go once its tensors are.

        Args:
            expected: shapes by name (`expected_shapes`). Other tensors are passed over; each of these comes
                once, and it is an error if one is missing at the end.
            tied: names that stand for another one's tensor; whichever comes first is yielded under the
                other's name.
            once: the files are not read again soon; see `read_file`.

        Raises:
            UserError: a damaged file, one that would execute code, a wrong shape, missing tensors.
        """
        seen: set[str] = set()
        only_prefix = bool(expected) and all(name.startswith(PREFIX) for name in expected or ())
        for file in self.folder.weight_files:
            stored = read_file(file, once=once)
            stored = sat.published(stored, self.folder) if self.folder.is_sat else _each_expert(stored)
            for stored_name, tensor in stored:
                name = _untied(_full_name(stored_name, only_prefix), tied or {})
                if name in seen or _DERIVED.search(name) or (expected is not None and name not in expected):
                    continue
                if expected is not None and tuple(tensor.shape) != expected[name]:
                    raise BadFileError(self._wrong_shape(file, name, tuple(tensor.shape), expected[name]))
                if name.startswith(PREFIX) and not is_finite(tensor):  # as trainers in float16 made
                    message = _("{path}: {name} has values that are no numbers: its training went wrong")
                    raise BadFileError(message.format(path=file, name=name))
                seen.add(name)
                yield name, tensor
        if expected is not None and (missing := [name for name in expected if name not in seen]):
            raise BadFileError(self._missing(missing, seen))

    def _wrong_shape(
        self, file: Path, name: str, found: tuple[int, ...], expected: tuple[int, ...]
    ) -> Phrase:
        if name == f"{PREFIX}embedding.weight" and found[1:] == expected[1:]:
            return _("{file}: the P-tuning prefix has {rows} rows, but pre_seq_len is {length}").format(
                file=file, rows=found[0], length=expected[0]
            )
        if name.startswith(PREFIX):
            message = _(
                "{file}: {name} has the shape {found}, but this model takes {expected}. The P-tuning prefix "
                "was trained on another model, or prefix_projection in its config.json is wrong."
            )
        else:
            message = _(
                "{file}: {name} has the shape {found}, but config.json calls for {expected}. The weights and "
                "config.json do not belong together."
            )
        return message.format(file=file, name=name, found=list(found), expected=list(expected))

    def _missing(self, missing: list[str], seen: set[str]) -> Phrase:
        files = () if seen else self.folder.weight_files
        stored = [name for file in files for name, _tensor in read_file(file)]
        if not missing[0].startswith(PREFIX) and any("prefix_encoder." in name for name in stored):
            return _(
                "{path} holds only a P-tuning prefix. Load the model it was trained on, with {option}"
            ).format(path=self.folder.path, option=Option("ptuning", self.folder.path))
        if any("lora_" in name for name in stored):
            return foreign.lora(self.folder.path)
        if stored:
            message = _(
                "{path}: none of its tensors has a name that config.json calls for, such as {wanted}. The "
                "first one is called {found}. Save the model under the names that it was published with."
            )
            return message.format(path=self.folder.path, wanted=missing[0], found=quoted(stored[0]))
        return ngettext(
            "{path} lacks {count} tensor that its config.json calls for: {name}. Download the model again.",
            "{path} lacks {count} tensors that its config.json calls for, the first being {name}. Download "
            "the model again.",
            len(missing),
        ).format(path=self.folder.path, count=len(missing), name=missing[0])


def _each_expert(stored: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Take apart tensors in which transformers may store all experts of a layer, ``[experts, out, in]``."""
    for name, tensor in stored:
        found = _STACKED.fullmatch(name) if tensor.dim() == 3 else None
        if found is None:
            yield name, tensor
            continue
        experts, product = found.groups()
        for number, matrix in enumerate(tensor):
            parts = matrix.chunk(2) if product == "gate_up" else (matrix,)
            for part, rows in zip(product.split("_"), parts, strict=True):
                yield f"{experts}.{number}.{part}_proj.weight", rows


def _full_name(name: str, only_prefix: bool) -> str:
    """Return the published name of a tensor that training saved under another one.

    Programs that train put a module around the model, or save the prefix encoder by itself; `only_prefix`
    says that nothing else is looked for.
    """
    name = name[found.end() :] if (found := _WRAPPERS.match(name)) else name
    if name.startswith("prefix_encoder."):
        return f"transformer.{name}"
    return f"{PREFIX}{name}" if only_prefix and _BARE_PREFIX.match(name) else name


def _untied(name: str, tied: Mapping[str, str]) -> str:
    """Return the name under which a tensor, or the scale of one, is to be had."""
    if name.endswith("_scale"):
        return f"{_untied(name.removesuffix('_scale'), tied)}_scale"
    return tied.get(name, name)


class _Uninitialised(TorchFunctionMode):
    """Passes over `torch.nn.init`."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return None
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """Build modules on the meta device, without memory.

    Nothing is initialised either: on that device it would import torch's compiler, which takes two seconds.
    """
    with torch.device("meta"), _Uninitialised():
        yield


def new_network(folder: ModelFolder) -> Network:
    """Build the folder's network on the meta device: its shapes, and no memory.

    Raises:
        UserError: ``config.json`` lacks a size, or calls for more than the weight files have.
    """
    check_belongs(folder)
    with shapes_only():
        if folder.family == "chatglm":
            return ChatGLM(ChatGLMConfig.from_dict(folder.config))
        if folder.family == "visualglm":
            return VisualGLM(VisualGLMConfig.from_dict(folder.config))
        if folder.family in TRANSFORMERS:
            config = GLMConfig.of(folder)
            with taken_by_transformers(folder.path):
                return SeeingGLM(config) if folder.family in SEEING else GLM(config)
        return ChatGLM2(ChatGLM2Config.from_dict(folder.config))


def expected_shapes(
    network: nn.Module, quant: Quant = "none", *, embeddings: bool = False
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a checkpoint of a float `network` has, by name.

    With `quant` these are the shapes of the published int8 and int4 files: linear weights ``[out, in]`` or
    ``[out, in / 2]`` with a ``weight_scale`` ``[out]`` next to them; with `embeddings` the embedding too.
    """
    stored = network.state_dict(keep_vars=True).items()
    buffers = {name: tensor for name, tensor in stored if not isinstance(tensor, nn.Parameter)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in (dict(network.named_parameters()) | buffers).items():
        shape = tuple(tensor.shape)
        packed = QUANTIZED.search(name) or (embeddings and name.endswith("word_embeddings.weight"))
        if quant != "none" and packed:
            shapes[name] = (shape[0], shape[1] * int(quant) // 8)
            shapes[f"{name}_scale"] = shape[:1]
        else:
            shapes[name] = shape
    return shapes


def assign(network: nn.Module, name: str, tensor: Tensor) -> None:
    """Make `tensor` the parameter `name` of `network` (which may stand on the meta device)."""
    owner, _dot, leaf = name.rpartition(".")
    setattr(network.get_submodule(owner), leaf, nn.Parameter(tensor, requires_grad=False))


def dtype_of(
    network: nn.Module, name: str, dtype: torch.dtype, vision: torch.dtype | None = None
) -> torch.dtype:
    """Return the type that the tensor `name` is to have where most have `dtype`.

    Args:
        vision: what those have that look at pictures; None: `dtype` too.
    """
    precise, looks = getattr(network, "PRECISE", None), getattr(network, "VISION", None)
    if isinstance(precise, re.Pattern) and precise.search(name):
        return torch.float32
    return vision if vision is not None and looks is not None and looks.search(name) else dtype

"""LoRA: small products next to those of a network, in the files of PEFT.

An adapter is a folder with ``adapter_config.json`` and ``adapter_model.safetensors`` (or ``.bin``), whose
tensors are called ``base_model.model.MODULE.lora_A.weight`` ``[rank, in]`` and ``….lora_B.weight`` ``[out,
rank]``; a module's output gains ``scale * B A x``. The network itself is not changed: the products are
added by hooks, so several adapters can be there and one of them be switched on, whatever the weights below
are quantised to.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from glmtui.errors import BadFileError, BadValueError, NotFoundError
from glmtui.hub.fields import Flag, Integer, Kind, Number, Text, check_fields
from glmtui.hub.files import read_json_object
from glmtui.models.base import LanguageModel
from glmtui.models.layers import Layers
from glmtui.models.weight_files import is_finite, read_file, write_tensors
from glmtui.protocol.phrases import _, listing
from glmtui.text.quoting import quoted

CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
_FIELDS: Mapping[str, Kind] = {
    **dict.fromkeys(("peft_type", "bias", "base_model_name_or_path"), Text()),
    "r": Integer(1, 1 << 14),
    "lora_alpha": Number(0, 1e9),
    "lora_dropout": Number(0, 1),
    **dict.fromkeys(("use_rslora", "use_dora", "fan_in_fan_out"), Flag()),
}
_NAME = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.[^.]+)?\.weight")
_PATTERN = re.compile(r"\^?(?:[\w.-]|\\[.d]|\.\*|\\d\+)+\$?")
"""Of PEFT's tables of patterns, what is matched: names with ``.``, ``.*`` and ``\\d+``. Others might take for
ever."""
MOST_WILD = 3
"""Of ``*`` and ``+`` in a pattern."""
ALL = "all"
"""Among targets: every linear layer."""
_ATTENTION = ("query_key_value", "q_proj", "k_proj", "v_proj", "q_b_proj", "kv_b_proj")
"""The attention's first products, in all architectures."""


class LoraProduct(nn.Module):
    """``scale * B A x`` for one linear layer."""

    def __init__(self, a: Tensor, b: Tensor, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.a = nn.Parameter(a, requires_grad=False)
        self.b = nn.Parameter(b, requires_grad=False)
        self.scale, self.dropout = scale, dropout

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``, in the type of its own matrices."""
        x = F.dropout(x.to(self.a.dtype), self.dropout, self.training)
        out: Tensor = F.linear(F.linear(x, self.a), self.b) * self.scale
        return out

    @property
    def weight(self) -> Tensor:
        """What the module's own weight ``[out, in]`` would gain, in float32."""
        gained: Tensor = (self.b.float() @ self.a.float()) * self.scale
        return gained


@dataclass(frozen=True)
class Shape:
    """Inner width and scale of the products of an adapter."""

    rank: int
    alpha: float
    rank_stabilised: bool = False
    """The scale falls with the root of the rank (rsLoRA), not with the rank."""

    @property
    def scale(self) -> float:
        """What the products are multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class Lora(nn.Module):
    """The products of one adapter, by the names of the modules they belong to."""

    def __init__(self, products: Mapping[str, LoraProduct]) -> None:
        super().__init__()
        self.names = tuple(products)
        self.products = nn.ModuleList(products.values())
        self._handles: list[RemovableHandle] = []
        self._layers: list[Layers] = []
        self._exact: tuple[LanguageModel, int] | None = None  # what the network is without it

    def named(self) -> Iterator[tuple[str, LoraProduct]]:
        """Yield each product with its module's name."""
        for name, product in zip(self.names, self.products, strict=True):
            assert isinstance(product, LoraProduct)
            yield name, product

    def attach(self, network: nn.Module) -> None:
        """Add the products to what the modules of `network` give, from now on."""
        self.detach()
        for name, product in self.named():
            self._handles.append(network.get_submodule(name).register_forward_hook(_adding(product)))
        self._layers = [module for module in network.modules() if isinstance(module, Layers)]
        for layers in self._layers:
            layers.adapted = True
        if isinstance(network, LanguageModel):  # tokens together are rounded otherwise than one by one
            self._exact, network.exact_rows = (network, network.exact_rows), 1

    def detach(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        for layers in self._layers:
            layers.adapted = False
        if self._exact is not None:
            network, rows = self._exact
            network.exact_rows = rows
        self._handles, self._layers, self._exact = [], [], None


def _adding(product: LoraProduct) -> Any:
    def add(_module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
        added: Tensor = product(inputs[0]).to(out.dtype)
        return out + added

    return add


def new_lora(
    network: nn.Module, shape: Shape, targets: tuple[str, ...] = (), dropout: float = 0.0, seed: int = 42
) -> Lora:
    """Return an adapter that changes nothing yet: A as torch draws a linear layer, B zero, both float32.

    Args:
        network: whose linear layers get products.
        shape: of all of them.
        targets: last parts of the layers' names, such as ``query_key_value``, or `ALL`; none are the
            attention's first products.
        dropout: share of each product's input that is dropped in training.
        seed: of A.

    Raises:
        BadValueError: no layer has such a name; those there are are named.
    """
    found = linear_layers(network)
    leaves = sorted({name.rpartition(".")[2] for name in found})
    if unknown := [target for target in targets if target not in (*leaves, ALL)]:
        others = {name.rpartition(".")[2] for name, _module in network.named_modules()}
        message = (
            _("{name} is none of the linear layers that are repeated, which alone get a LoRA: {names}")
            if others.issuperset(unknown)
            else _("The model has no linear layer called {name}. It has: {names}")
        )
        raise BadValueError(message.format(name=listing(map(quoted, unknown)), names=listing(leaves)))
    wanted = leaves if ALL in targets else targets or _ATTENTION
    chosen = {name: sizes for name, sizes in found.items() if name.rpartition(".")[2] in wanted}
    products = {}
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        for name, (rows, columns) in chosen.items():
            a = torch.empty(shape.rank, columns)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))
            products[name] = LoraProduct(a, torch.zeros(rows, shape.rank), shape.scale, dropout)
    return placed(Lora(products), network)


def linear_layers(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Return the sizes ``(out, in)`` of the linear modules in the layers that read text, quantised or not, by
    name. What looks at pictures is looked through once and kept, whatever LoRA is on."""
    looks = getattr(network, "VISION", None)
    return {
        name: (module.out_features, module.in_features)
        for name, module in network.named_modules()
        if ".layers." in f".{name}"
        and not (looks and looks.match(name))
        and isinstance(getattr(module, "in_features", None), int)
        and isinstance(getattr(module, "out_features", None), int)
    }


def placed(lora: Lora, network: nn.Module, dtype: torch.dtype | None = None) -> Lora:
    """Put each product where its module's weight is, as `dtype` where one is given; return `lora`."""
    for name, product in lora.named():
        weight = network.get_submodule(name).weight
        tensor = weight if isinstance(weight, Tensor) else next(iter(weight.buffers()))
        product.to(device=tensor.device, dtype=dtype)
    return lora


def read_lora(folder: Path, network: nn.Module, dtype: torch.dtype | None = None) -> Lora:
    """Read an adapter for `network` and put its products where that one's weights are; see
    `read_products`."""
    return placed(read_products(folder, network), network, dtype)


def read_products(folder: Path, network: nn.Module) -> Lora:
    """Read an adapter for `network`, which may have no memory: float32, on the CPU.

    Raises:
        UserError: there is none, it is of a kind that glmtui does not apply, or was trained on another model.
    """
    config = read_config(folder)
    tensors = _read_tensors(folder)
    sizes, modules = linear_layers(network), {name for name, _module in network.named_modules()}
    products = {}
    for name, (a, b) in tensors.items():
        expected = sizes.get(name)
        if expected is None and name in modules:
            message = _("{path} adds to {name}, and glmtui applies a LoRA to the layers that read text alone")
            raise BadFileError(message.format(path=folder, name=quoted(name)))
        if expected is None:
            message = _("{path} was trained on another model: this one has no {name}")
            raise BadFileError(message.format(path=folder, name=quoted(name)))
        if (b.shape[0], a.shape[1]) != expected or a.shape[0] != b.shape[1]:
            message = _(
                "{path} was trained on another model: {name} has the shape {found}, this model's {expected}"
            )
            found = [b.shape[0], a.shape[1]]
            raise BadFileError(
                message.format(path=folder, name=quoted(name), found=found, expected=list(expected))
            )
        shape = Shape(
            a.shape[0],
            _alpha(config, name, a.shape[0]),
            bool(config.get("use_rslora")),
        )
        products[name] = LoraProduct(a.float(), b.float(), shape.scale)
    return Lora(products)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the ``adapter_config.json`` of a folder.

    Raises:
        UserError: there is none, or it is of a kind that glmtui does not apply.
    """
    if not (folder / CONFIG).is_file():
        raise NotFoundError(_("{path} holds no LoRA: it has no {name}").format(path=folder, name=CONFIG))
    config = read_json_object(folder / CONFIG)
    check_fields(folder / CONFIG, config, _FIELDS)
    kind = config.get("peft_type")
    unusable = [
        name
        for name, used in (
            (f"peft_type {quoted(str(kind))}", kind not in (None, "LORA")),
            ("use_dora", config.get("use_dora")),
            ("fan_in_fan_out", config.get("fan_in_fan_out")),
            ("bias", config.get("bias") not in (None, "none")),
            ("modules_to_save", config.get("modules_to_save")),
            ("alpha_pattern", config.get("alpha_pattern") and not _are_alphas(config["alpha_pattern"])),
        )
        if used
    ]
    if unusable:
        message = _("{path} is no plain LoRA, which alone glmtui applies: {names}")
        raise BadFileError(message.format(path=folder / CONFIG, names=listing(unusable)))
    return config


def _read_tensors(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    for name in WEIGHTS:
        if (folder / name).is_file():
            file = folder / name
            break
    else:
        raise NotFoundError(
            _("{path} has no weights: none of {names}").format(path=folder, names=listing(WEIGHTS))
        )
    pairs: dict[str, dict[str, Tensor]] = {}
    for stored, tensor in read_file(file):
        found = _NAME.fullmatch(stored)
        if found is None or tensor.dim() != 2 or not tensor.numel() or not tensor.is_floating_point():
            message = _("{path}: {name} is no part of a LoRA on linear layers")
            raise BadFileError(message.format(path=file, name=quoted(stored)))
        if not is_finite(tensor):
            message = _("{path}: {name} has values that are no numbers: its training went wrong")
            raise BadFileError(message.format(path=file, name=quoted(stored)))
        pairs.setdefault(found[1], {})[found[2]] = tensor.clone()
    if half := [name for name, pair in pairs.items() if len(pair) != 2]:
        raise BadFileError(
            _("{path}: {name} has only one of its two matrices").format(path=file, name=quoted(half[0]))
        )
    if not pairs:
        raise BadFileError(_("{path} is empty.").format(path=file))
    return {name: (pair["A"], pair["B"]) for name, pair in pairs.items()}


def _alpha(config: Mapping[str, Any], name: str, rank: int) -> float:
    """Return the alpha of a module: the first of PEFT's patterns that fits the end of its name says it."""
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return float(value)
    alpha = config.get("lora_alpha")
    return float(rank if alpha is None else alpha)


def _are_alphas(table: object) -> bool:
    """Whether `table` is one that `_alpha` reads."""
    return isinstance(table, dict) and all(
        _PATTERN.fullmatch(pattern)
        and len(re.findall(r"[*+]", pattern)) <= MOST_WILD
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        for pattern, value in table.items()
    )


def save_lora(lora: Lora, folder: Path, shape: Shape, dropout: float, base: str) -> None:
    """Write `lora` into `folder` as PEFT does. `base` names the model it was trained on.

    Raises:
        OSError: it cannot be written.
    """
    tensors = {}
    for name, product in lora.named():
        tensors[f"base_model.model.{name}.lora_A.weight"] = product.a.detach().float().cpu().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = product.b.detach().float().cpu().contiguous()
    write_tensors(tensors, folder / WEIGHTS[0])
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": dropout,
        "target_modules": sorted({name.rpartition(".")[2] for name in lora.names}),
        "use_rslora": shape.rank_stabilised,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
    }
    (folder / CONFIG).write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

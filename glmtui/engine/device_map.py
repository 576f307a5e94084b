"""Which part of a network lies on which GPU: spread evenly, or as a file says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glmtui.errors import BadFileError, BadValueError
from glmtui.hub.files import read_json
from glmtui.hub.model_dir import SEEING, TRANSFORMERS, ModelFolder, is_v2, text_config
from glmtui.models.checkpoint import Network
from glmtui.protocol.phrases import _

ENDS = 2
"""What embeddings, last norm and output layer count next to a layer, as in the published
`load_model_on_gpus`."""


@dataclass(frozen=True)
class Placement:
    """Devices by the names of modules; what has no entry of its own is where the module around it is."""

    parts: Mapping[str, str]

    @classmethod
    def single(cls, device: str) -> Placement:
        """Everything on one device."""
        return cls({"": device})

    @classmethod
    def balanced(cls, folder: ModelFolder, devices: Sequence[str]) -> Placement:
        """Fill `devices` one after another; embeddings, last norm and output layer go to the first."""
        count = _layers(folder)
        most = math.ceil((count + ENDS) / len(devices))
        parts, place, used = {"": devices[0]}, 0, ENDS
        for layer in range(count):
            if used >= most and place + 1 < len(devices):
                place, used = place + 1, 0
            parts[f"{layers_name(folder)}.{layer}"] = devices[place]
            used += 1
        return cls(parts)

    @classmethod
    def read(cls, file: Path, folder: ModelFolder, network: Network, devices: Sequence[str]) -> Placement:
        """Read a device map: a JSON object of module names and GPUs, by number or name.

        Raises:
            UserError: it is none, names a module or a GPU that is not there, leaves something out, or puts
                apart what must be together.
        """
        content = read_json(file)
        if not isinstance(content, dict) or not content:
            raise BadFileError(
                _("{path} is no device map: a JSON object of modules and GPUs").format(path=file)
            )
        modules = {name for name, _module in network.named_modules()}
        parts = {}
        for name, value in content.items():
            device = f"cuda:{value}" if isinstance(value, int) else str(value)
            if device not in devices:
                message = _("{path}: {name} is to go to {device}, but there is only {devices}")
                raise BadValueError(
                    message.format(path=file, name=name, device=device, devices=", ".join(devices))
                )
            if name in modules:
                parts[name] = device
            elif not name.endswith("rotary_pos_emb"):  # a module of the published code without weights
                raise BadValueError(_("{path}: the model has no module {name}").format(path=file, name=name))
        result = cls(parts)
        result._check(file, folder, network)
        return result

    def of(self, name: str) -> str:
        """Return the device of the module or tensor `name`.

        Raises:
            KeyError: nothing around it has a place.
        """
        around = name
        while around not in self.parts:
            if not around:
                raise KeyError(name)
            around = around.rpartition(".")[0]
        return self.parts[around]

    def connect(self, network: Network, folder: ModelFolder) -> None:
        """Let `network`, whose tensors lie as this says, compute there.

        Accelerate's hooks move what a layer is given to where the layer is, and the last one's output home.
        """
        if len(set(self.parts.values())) == 1:
            return
        from accelerate.hooks import AlignDevicesHook, add_hook_to_module

        layers, *ends = _names(folder)
        for name in (*ends, *(f"{layers}.{layer}" for layer in range(_layers(folder)))):
            add_hook_to_module(network.get_submodule(name), AlignDevicesHook(self.of(name)))

    def shares(self, folder: ModelFolder) -> dict[str, float]:
        """Return which part of the model each device holds, by the counting of `balanced`."""
        count = _layers(folder)
        units = {self.of(_names(folder)[1]): float(ENDS)}
        for layer in range(count):
            device = self.of(f"{layers_name(folder)}.{layer}")
            units[device] = units.get(device, 0.0) + 1
        return {device: share / (count + ENDS) for device, share in units.items()}

    def _check(self, file: Path, folder: ModelFolder, network: Network) -> None:
        layers = f"{layers_name(folder)}."
        homes: dict[str, str] = {}
        for name, _parameter in network.named_parameters(remove_duplicate=False):
            try:
                device = self.of(name)
            except KeyError:
                message = _("{path} has no place for {name}")
                raise BadValueError(message.format(path=file, name=name)) from None
            owner = ".".join(name.split(".")[: layers.count(".") + 1]) if name.startswith(layers) else ""
            if homes.setdefault(owner, device) != device:
                message = _(
                    "{path}: a layer must be on one GPU, and embeddings, last norm and output layer must be "
                    "together; {name} is apart"
                )
                raise BadValueError(message.format(path=file, name=name))


def layers_name(folder: ModelFolder) -> str:
    """Return the name of the module that holds the layers."""
    return _names(folder)[0]


def _names(folder: ModelFolder) -> tuple[str, str, str]:
    """Return the names of the module with the layers, of the embedding and of the last norm."""
    if folder.family in SEEING:
        text = "model.language_model"
        return f"{text}.layers", f"{text}.embed_tokens", f"{text}.norm"
    if folder.family in TRANSFORMERS:
        return "model.layers", "model.embed_tokens", "model.norm"
    inner, embedding = ("encoder.", "embedding.") if is_v2(folder.config) else ("", "")
    names = (f"{inner}layers", f"{embedding}word_embeddings", f"{inner}final_layernorm")
    return f"transformer.{names[0]}", f"transformer.{names[1]}", f"transformer.{names[2]}"


def _layers(folder: ModelFolder) -> int:
    config = text_config(folder.config)
    return int(config.get("num_layers") or config["num_hidden_layers"])

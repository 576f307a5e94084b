"""The prefixes and LoRAs of a model in memory: each is read once, and switching between them loads
nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from glmtui import paths
from glmtui.errors import BadValueError
from glmtui.hub.integrity import check_complete
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.base import LanguageModel
from glmtui.models.checkpoint import Checkpoint
from glmtui.models.lora import Lora, read_lora
from glmtui.models.prefix import KEYS, PrefixEncoder, with_prefix, without_prefix
from glmtui.protocol.phrases import _

Version = tuple[str, tuple[tuple[str, int, int], ...]]


class Adapters:
    """What lies on top of `network`, whose model is `folder`.

    Args:
        ptuning: the folder of the prefix that `network` was loaded with; None: it has its own, or none.
        dtype: of the network's products.
    """

    def __init__(
        self, network: LanguageModel, folder: ModelFolder, ptuning: str | None, dtype: torch.dtype
    ) -> None:
        self._network, self._folder, self._dtype = network, without_prefix(folder), dtype
        self._own: PrefixEncoder | None = None if ptuning else self._prefix
        self._prefixes: dict[Version, PrefixEncoder] = {}
        self._loras: dict[Version, Lora] = {}
        self._lora: Lora | None = None
        if ptuning and (prefix := self._prefix) is not None:
            self._prefixes[_version(ptuning)] = prefix

    def use(self, ptuning: str | None, lora: str | None) -> bool:
        """Put exactly these folders on top, None for none; return whether that changed anything.

        Raises:
            UserError: one cannot be read, or was made for another model; all is as it was.
        """
        prefix = self._own if ptuning is None else self._read_prefix(ptuning)
        products = None if lora is None else self._read_lora(lora)
        changed = prefix is not self._prefix or products is not self._lora
        if changed:
            if self._lora is not None:
                self._lora.detach()
            if products is not None:
                products.attach(self._network)
            self._lora = products
            if prefix is not self._prefix:
                setattr(self._network.get_submodule("transformer"), "prefix_encoder", prefix)  # noqa: B010 (of mypy)
        return changed

    @property
    def _prefix(self) -> PrefixEncoder | None:
        found = getattr(getattr(self._network, "transformer", None), "prefix_encoder", None)
        return found if isinstance(found, PrefixEncoder) else None

    def _read_prefix(self, source: str) -> PrefixEncoder:
        version = _version(source)
        if version not in self._prefixes:
            folder = ModelFolder.open(source)
            check_complete(folder)
            config = with_prefix(self._folder, folder).config
            self._prefixes[version] = read_prefix(
                self._network, folder, config["pre_seq_len"], projection=config["prefix_projection"]
            )
        return self._prefixes[version]

    def _read_lora(self, source: str) -> Lora:
        version = _version(source)
        if version not in self._loras:
            self._loras[version] = read_lora(paths.typed(source), self._network, self._dtype).eval()
        return self._loras[version]


def read_prefix(network: LanguageModel, folder: ModelFolder, rows: int, *, projection: bool) -> PrefixEncoder:
    """Read the prefix in `folder` for `network`, on its device, as only its keys and values.

    Raises:
        UserError: it is damaged, or of another shape.
    """
    make = getattr(network, "new_prefix", None)
    if make is None:
        raise BadValueError(_("This model takes no P-tuning prefix."))
    encoder: PrefixEncoder = make(rows, projection=projection)
    state = encoder.state_dict()
    expected = {f"{KEYS}{name}": tuple(tensor.shape) for name, tensor in state.items()}
    with torch.no_grad():
        for name, tensor in Checkpoint(folder).tensors(expected):
            state[name.removeprefix(KEYS)].copy_(tensor)
    encoder.fold()
    parameter = next(network.parameters())
    return encoder.to(parameter.device).requires_grad_(False)


def _version(source: str) -> Version:
    """Return what tells whether a folder was written anew."""
    folder = Path(paths.typed(source))
    files = (
        sorted(folder.glob("*.json")) + sorted(folder.glob("*.bin")) + sorted(folder.glob("*.safetensors"))
    )
    states = ((file.name, file.stat()) for file in files if file.is_file())
    return str(folder.absolute()), tuple((name, found.st_mtime_ns, found.st_size) for name, found in states)

"""From a model folder to a network with quantised layers, tensor by tensor.

A folder holds floating-point weights (quantised here), the published int8 or int4 weights (put in another
order), or what `glmtui.quant.cache` wrote (mapped as it is).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glmtui.errors import BadFileError, BadValueError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.checkpoint import QUANTIZED, Checkpoint, assign, dtype_of, expected_shapes
from glmtui.models.weight_files import read_file
from glmtui.protocol.phrases import _
from glmtui.quant import cpu, formats
from glmtui.quant.formats import Bits, Done, Packed
from glmtui.quant.fused import fuse
from glmtui.quant.linear import Activations
from glmtui.quant.policy import bits_of, in_planes, install

FORMAT = "glmtui-2"
"""What ``quantization_format`` in config.json says of a folder that `glmtui.quant.cache` wrote."""


@dataclass(frozen=True)
class Scheme:
    """How the tensors of a network are kept when it is quantised."""

    bits: Bits
    published: bool = False
    """The linear weights of the layers have the published scales, one per row."""
    float_embeddings: bool = False
    """Embeddings and output layer stay as they are, as in the published files."""

    @classmethod
    def of(cls, folder: ModelFolder, bits: Bits, exact: bool = False) -> Scheme:
        """Return the scheme for `folder`; `exact` changes nothing of what is published."""
        if is_own(folder.config):
            return cls(bits, bool(folder.config.get("quantization_published")))
        published = folder.quant != "none"
        return cls(bits, published, float_embeddings=published and exact)

    def bits_of(self, network: nn.Module, name: str) -> Bits | None:
        """Return the bits of the tensor `name`, None where it stays float."""
        if self.float_embeddings and not QUANTIZED.search(name):
            return None
        return bits_of(network, name, self.bits)

    def in_planes(self, network: nn.Module, name: str) -> bool:
        """Whether the tensor `name` lies in two planes."""
        return self.bits_of(network, name) is not None and in_planes(network, name, self.bits)

    def is_per_row(self, name: str) -> bool:
        """Whether the tensor `name` has one scale per row."""
        return self.published and QUANTIZED.search(name) is not None


def is_own(config: Mapping[str, object]) -> bool:
    """Whether the folder with this config was written by `glmtui.quant.cache`.

    Raises:
        UserError: it was written by a glmtui that stores quantised weights differently.
    """
    found = config.get("quantization_format")
    if found is not None and found != FORMAT:
        raise BadFileError(
            _(
                "config.json: the weights are stored as {found!r}, and this glmtui reads {known!r}. "
                "Quantise the model again."
            ).format(found=found, known=FORMAT)
        )
    return found is not None


def read_into(
    network: nn.Module,
    folder: ModelFolder,
    names: Mapping[str, tuple[int, ...]],
    scheme: Scheme,
    *,
    device: Callable[[str], str] = lambda _name: "cpu",
    dtype: torch.dtype = torch.float32,
    vision_dtype: torch.dtype | None = None,
    activations: Activations = "int8",
    done: Done | None = None,
) -> None:
    """Place the tensors `names` (with their float shapes) of `folder` in `network`, on the meta device.

    Args:
        network: as `new_network` builds it.
        folder: see the module.
        names: what to read; the rest of the folder is passed over.
        scheme: what becomes of each tensor.
        device: where each tensor goes, by its name.
        dtype: of what is not quantised, and of the products.
        vision_dtype: of what looks at pictures; None: `dtype`.
        activations: how the quantised layers take their input.
        done: for progress.

    Raises:
        UserError: the folder is damaged, or does not belong to its config.
    """
    for name, tensor in entries(network, folder, names, scheme, done):
        if isinstance(tensor, Packed):
            install(network, name, tensor.to(device(name)), activations, dtype)
        else:
            kept = dtype_of(network, name, dtype, vision_dtype)
            assign(network, name, tensor.to(device(name), kept, copy=not is_own(folder.config)))
    if activations == "int8":
        fuse(network)


def entries(
    network: nn.Module,
    folder: ModelFolder,
    names: Mapping[str, tuple[int, ...]],
    scheme: Scheme,
    done: Done | None = None,
) -> Iterator[tuple[str, Packed | Tensor]]:
    """Yield every tensor of `names` once, in any order: packed where `scheme` says so, as it was else."""
    done = done or (lambda _count: None)
    tied = getattr(network, "TIED", None)
    if is_own(folder.config):
        yield from _read_own(network, folder, names, scheme, done)
        return
    cpu.load()  # first, as the checksums of the files are made with them too
    found: Iterator[tuple[str, Packed | Tensor]]
    if scheme.published:
        stored = expected_shapes(network, "8" if scheme.bits == 8 else "4")
        expected = {name: shape for name, shape in stored.items() if name.removesuffix("_scale") in names}
        found = _pair_scales(Checkpoint(folder).tensors(expected, tied, once=True), expected, names, done)
    else:
        found = Checkpoint(folder).tensors(names, tied, once=True)
    for name, tensor in found:
        bits = scheme.bits_of(network, name)
        if isinstance(tensor, Packed):
            yield name, tensor
        elif bits is None:
            done(tensor.nbytes)
            yield name, tensor
        else:
            try:
                packed = formats.quantize(tensor, bits, planes=scheme.in_planes(network, name), done=done)
            except ValueError as error:
                message = _("{path}: {name} cannot be quantised: {error}")
                raise BadValueError(message.format(path=folder.path, name=name, error=error)) from None
            yield name, packed


def _pair_scales(
    tensors: Iterator[tuple[str, Tensor]],
    expected: Mapping[str, tuple[int, ...]],
    names: Mapping[str, tuple[int, ...]],
    done: Done,
) -> Iterator[tuple[str, Packed | Tensor]]:
    """Pair every weight with its scales; both are mapped, so that one can wait for the other at no cost."""
    unpaired: dict[str, Tensor] = {}
    for name, tensor in tensors:
        weight = name.removesuffix("_scale")
        other = f"{weight}_scale" if weight == name else weight
        if other not in expected:
            yield name, tensor
        elif other not in unpaired:
            unpaired[name] = tensor
        else:
            pair = {name: tensor, other: unpaired.pop(other)}
            scale = pair[f"{weight}_scale"]
            yield weight, formats.pack_published(pair[weight], scale, names[weight][1], done)


def _read_own(
    network: nn.Module,
    folder: ModelFolder,
    names: Mapping[str, tuple[int, ...]],
    scheme: Scheme,
    done: Done,
) -> Iterator[tuple[str, Packed | Tensor]]:
    stored = {name: tensor for file in folder.weight_files for name, tensor in read_file(file, stays=True)}
    for name, shape in names.items():
        expected = tensor_layout(network, name, shape, scheme)
        for part, (dtype, part_shape) in expected.items():
            found = stored.get(part)
            if found is None or found.dtype != dtype or tuple(found.shape) != part_shape:
                message = _(
                    "{path} is damaged: {name} is not as config.json calls for. Quantise the model again."
                )
                raise BadFileError(message.format(path=folder.path, name=part))
        bits = scheme.bits_of(network, name)
        if bits is None:
            done(stored[name].nbytes)
            yield name, stored[name]
        else:
            parts = {part.rpartition(".")[2]: stored[part] for part in expected}
            packed = Packed(bits, shape[0], shape[1], **parts)
            done(packed.nbytes)
            yield name, packed


def tensor_layout(network: nn.Module, name: str, shape: tuple[int, ...], scheme: Scheme) -> formats.Layout:
    """Return the tensors that stand for `name` in a file that `glmtui.quant.cache` writes."""
    bits = scheme.bits_of(network, name)
    if bits is None:
        return {name: (dtype_of(network, name, torch.float32, torch.bfloat16), shape)}
    parts = formats.layout(
        bits, *shape, per_row=scheme.is_per_row(name), planes=scheme.in_planes(network, name)
    )
    return {f"{name}.{part}": description for part, description in parts.items()}

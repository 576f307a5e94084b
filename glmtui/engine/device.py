"""Where a model runs: CUDA before MPS before CPU, each with the reason why or why not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from glmtui import host
from glmtui.engine import nvidia
from glmtui.errors import BadValueError, UnavailableError
from glmtui.host import Memory
from glmtui.hub.memory_estimate import SMALL
from glmtui.protocol.phrases import Option, Phrase, _, listing, verbatim

if TYPE_CHECKING:
    import torch

Kind = Literal["cuda", "mps", "cpu"]
ORDER: tuple[Kind, ...] = ("cuda", "mps", "cpu")
"""``auto`` takes the first that is there."""


@dataclass(frozen=True, slots=True)
class Device:
    """One place to run a model, usable or not."""

    kind: Kind
    name: str
    """The hardware's own name, such as ``NVIDIA GeForce RTX 4090``."""
    available: bool
    reason: Phrase
    """Why it can be used, or why not, for people."""
    memory: Memory
    """Zero where it is not available."""
    bfloat16: bool = True
    """Whether it multiplies bfloat16 at full speed."""
    more: tuple[Memory, ...] = ()
    """Memory of the second GPU, the third, …"""


def probe(kind: Kind) -> Device:
    """Look at one kind of device. Imports torch for all but the CPU."""
    return {"cuda": _cuda, "mps": _mps, "cpu": _cpu}[kind]()


def choose(kind: str = "auto") -> Device:
    """Return the device `kind` (``cuda``, ``mps``, ``cpu``), or for ``auto`` the first that is available.

    Raises:
        UserError: `kind` is no device, or is not available; the message says why.
    """
    if kind == "auto":
        return next(device for device in map(probe, ORDER) if device.available)
    if kind not in ORDER:
        message = _("There is no device {device!r}. Choose one of: {choices}")
        raise BadValueError(message.format(device=kind, choices=listing(("auto", *ORDER))))
    device = probe(kind)
    if not device.available:
        message = _("The device {device} cannot be used: {reason}. Use {auto} or {cpu}.")
        auto, cpu = Option("device", "auto"), Option("device", "cpu")
        raise UnavailableError(message.format(device=kind, reason=device.reason, auto=auto, cpu=cpu))
    return device


def default_dtype(device: Device, parameters: int) -> torch.dtype:
    """Return the type for a model's unquantised weights and its products.

    float16 on accelerators. On the CPU never float16, whose products are ten times slower there: float32 for
    small models; for large ones bfloat16 where the processor multiplies it itself or float32 has no room.
    """
    import torch

    if device.kind != "cpu":
        return torch.float16
    if 4 * parameters <= SMALL:
        return torch.float32
    if host.has_native_bfloat16() or 4 * parameters > 0.9 * device.memory.free:
        return torch.bfloat16
    return torch.float32


def _cpu() -> Device:
    return Device(
        "cpu", host.cpu_name(), available=True, reason=_("it is always there"), memory=host.memory()
    )


def _cuda() -> Device:
    """NVIDIA's GPUs, or AMD's where PyTorch was built for ROCm, which calls them by the same names."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        reason = _("this PyTorch ({version}) was built without CUDA").format(version=torch.__version__)
        if found := nvidia.find():
            reason = _("there is an {name}, but {reason}. {advice}").format(
                name=found.name, reason=reason, advice=nvidia.advice(found)
            )
        elif Path("/dev/kfd").exists():
            reason = _("there is an AMD GPU, but {reason}. See pytorch.org for a PyTorch with ROCm").format(
                reason=reason
            )
        return _missing("cuda", reason)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if not torch.cuda.is_available():
                return _missing("cuda", _why_no_gpu([str(warning.message) for warning in said]))
            name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        if torch.version.hip is None and not runs_on(torch.cuda.get_arch_list(), capability):
            reason = _("this PyTorch ({version}) has no code for {name} (compute capability {capability})")
            reason = reason.format(
                version=torch.__version__, name=name, capability="{}.{}".format(*capability)
            )
            return _missing("cuda", _advised(reason))
        memories = [Memory(*torch.cuda.mem_get_info(index)) for index in range(torch.cuda.device_count())]
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    except RuntimeError as error:  # a GPU that somebody else holds exclusively, or that hangs
        return _missing("cuda", verbatim(str(error).splitlines()[0]))
    reason = _("a GPU is the fastest")
    if torch.version.hip is not None:
        reason = _("a GPU is the fastest, here through ROCm")
    if len(memories) > 1:
        name = f"{len(memories)} × {name}"
    return Device("cuda", name, True, reason, memories[0], bfloat16, tuple(memories[1:]))


def runs_on(architectures: Iterable[str], capability: tuple[int, int]) -> bool:
    """Whether a PyTorch built for `architectures` runs on a card of `capability`.

    ``sm_86`` is code for 8.6 and later cards of the same generation, ``compute_80`` is turned into code for
    any later card by the driver.
    """
    for architecture in architectures:
        form, _underscore, number = architecture.partition("_")
        digits = "".join(filter(str.isdigit, number))
        code = (int(digits[:-1] or 0), int(digits[-1:] or 0))
        if code <= capability and (form == "compute" or code[0] == capability[0]):
            return True
    return False


def _why_no_gpu(warned: list[str]) -> Phrase:
    """Say why PyTorch sees no GPU, after what it `warned` of."""
    import torch

    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return _("CUDA_VISIBLE_DEVICES hides all GPUs")
    if any("too old" in text for text in warned):
        reason = _("the NVIDIA driver is too old for this PyTorch, which needs one for CUDA {version}")
        return _advised(reason.format(version=torch.version.cuda))
    if warned:
        return verbatim(warned[0].splitlines()[0].removeprefix("CUDA initialization: "))
    if torch.version.hip is not None:
        return _("no AMD GPU with a working driver was found")
    return _("no NVIDIA GPU with a working driver was found")


def _advised(reason: Phrase) -> Phrase:
    """Add to `reason` which PyTorch would run on the NVIDIA card that is there, if any is."""
    card = nvidia.find()
    return _("{reason}. {advice}").format(reason=reason, advice=nvidia.advice(card)) if card else reason


def _mps() -> Device:
    import torch

    if not torch.backends.mps.is_built():
        return _missing("mps", _("it exists on Apple silicon only"))
    if not torch.backends.mps.is_available():
        return _missing("mps", _("it needs macOS 14 or later on Apple silicon"))
    main = host.memory()  # shared with the processor
    allowed = torch.mps.recommended_max_memory()
    free = max(min(main.free, allowed - torch.mps.driver_allocated_memory()), 0)
    memory = Memory(free, min(main.total, allowed))
    return Device("mps", host.cpu_name(), available=True, reason=_("Apple's GPU is faster"), memory=memory)


def _missing(kind: Kind, reason: Phrase) -> Device:
    return Device(kind, "", available=False, reason=reason, memory=Memory(0, 0))

"""Where a model runs: CUDA before MPS before CPU, each with the reason why or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from glmtui.engine import host
from glmtui.engine.host import Memory
from glmtui.errors import UserError
from glmtui.i18n import _

if TYPE_CHECKING:
    import torch

Kind = Literal["cuda", "mps", "cpu"]
ORDER: tuple[Kind, ...] = ("cuda", "mps", "cpu")
"""``auto`` takes the first that is there."""

SMALL = 2 << 30
"""Weights up to this many bytes in float32 stay float32 on the CPU: exact, and no slower."""


@dataclass(frozen=True, slots=True)
class Device:
    """One place to run a model, usable or not."""

    kind: Kind
    name: str
    """The hardware's own name, such as ``NVIDIA GeForce RTX 4090``."""
    available: bool
    reason: str
    """Why it can be used, or why not, for people."""
    memory: Memory
    """Zero where it is not available."""


def probe(kind: Kind) -> Device:
    """Look at one kind of device. Imports torch for all but the CPU."""
    return {"cuda": _cuda, "mps": _mps, "cpu": _cpu}[kind]()


def probe_all() -> tuple[Device, ...]:
    """Look at every kind of device, in the order that ``auto`` tries them."""
    return tuple(probe(kind) for kind in ORDER)


def choose(wanted: str = "auto") -> Device:
    """Return the device `wanted` (``cuda``, ``mps``, ``cpu``), or for ``auto`` the first that is available.

    Raises:
        UserError: `wanted` is no device, or is not available; the message says why.
    """
    if wanted == "auto":
        return next(device for device in map(probe, ORDER) if device.available)
    if wanted not in ORDER:
        raise UserError(
            _("There is no device {device!r}. Choose one of: {choices}").format(
                device=wanted, choices=", ".join(("auto", *ORDER))
            )
        )
    device = probe(wanted)
    if not device.available:
        raise UserError(
            _("The device {device} cannot be used: {reason}. Use --device auto or --device cpu.").format(
                device=wanted, reason=device.reason
            )
        )
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
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        reason = _("this PyTorch ({version}) was built without CUDA").format(version=torch.__version__)
        return _missing("cuda", reason)
    try:
        if not torch.cuda.is_available():
            return _missing("cuda", _("no NVIDIA GPU with a working driver was found"))
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
    except RuntimeError as error:  # a driver too old, or a GPU somebody else holds exclusively
        return _missing("cuda", str(error).splitlines()[0])
    return Device("cuda", name, available=True, reason=_("a GPU is the fastest"), memory=Memory(free, total))


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


def _missing(kind: Kind, reason: str) -> Device:
    return Device(kind, "", available=False, reason=reason, memory=Memory(0, 0))

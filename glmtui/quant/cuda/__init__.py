"""Products with packed weights on NVIDIA's and AMD's GPUs: through Triton, or without it in plain PyTorch.

``GLMTUI_KERNELS=torch`` asks for the latter, as it does on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from glmtui.protocol.phrases import _
from glmtui.quant import formats
from glmtui.quant.cpu import VARIABLE, Status
from glmtui.quant.formats import BLOCK

if TYPE_CHECKING:
    from torch import Tensor

    from glmtui.quant.formats import Packed

FEW = 4
"""Tokens up to which every one reads the weights by itself; more are worth unpacking them first."""


Launch = Callable[[Any, tuple[int, int], tuple[Any, ...], Mapping[str, Any]], None]
"""Starts a program on a grid, with its arguments and then its constants by name."""


class Kernels:
    """The Triton programs, given the tensors of a `Packed`. They can be recorded in a CUDA graph.

    Args:
        launch: starts a program with its grid, arguments and constants.
    """

    def __init__(self, launch: Launch | None = None) -> None:
        from glmtui.quant.cuda import kernels

        self._programs = kernels
        self._launch = launch or _launch

    def multiply(self, packed: Packed, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return ``x @ weight.T + bias`` ``[tokens, rows]`` for contiguous `x` ``[tokens, columns]``."""
        out = x.new_empty(x.shape[0], packed.rows)
        blocks, groups = packed.values.shape[:2]
        with _current(x.device):
            self._launch(
                self._programs.multiply,
                (blocks, x.shape[0]),
                (
                    x,
                    *_tensors(packed),
                    out if bias is None else bias,
                    out,
                    packed.rows,
                    packed.columns,
                    groups,
                ),
                {
                    "BITS": packed.bits,
                    "PER_ROW": packed.row_scales is not None,
                    "HAS_BIAS": bias is not None,
                    "TILE": self._programs.TILE,
                },
            )
        return out

    def unpack(self, packed: Packed, first: int, last: int, dtype: torch.dtype) -> Tensor:
        """Return blocks `first` to `last` as ``[rows, columns]``, as `Packed.dequantize` does."""
        blocks, groups = packed.values[first:last].shape[:2]
        rows = min(packed.rows - first * BLOCK, blocks * BLOCK)
        out = torch.empty(rows, packed.columns, dtype=dtype, device=packed.values.device)
        width = self._programs.WIDTH
        with _current(out.device):
            self._launch(
                self._programs.unpack,
                (blocks, -(-packed.columns // width)),
                (*_tensors(packed), out, first, packed.rows, packed.columns, groups),
                {"BITS": packed.bits, "PER_ROW": packed.row_scales is not None, "WIDTH": width},
            )
        return out


@cache
def load(device: torch.device) -> Kernels | None:
    """Return the programs, if they work on `device`; else None, and `status` tells why."""
    return _load(device)[0]


def status(device: torch.device) -> Status:
    """Return what is used on `device`, and why."""
    return _load(device)[1]


@cache
def _load(device: torch.device) -> tuple[Kernels | None, Status]:
    if os.environ.get(VARIABLE) == "torch":
        return None, Status("torch", _("{variable} asks for it").format(variable=VARIABLE))
    try:
        kernels = Kernels()
        right = is_right(kernels, device)
    except ImportError:
        reason = _("Quantised models run several times faster with Triton: pip install {package}")
        package = "triton-windows" if os.name == "nt" else "triton"
        return None, Status("torch", reason.format(package=package))
    except Exception as error:  # noqa: BLE001 (whatever its compiler says: others remain)
        through_cpm = _through_cpm(device)
        if through_cpm is not None:
            return through_cpm, Status("triton, cpm_kernels")
        detail = (str(error).strip() or type(error).__name__).splitlines()[0]
        return None, Status("torch", _("Triton does not work here: {detail}").format(detail=detail))
    if not right:
        return None, Status("torch", _("Triton computes wrong results here"))
    return kernels, Status("triton")


def _through_cpm(device: torch.device) -> Kernels | None:
    """Return the programs started by cpm_kernels, if it is there and they work so."""
    try:
        from glmtui.quant.cuda.cpm import CpmLauncher

        kernels = Kernels(CpmLauncher())
        return kernels if is_right(kernels, device) else None
    except Exception:  # noqa: BLE001 (the reason that counts is why Triton's own launcher does not work)
        return None


def _launch(
    program: Any, grid: tuple[int, int], arguments: tuple[Any, ...], constants: Mapping[str, Any]
) -> None:
    program[grid](*arguments, **constants)


def is_right(kernels: Kernels, device: torch.device) -> bool:
    """Compare small products of every kind with those of `Packed.dequantize`."""
    weight = torch.sin(torch.arange(40.0 * 320)).view(40, 320)
    x = torch.cos(torch.arange(2.0 * 320)).view(2, 320)
    for packed in (
        formats.quantize(weight, 4),
        formats.quantize(weight, 8),
        formats.pack_published(*formats.quantize_published(weight, 4), columns=320),
    ):
        expected = packed.dequantize()
        placed = packed.to(device)
        found = kernels.multiply(placed, x.to(device), None).cpu()
        unpacked = kernels.unpack(placed, 1, 3, torch.float32).cpu()
        if not torch.allclose(found, x @ expected.T, atol=1e-3) or not torch.allclose(
            unpacked, expected[16:], atol=1e-6
        ):
            return False
    return True


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Make `device` the one that programs are started on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _tensors(packed: Packed) -> tuple[Any, ...]:
    """Return values as words and the scales; what is not there is replaced by something that is not read."""
    unused = packed.values
    parts = (packed.scales, packed.factors, packed.row_scales)
    return (packed.values.view(torch.int32), *(unused if part is None else part for part in parts))

"""What this process holds of the machine's memory at the moment."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes in use by this process."""

    main: int
    """Of the main memory, resident."""
    device: int | None = None
    """Of the accelerator's own memory; None where the model runs on the CPU."""


def usage(device: str) -> Usage:
    """Measure, in well under a millisecond; `device` is the kind the model runs on. Imports no torch."""
    import psutil

    main = psutil.Process().memory_info().rss
    torch = sys.modules.get("torch")
    if torch is None or device == "cpu":
        return Usage(main)
    if device == "mps":
        return Usage(main, int(torch.mps.driver_allocated_memory()))
    return Usage(main, int(torch.cuda.memory_reserved()))

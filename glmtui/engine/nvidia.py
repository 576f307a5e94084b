"""NVIDIA's cards as their driver sees them, whether PyTorch can use them or not."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache

from glmtui.protocol.phrases import Phrase, _

OLDEST_DRIVER = 525
"""The first that runs programs of CUDA 12, which all PyTorches from 2.6 on are."""
BLACKWELL = (10, 0)
TURING = (7, 5)


@dataclass(frozen=True, slots=True)
class Card:
    """One graphics card."""

    name: str
    driver: int
    """Leading number of the driver's version."""
    capability: tuple[int, int]


@cache
def find() -> Card | None:
    """Return the first card that ``nvidia-smi`` (part of the driver) lists."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        name, driver, capability = (part.strip() for part in done.stdout.splitlines()[0].split(","))
        major, minor = capability.split(".")
        return Card(name, int(driver.split(".")[0]), (int(major), int(minor)))
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def advice(card: Card) -> Phrase:
    """Say how to get a PyTorch that runs on `card`: which build, or that the driver must be newer first."""
    build = _build(card)
    if build is None:
        return _("Update the NVIDIA driver (it is {driver}), then run glmtui doctor again.").format(
            driver=card.driver
        )
    return _("Install the PyTorch for it: {command}").format(
        command=f'pip install --force-reinstall "torch>=2.6,<2.14" '
        f"--index-url https://download.pytorch.org/whl/{build}"
    )


def _build(card: Card) -> str | None:
    """Return the name of the newest build of PyTorch for the card and its driver.

    CUDA 12 runs on drivers from 525, and from 12.8 (570) on Blackwell; CUDA 13 on drivers from 580, and no
    longer on cards before Turing.
    """
    if card.driver >= 580 and card.capability >= TURING:
        return "cu130"
    if card.capability >= BLACKWELL:
        return "cu128" if card.driver >= 570 else None
    return "cu126" if card.driver >= OLDEST_DRIVER else None

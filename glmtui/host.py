"""This computer without torch: its processor, how many threads to use, how much memory is free.

A container's limits (Linux control groups, both versions) count where they are lower than the machine's.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one memory."""

    free: int
    """What a program may still take without swapping."""
    total: int


def memory() -> Memory:
    """Return the main memory that this process may use now."""
    machine = psutil.virtual_memory()
    result = Memory(machine.available, machine.total)
    for group in _groups("memory"):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        if limit is None or limit >= machine.total:  # version 1 writes "none" as a huge number
            continue
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
        free = max(limit - used + _reclaimable(group), 0)
        result = Memory(min(result.free, free), min(result.total, limit))
    return result


def usable_cores() -> int:
    """Return the physical cores this process may use: the right number of threads for matrix products."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    for group in _groups("cpu"):
        cores = min(cores, _cpu_quota(group))
    return max(cores, 1)


def leave_missing_folder() -> None:
    """Go home (or to the root) if the working folder was removed: some libraries end the process there."""
    try:
        os.getcwd()
    except OSError:
        home = Path.home()
        os.chdir(home if home.is_dir() else "/")


def may_have_accelerator() -> bool:
    """Whether it is worth importing torch to look for a GPU: cheap signs of a driver, no proof."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    return any(Path(sign).exists() for sign in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


@cache
def cpu_name() -> str:
    """Return the processor's name for people."""
    return (
        _cpuinfo().get("model name")
        or _sysctl("machdep.cpu.brand_string")
        or platform.processor()
        or platform.machine()
    )


@cache
def cpu_flags() -> frozenset[str]:
    """Return the processor's instruction sets by Linux's names; none where it cannot be asked."""
    if sys.platform == "darwin":
        names = {
            "hw.optional.arm.FEAT_BF16": "bf16",
            "hw.optional.arm.FEAT_DotProd": "asimddp",
            "hw.optional.avx2_0": "avx2",
        }
        return frozenset(flag for name, flag in names.items() if _sysctl(name) == "1")
    info = _cpuinfo()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself, which makes it the fast format for large products."""
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control groups for `controller`, innermost first."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _hierarchy, controllers, path = line.split(":", 2)
        if controllers == "":
            root = _CGROUPS
        elif controller in controllers.split(","):
            root = _CGROUPS / controller
        else:
            continue
        group = root / path.lstrip("/")
        while True:
            yield group  # one that is not there (a container sees its own as the root) has no files to read
            if group == root:
                break
            group = group.parent


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None


def _reclaimable(group: Path) -> int:
    """Bytes of the file cache that count as used but give way."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    stat = {name: value for name, _space, value in (line.partition(" ") for line in lines)}
    return int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0)


def _cpu_quota(group: Path) -> int:
    """Return how many cores' time the group may use (rounded up)."""
    try:
        quota, period = map(int, (group / "cpu.max").read_text().split())
    except (OSError, ValueError):
        quota = _number(group / "cpu.cfs_quota_us") or 0
        period = _number(group / "cpu.cfs_period_us") or 0
    return -(-quota // period) if quota > 0 and period > 0 else sys.maxsize


def _cpuinfo() -> dict[str, str]:
    """Return the first processor's block of ``/proc/cpuinfo``."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _colon, value in pairs}


def _sysctl(name: str) -> str:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()

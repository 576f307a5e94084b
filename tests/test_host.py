"""Free memory and cores, also inside a container; which type suits which device."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from glmtui import host
from glmtui.engine import device as devices
from glmtui.engine.device import Device
from glmtui.errors import UserError
from glmtui.host import Memory

GIB = 1 << 30
Control = Callable[..., None]


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    """Pretend to be in the control groups `membership`, with these files under ``/sys/fs/cgroup``."""

    def set_up(membership: str, **files: str | int) -> None:
        (tmp_path / "cgroup").write_text(membership)
        for name, content in files.items():
            file = tmp_path / "fs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{content}\n")

    monkeypatch.setattr(host, "_MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(host, "_CGROUPS", tmp_path / "fs")
    return set_up


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 64 GiB, 40 of them free, and 16 cores."""
    memory = psutil.virtual_memory()._replace(total=64 * GIB, available=40 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 32 if logical else 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(32)), raising=False)


def test_without_limits_the_machines_own(control: Control) -> None:
    control("0::/user.slice\n", **{"user.slice/memory.max": "max", "user.slice/cpu.max": "max 100000"})
    assert host.memory() == Memory(40 * GIB, 64 * GIB)
    assert host.usable_cores() == 16


def test_version_2_limits_of_any_ancestor_count(control: Control) -> None:
    control(
        "0::/pod/box\n",
        **{
            "pod/memory.max": 8 * GIB,
            "pod/memory.current": 5 * GIB,
            "pod/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            "pod/box/memory.max": 16 * GIB,
            "pod/box/memory.current": 2 * GIB,
            "pod/box/cpu.max": "250000 100000",
        },
    )
    assert host.memory() == Memory(4 * GIB, 8 * GIB)
    assert host.usable_cores() == 3


def test_version_1_limits_count(control: Control) -> None:
    control(
        "4:cpu,cpuacct:/box\n3:memory:/box\n",
        **{
            "memory/box/memory.limit_in_bytes": 4 * GIB,
            "memory/box/memory.usage_in_bytes": 3 * GIB,
            "memory/memory.limit_in_bytes": 2**63 - 4096,
            "cpu/box/cpu.cfs_quota_us": 100000,
            "cpu/box/cpu.cfs_period_us": 100000,
            "cpu/cpu.cfs_quota_us": -1,
        },
    )
    assert host.memory() == Memory(GIB, 4 * GIB)
    assert host.usable_cores() == 1


def test_no_control_groups_at_all() -> None:
    assert host.memory().total <= 64 * GIB
    assert host.cpu_name()


def test_affinity_limits_the_cores(monkeypatch: pytest.MonkeyPatch, control: Control) -> None:
    control("0::/\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    assert host.usable_cores() == 2


CPU = Device("cpu", "some CPU", available=True, reason="", memory=Memory(32 * GIB, 32 * GIB))


@pytest.mark.parametrize(
    ("device", "parameters", "native", "expected"),
    [
        (CPU, 5_000_000, True, torch.float32),
        (CPU, 6_000_000_000, True, torch.bfloat16),
        (CPU, 6_000_000_000, False, torch.float32),
        (replace(CPU, memory=Memory(16 * GIB, 32 * GIB)), 6_000_000_000, False, torch.bfloat16),
        (replace(CPU, kind="cuda"), 5_000_000, True, torch.float16),
        (replace(CPU, kind="mps"), 6_000_000_000, False, torch.float16),
    ],
)
def test_default_dtype(
    monkeypatch: pytest.MonkeyPatch, device: Device, parameters: int, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(host, "has_native_bfloat16", lambda: native)
    assert devices.default_dtype(device, parameters) == expected


def pretend(monkeypatch: pytest.MonkeyPatch, *available: str) -> None:
    def probe(kind: devices.Kind) -> Device:
        there = kind in available
        return Device(kind, kind, available=there, reason=f"why {kind}", memory=Memory(GIB, GIB))

    monkeypatch.setattr(devices, "probe", probe)


@pytest.mark.parametrize(
    ("available", "chosen"),
    [(("cpu",), "cpu"), (("mps", "cpu"), "mps"), (("cuda", "cpu"), "cuda"), (("cuda", "mps", "cpu"), "cuda")],
)
def test_auto_takes_the_first_that_is_there(
    monkeypatch: pytest.MonkeyPatch, available: tuple[str, ...], chosen: str
) -> None:
    pretend(monkeypatch, *available)
    assert devices.choose("auto").kind == chosen
    assert devices.choose("cpu").kind == "cpu"


def test_a_device_that_is_not_there_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "cpu")
    with pytest.raises(UserError, match=r"cuda cannot be used: why cuda\..*--device cpu"):
        devices.choose("cuda")
    with pytest.raises(UserError, match="'tpu'"):
        devices.choose("tpu")


def test_cuda_and_mps_are_looked_at_without_raising() -> None:
    for device in map(devices.probe, devices.ORDER):
        assert device.reason
        assert device.available or device.memory == Memory(0, 0)


@pytest.mark.hardware
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cuda_has_a_name_and_memory() -> None:
    device = devices.choose("cuda")
    assert device.name
    assert 0 < device.memory.free <= device.memory.total


def test_a_working_folder_that_was_removed_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    host.leave_missing_folder()
    assert Path.cwd() == gone
    gone.rmdir()
    host.leave_missing_folder()
    assert Path.cwd().is_dir()

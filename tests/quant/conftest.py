from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from glmtui import host
from glmtui.quant import cpu
from glmtui.quant.cpu.build import build_kernels, find_compilers


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def kernel_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all tests keep the kernels they compile, so that each is compiled once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def own_home(kernel_home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLMTUI_HOME", str(kernel_home))
    monkeypatch.delenv(cpu.VARIABLE, raising=False)


def is_supported(isa: str) -> bool:
    flags = set(host.cpu_flags())
    arm = platform.machine().lower() in ("arm64", "aarch64")
    return {
        "avx512": {"avx512_vnni", "avx512bw"} <= flags,
        "avxvnni": {"avx_vnni", "fma", "f16c"} <= flags,
        "avx2": {"avx2", "fma", "f16c"} <= flags,
        "neon": arm,
        "plain": True,
    }[isa]


ISAS = ("avx512", "avxvnni", "avx2", "neon", "plain")
NATIVE = next(isa for isa in ISAS if is_supported(isa))
"""What the kernels are compiled for here when nobody asks for anything else."""


@pytest.fixture(
    params=[pytest.param(isa, marks=[pytest.mark.slow] if NATIVE != isa == "plain" else []) for isa in ISAS]
)
def kernels(request: pytest.FixtureRequest, kernel_home: Path) -> cpu.Kernels:
    """Every implementation that this machine can run."""
    if not find_compilers():
        pytest.skip("there is no C compiler here")
    if not is_supported(request.param):
        pytest.skip(f"this processor has no {request.param}")
    found = cpu.Kernels(str(build_kernels(None if request.param == NATIVE else request.param).path))
    assert found.isa == request.param
    return found

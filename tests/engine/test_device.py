"""Why a GPU can be used or not, and which PyTorch to install, on machines that are only pretended."""

from __future__ import annotations

import subprocess
import warnings

import pytest
import torch

from glmtui.engine import device as devices
from glmtui.engine import loader, nvidia
from glmtui.engine.nvidia import Card
from glmtui.errors import UserError
from glmtui.host import Memory
from glmtui.protocol.models import LocalModel

GIB = 1 << 30
ADA = Card("NVIDIA GeForce RTX 4090", 560, (8, 9))


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> list[Card | None]:
    """The card that ``nvidia-smi`` lists; replace the first item."""
    found: list[Card | None] = [ADA]
    monkeypatch.setattr(nvidia, "find", lambda: found[0])
    return found


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, card: list[Card | None]) -> pytest.MonkeyPatch:
    """A PyTorch with CUDA that sees two GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.version, "hip", None)
    answers = {
        "is_available": lambda: True,
        "get_device_name": lambda: "NVIDIA GeForce RTX 4090",
        "get_device_capability": lambda: (8, 9),
        "get_arch_list": lambda: ["sm_50", "sm_80", "sm_90", "compute_90"],
        "device_count": lambda: 2,
        "mem_get_info": lambda index: ((20 - index) * GIB, 24 * GIB),
        "is_bf16_supported": lambda including_emulation: True,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    return monkeypatch


def test_all_gpus_are_counted(gpu: pytest.MonkeyPatch) -> None:
    device = devices.probe("cuda")
    assert (device.available, device.name) == (True, "2 × NVIDIA GeForce RTX 4090")
    assert (device.memory, device.more) == (Memory(20 * GIB, 24 * GIB), (Memory(19 * GIB, 24 * GIB),))


def test_a_torch_without_cuda_beside_a_card_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, card: list[Card | None]
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    reason = str(devices.probe("cuda").reason)
    assert "RTX 4090" in reason
    assert "pip install" in reason
    assert reason.endswith("/whl/cu126")
    card[0] = None
    assert "built without CUDA" in str(devices.probe("cuda").reason)


@pytest.mark.parametrize(
    ("driver", "capability", "build"),
    [
        (580, (8, 6), "cu130"),
        (580, (6, 1), "cu126"),  # CUDA 13 has given up Pascal
        (535, (7, 5), "cu126"),
        (570, (12, 0), "cu128"),
        (560, (12, 0), "Update the NVIDIA driver (it is 560)"),
        (470, (8, 6), "Update the NVIDIA driver (it is 470)"),
    ],
)
def test_the_build_suits_card_and_driver(driver: int, capability: tuple[int, int], build: str) -> None:
    assert build in str(nvidia.advice(Card("card", driver, capability)))


def test_an_old_driver_is_named(gpu: pytest.MonkeyPatch, card: list[Card | None]) -> None:
    def unavailable() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old (…)", stacklevel=1)
        return False

    gpu.setattr(torch.cuda, "is_available", unavailable)
    card[0] = Card("Tesla T4", 470, (7, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        device = devices.probe("cuda")
    assert not device.available
    assert "too old" in str(device.reason)
    assert "CUDA 12.6" in str(device.reason)
    assert "Update the NVIDIA driver (it is 470)" in str(device.reason)


def test_hidden_gpus_are_called_hidden(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.cuda, "is_available", lambda: False)
    assert "no NVIDIA GPU" in str(devices.probe("cuda").reason)
    gpu.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES" in str(devices.probe("cuda").reason)


def test_a_card_without_code_in_this_torch_is_not_used(
    gpu: pytest.MonkeyPatch, card: list[Card | None]
) -> None:
    gpu.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90"])
    gpu.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    card[0] = Card("NVIDIA GeForce GTX 1080 Ti", 580, (6, 1))
    device = devices.probe("cuda")
    assert not device.available
    assert "compute capability 6.1" in str(device.reason)
    assert str(device.reason).endswith("/whl/cu126")


@pytest.mark.parametrize(
    ("capability", "runs"), [((8, 9), True), ((8, 0), True), ((7, 5), False), ((12, 0), True), ((9, 0), True)]
)
def test_code_runs_on_its_generation_and_ptx_on_any_later(capability: tuple[int, int], runs: bool) -> None:
    assert devices.runs_on(["sm_80", "sm_86", "compute_90"], capability) is runs


def test_rocm_is_named(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.version, "cuda", None)
    gpu.setattr(torch.version, "hip", "6.4")
    gpu.setattr(torch.cuda, "get_arch_list", lambda: ["gfx1100"])
    device = devices.probe("cuda")
    assert device.available
    assert "ROCm" in str(device.reason)
    gpu.setattr(torch.cuda, "is_available", lambda: False)
    assert "no AMD GPU" in str(devices.probe("cuda").reason)


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("Tesla T4, 535.183.01, 7.5\nTesla P4, 535.183.01, 6.1\n", Card("Tesla T4", 535, (7, 5))),
        ("", None),
        ("NVIDIA-SMI has failed\n", None),
    ],
)
def test_nvidia_smi_is_read(monkeypatch: pytest.MonkeyPatch, printed: str, found: Card | None) -> None:
    done = subprocess.CompletedProcess([], 0, printed, "")
    monkeypatch.setattr(nvidia.subprocess, "run", lambda *_args, **_options: done)
    assert nvidia.find.__wrapped__() == found


def test_bfloat16_is_refused_where_the_card_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    turing = devices.Device("cuda", "Tesla T4", True, "", Memory(15 * GIB, 16 * GIB), bfloat16=False)
    monkeypatch.setattr(devices, "choose", lambda _wanted: turing)
    with pytest.raises(UserError, match="Tesla T4 does not compute with bfloat16"):
        loader.plan(LocalModel(dtype="bfloat16"))
    assert loader.plan().dtype == torch.float16

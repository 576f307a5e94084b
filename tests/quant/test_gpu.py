"""Quantised products on GPUs: Triton's programs in its interpreter, MPS's layouts against its operators.

What those operators compute was read in PyTorch's Metal source.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from glmtui.quant import cpu, cuda, formats
from glmtui.quant.cuda.cpm import CpmLauncher
from glmtui.quant.formats import Packed
from glmtui.quant.linear import QuantizedEmbedding, QuantizedLinear
from glmtui.quant.mps import MpsWeight

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed; PyTorch for CUDA has it"
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
needs_mps = pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs Apple silicon")


KINDS = ("int4", "int8", "published int4", "published int8")


def packed_kinds(rows: int = 40, columns: int = 320) -> dict[str, Packed]:
    weight = torch.randn(rows, columns)
    own = [formats.quantize(weight, bits) for bits in (4, 8)]
    quantized = [formats.quantize_published(weight, bits) for bits in (4, 8)]
    published = [formats.pack_published(*each, columns=columns) for each in quantized]
    return dict(zip(KINDS, [*own, *published], strict=True))


INTERPRETED = """
import torch
from tests_quant_gpu import packed_kinds
from glmtui.quant import cuda

kernels = cuda.Kernels()
assert cuda.is_right(kernels, torch.device("cpu"))
for name, packed in packed_kinds().items():
    expected = packed.dequantize()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        x, bias = torch.randn(3, 320).to(dtype), torch.randn(40).to(dtype)
        out = kernels.multiply(packed, x, bias)
        assert out.dtype == dtype
        exact = x.float() @ expected.T + bias.float()
        assert (out.float() - exact).abs().max() < exact.abs().max() * max(torch.finfo(dtype).eps, 1e-5), name
        torch.testing.assert_close(kernels.unpack(packed, 1, 2, dtype), expected[16:32].to(dtype))
        assert kernels.unpack(packed, 2, 9, dtype).shape == (8, 320)
"""


@needs_triton
def test_the_programs_compute_what_the_format_says(tmp_path: Path) -> None:
    (tmp_path / "tests_quant_gpu.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    paths = [str(tmp_path), *sys.path]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, check=True, timeout=100)


@needs_triton
@pytest.mark.parametrize("capability", [75, 90])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_programs_become_code_for_real_cards(capability: int, bits: int, tmp_path: Path) -> None:
    from glmtui.quant.cuda import kernels
    from glmtui.quant.cuda.cpm import compile_for

    kinds = ("*fp16", "*i32", "*fp16", "*u8", "*u8", "*fp16", "*fp16", "i32", "i32", "i32")
    constants = {"BITS": bits, "PER_ROW": False, "HAS_BIAS": True, "TILE": kernels.TILE}
    made = compile_for(kernels.multiply, kinds, constants, capability)
    assert made.asm["cubin"]
    assert "ld.global.v4.b32" in made.asm["ptx"]  # sixteen bytes of weights at a time


# --- MPS ---


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for PyTorch's operators on MPS, with what their Metal code computes."""

    def convert(pairs: Tensor, inner_tiles: int) -> Tensor:
        assert pairs.dtype == torch.uint8
        rows, half = pairs.shape
        swapped = (pairs & 15) << 4 | pairs >> 4
        shape = (rows // 8, 2 * half // (16 * inner_tiles), 32, inner_tiles // 2)
        return swapped.contiguous().view(torch.int32).view(shape)

    def int4(x: Tensor, weight: Tensor, group: int, scales_and_zeros: Tensor) -> Tensor:
        assert weight.dtype == torch.int32
        assert group in (32, 64, 128, 256)
        assert x.is_contiguous()
        assert x.dtype == scales_and_zeros.dtype
        rows, columns = weight.shape[0] * 8, x.shape[1]
        assert scales_and_zeros.shape == (columns // group, rows, 2)
        pairs = weight.view(torch.uint8).view(rows, columns // 2)
        q = torch.stack((pairs & 15, pairs >> 4), dim=2).view(rows, -1, group).float()
        scale, zero = scales_and_zeros.float().permute(2, 1, 0)[..., None]
        return (x.float() @ (scale * q + (zero - scale * 8)).reshape(rows, columns).T).to(x.dtype)

    def int8(x: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
        assert weight.dtype == torch.int8
        assert weight.shape[0] % 32 == weight.shape[1] % 32 == 0
        assert x.is_contiguous()
        assert x.shape[1] == weight.shape[1]
        assert scales.shape == weight.shape[:1]
        assert x.dtype == scales.dtype
        return ((x.float() @ weight.float().T) * scales.float()).to(x.dtype)

    monkeypatch.setattr(torch, "_convert_weight_to_int4pack", convert)
    monkeypatch.setattr(torch, "_weight_int4pack_mm", int4)
    monkeypatch.setattr(torch, "_weight_int8pack_mm", int8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize("columns", [256, 320])
def test_mps_multiplies_by_the_same_weights(operators: None, kind: str, tokens: int, columns: int) -> None:
    packed = packed_kinds(40, columns)[kind]
    weight = MpsWeight.of(packed, torch.float32)
    x, bias = torch.randn(tokens, columns), torch.randn(40)
    expected = x @ packed.dequantize().T + bias
    rounded_again = kind == "int8"  # its scales per group become one per row
    tolerance = 0.01 if rounded_again else 1e-5
    assert (weight.multiply(x, bias) - expected).abs().max() < tolerance * expected.abs().max()
    half = MpsWeight.of(packed, torch.float16).multiply(x.half(), bias.half())
    assert half.dtype == torch.float16
    assert (half.float() - expected).abs().max() < 0.01 * expected.abs().max()


def test_mps_gathers_rows_of_embeddings(operators: None) -> None:
    packed = packed_kinds()["published int8"]
    weight = MpsWeight.of(packed, torch.float32)
    embedding = QuantizedEmbedding(weight, torch.float32)
    assert torch.allclose(
        embedding(torch.tensor([[0, 39], [7, 7]])), packed.dequantize()[[0, 39, 7, 7]].view(2, 2, -1)
    )
    assert torch.allclose(QuantizedLinear(weight)(torch.eye(320)), packed.dequantize().T, atol=1e-5)


@pytest.mark.hardware
@needs_mps
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 20])
def test_mps_itself(kind: str, tokens: int) -> None:
    packed = packed_kinds(64, 256)[kind]
    x = torch.randn(tokens, 256)
    expected = x @ packed.dequantize().T
    found = MpsWeight.of(packed.to("mps"), torch.float16).multiply(x.half().to("mps"), None)
    assert (found.float().cpu() - expected).abs().max() < 0.02 * expected.abs().max()


# --- CUDA ---


@pytest.mark.hardware
@needs_cuda
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [1, 4, 5, 300])
def test_cuda_itself(kind: str, tokens: int) -> None:
    packed = packed_kinds(1000, 640)[kind]
    x, bias = torch.randn(tokens, 640), torch.randn(1000)
    expected = x @ packed.dequantize().T + bias
    layer = QuantizedLinear(packed.to("cuda"), bias.half().cuda(), "float")
    assert (layer(x.half().cuda()).float().cpu() - expected).abs().max() < 0.01 * expected.abs().max()


@pytest.mark.hardware
@needs_cuda
def test_cuda_has_the_programs() -> None:
    assert cuda.status(torch.device("cuda:0")).implementation == "triton"


def test_without_triton_pytorch_does_it_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "Kernels", None)
    cuda._load.cache_clear()
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "glmtui.quant.cuda.kernels", raising=False)

    def missing() -> object:
        import triton

        return triton

    monkeypatch.setattr(cuda, "Kernels", missing)
    status = cuda.status(torch.device("cpu"))
    assert status.implementation == "torch"
    assert "pip install triton" in str(status.reason)
    cuda._load.cache_clear()
    monkeypatch.setenv(cpu.VARIABLE, "torch")
    assert cpu.VARIABLE in str(cuda.status(torch.device("cpu")).reason)
    cuda._load.cache_clear()


def test_a_broken_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> object:
        raise RuntimeError("Failed to find C compiler.\nSet CC.")

    monkeypatch.setattr(cuda, "Kernels", broken)
    cuda._load.cache_clear()
    assert (
        str(cuda.status(torch.device("cpu")).reason)
        == "Triton does not work here: Failed to find C compiler."
    )
    cuda._load.cache_clear()


@needs_triton
def test_cpm_kernels_starts_the_programs_where_triton_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed to it: code of the card, the grid, and the arguments in the order of the program."""
    from glmtui.quant.cuda import kernels

    started: list[tuple[Any, ...]] = []

    class KernelFunction:
        def __init__(self, module: bytes, name: str) -> None:
            assert module[:4] == b"\x7fELF"
            self.name = name

        def __call__(self, *arguments: Any) -> None:
            started.append((self.name, *arguments))

    base = SimpleNamespace(KernelFunction=KernelFunction, LazyKernelCModule=lambda code: code)
    for name in ("cpm_kernels", "cpm_kernels.kernels"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cpm_kernels.kernels.base", base)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    packed, x = packed_kinds()["int4"], torch.randn(2, 320).half()
    programs = cuda.Kernels(CpmLauncher())
    out = programs.multiply(packed, x, None)
    programs.multiply(packed, x, None)
    assert len(started) == 2
    name, grid, block, _shared, stream, parameters = started[0]
    assert (name, grid, stream) == (kernels.multiply.__name__, (3, 2, 1), 7)
    assert block[0] % 32 == 0
    tensors = (x, packed.values, packed.scales, packed.factors, packed.values, out, out)
    assert [each.value for each in parameters] == [
        *(each.data_ptr() for each in tensors),
        40,
        320,
        3,
        None,
        None,
    ]

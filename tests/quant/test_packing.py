"""Quantising and reordering in the kernels against the same in PyTorch."""

from __future__ import annotations

import zlib

import pytest
import torch

from glmtui.quant import formats

SHAPES = [(1, 2), (16, 128), (17, 130), (40, 96), (5, 1026)]
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def in_torch(monkeypatch: pytest.MonkeyPatch, weight: torch.Tensor, bits: formats.Bits) -> formats.Packed:
    with monkeypatch.context() as patch:
        patch.setattr(formats, "_kernels", lambda _weight: None)
        return formats.quantize(weight, bits)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_int8_is_the_same(kernels, monkeypatch, rows, columns, dtype):
    weight = torch.randn(rows, columns).to(dtype)
    weight[:, : columns // 3] *= 1e-6  # scales that fp16 holds as subnormal numbers
    packed = formats.empty(8, rows, columns)
    assert kernels.quantize(weight, packed)
    expected = in_torch(monkeypatch, weight, 8)
    assert torch.equal(packed.scales, expected.scales)
    assert torch.equal(packed.values, expected.values)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_int4_has_the_same_scales_and_is_as_near(kernels, monkeypatch, rows, columns, dtype):
    weight = torch.randn(rows, columns).to(dtype)
    packed = formats.empty(4, rows, columns)
    assert kernels.quantize(weight, packed)
    expected = in_torch(monkeypatch, weight, 4)
    assert torch.equal(packed.scales, expected.scales)
    errors = [(each.dequantize() - weight.float()).norm().item() for each in (packed, expected)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)  # a weight between two levels may go either way


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_stay_zeros_and_what_is_too_large_for_a_scale_is_cut_off(kernels, monkeypatch, bits):
    weight = torch.zeros(20, 256)
    weight[3, 130] = 1e30
    weight[4] = 1e-30
    packed = formats.empty(bits, 20, 256)
    assert kernels.quantize(weight, packed)
    assert torch.equal(packed.dequantize(), in_torch(monkeypatch, weight, bits).dequantize())
    assert packed.dequantize()[:3].abs().max() == 0


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
def test_what_is_not_finite_is_told(kernels, bits, value, dtype):
    weight = torch.ones(17, 130, dtype=dtype)
    weight[16, 129] = value
    assert not kernels.quantize(weight, formats.empty(bits, 17, 130))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_published_weights_are_the_same_in_another_order(kernels, bits, rows, columns):
    q = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (rows, columns)).to(torch.int8)
    packed = formats.empty(bits, rows, columns, per_row=True)
    kernels.reorder(q if bits == 8 else formats.pack_nibbles(q), packed)
    assert torch.equal(packed.integers()[:rows, :columns], q)
    padding = packed.integers()
    padding[:rows, :columns] = 0
    assert not padding.any()


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1000, 4096 + 7])
def test_checksums_are_those_of_zlib(kernels, length):
    data = torch.randint(0, 256, (length + 3,), dtype=torch.uint8)[3:]
    assert kernels.crc32(data) == zlib.crc32(data.numpy())
    assert kernels.crc32(data, 12345) == zlib.crc32(data.numpy(), 12345)

"""Weights as floating point again, and the product of a gradient with them, against the plain formulas."""

from __future__ import annotations

import pytest
import torch

from glmtui.quant import formats
from glmtui.quant.cpu import Matrix

KINDS = ("own 8", "own 4", "published 8", "published 4", "planes 8")


def pack(kind: str, rows: int, columns: int) -> formats.Packed:
    weight, bits = torch.randn(rows, columns), 8 if "8" in kind else 4
    if kind.startswith("published"):
        return formats.pack_published(*formats.quantize_published(weight, bits), columns=columns)
    return formats.quantize(weight, bits, planes=kind.startswith("planes"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(50, 320), (16, 128), (33, 40)])
def test_kernels_unpack_to_the_very_same(kernels, kind, shape):
    packed = pack(kind, *shape)
    matrix = Matrix.of(packed, None)
    assert torch.equal(kernels.unpack(matrix, 0, 99), packed.dequantize())
    if shape[0] > 16:
        assert torch.equal(kernels.unpack(matrix, 1, 2), packed.dequantize(1, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [0, 1, 3, 9])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_gradients_product_is_that_of_the_unpacked_weights(kernels, kind, tokens, threads):
    torch.set_num_threads(threads)
    packed = pack(kind, 50, 320)
    gradient = torch.randn(tokens, 50)
    found = kernels.multiply_gradient(Matrix.of(packed, None), gradient)
    torch.testing.assert_close(found, gradient @ packed.dequantize(), rtol=1e-5, atol=1e-4)

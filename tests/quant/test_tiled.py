"""bfloat16 and float16 on the CPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from glmtui import host
from glmtui.quant import cpu
from glmtui.quant import tiled as tiles
from glmtui.quant.tiled import TiledLinear, tile


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [0, 1, 8, 15, 16, 40])
def test_products_are_those_of_float32(monkeypatch, tokens, bias, dtype, compiled, native):
    monkeypatch.setattr(tiles, "TILE", 24 * 7)  # a last tile of other size than the rest
    monkeypatch.setattr(host, "has_native_bfloat16", lambda: native)
    if not compiled:
        monkeypatch.setattr(cpu, "load", lambda: None)
    linear = nn.Linear(24, 50, bias=bias, dtype=dtype)
    x = torch.randn(2, tokens, 24, dtype=dtype)
    with torch.inference_mode():
        found = TiledLinear(linear)(x)
        expected = F.linear(x.float(), linear.weight.float(), linear.bias.float() if bias else None)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("dtype", "replaced"), [(torch.bfloat16, True), (torch.float16, True), (torch.float32, False)]
)
def test_only_half_of_float32_is_replaced(dtype, replaced):
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))).to(dtype)
    weights = [parameter.data_ptr() for parameter in network.parameters()]
    tile(network)
    assert isinstance(network[0], TiledLinear) is replaced
    assert isinstance(network[1][1], TiledLinear) is replaced
    assert [parameter.data_ptr() for parameter in network.parameters()] == weights

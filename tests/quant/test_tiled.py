"""bfloat16 on a CPU without instructions for it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from glmtui import host
from glmtui.quant import tiled as tiles
from glmtui.quant.tiled import TiledLinear, tile


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 15, 16, 40])
def test_products_are_those_of_float32(monkeypatch, tokens, bias):
    monkeypatch.setattr(tiles, "TILE", 24 * 7)  # a last tile of other size than the rest
    linear = nn.Linear(24, 50, bias=bias, dtype=torch.bfloat16)
    x = torch.randn(2, tokens, 24, dtype=torch.bfloat16)
    with torch.inference_mode():
        found = TiledLinear(linear)(x)
        expected = F.linear(x.float(), linear.weight.float(), linear.bias.float() if bias else None)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("dtype", "native", "replaced"),
    [(torch.bfloat16, False, True), (torch.bfloat16, True, False), (torch.float32, False, False)],
)
def test_only_where_the_processor_cannot(monkeypatch, dtype, native, replaced):
    monkeypatch.setattr(host, "has_native_bfloat16", lambda: native)
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4))).to(dtype)
    weights = [parameter.data_ptr() for parameter in network.parameters()]
    tile(network)
    assert isinstance(network[0], TiledLinear) is replaced
    assert isinstance(network[1][1], TiledLinear) is replaced
    assert [parameter.data_ptr() for parameter in network.parameters()] == weights

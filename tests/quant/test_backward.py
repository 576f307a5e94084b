"""Gradients through quantised products, against a linear layer with the same weights in floating point."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from glmtui.models.base import PrefixState
from glmtui.models.chatglm import ChatGLM, ChatGLMConfig
from glmtui.models.chatglm2 import ChatGLM2, ChatGLM2Config
from glmtui.quant import cpu, formats, linear, tiled
from glmtui.quant.formats import Packed
from glmtui.quant.fused import fuse
from glmtui.quant.linear import QuantizedLinear
from glmtui.quant.mps import MpsWeight
from glmtui.quant.policy import bits_of, install
from glmtui.quant.tiled import TiledLinear

KINDS = ("own 8", "own 4", "published 8", "published 4", "planes 8")


def pack(kind: str, rows: int = 50, columns: int = 320) -> Packed:
    weight, bits = torch.randn(rows, columns), 8 if "8" in kind else 4
    if kind.startswith("published"):
        return formats.pack_published(*formats.quantize_published(weight, bits), columns=columns)
    return formats.quantize(weight, bits, planes=kind.startswith("planes"))


def twin(packed: Packed, bias: Tensor | None, dtype: torch.dtype = torch.float32) -> nn.Linear:
    layer = nn.Linear(packed.columns, packed.rows, bias=bias is not None, dtype=dtype)
    layer.weight.data = packed.dequantize(dtype=dtype)
    if bias is not None:
        layer.bias.data = bias.to(dtype)
    return layer


def gradient(layer: nn.Module, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = layer(x)
    (of_x,) = torch.autograd.grad(out, x, direction)
    return out.detach(), of_x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activations", ["int8", "float"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7)])
def test_the_gradient_is_that_of_the_stored_weights(kernels, monkeypatch, kind, activations, shape):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    monkeypatch.setattr(linear, "_PIECE", 16 * 320)  # several pieces, the last smaller than the rest
    packed, bias = pack(kind), torch.randn(50)
    layer = QuantizedLinear(packed, bias, activations)
    x, direction = torch.randn(*shape, 320), torch.randn(*shape, 50)
    out, found = gradient(layer, x, direction)
    with torch.inference_mode():
        assert torch.equal(out, layer(x)), "the product itself is that of inference"
    _expected_out, expected = gradient(twin(packed, bias), x, direction)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_kernels_the_gradient_is_the_same(monkeypatch, dtype):
    monkeypatch.setattr(cpu, "load", lambda: None)
    packed = pack("own 4")
    x, direction = torch.randn(5, 320, dtype=dtype), torch.randn(5, 50, dtype=dtype)
    _out, found = gradient(QuantizedLinear(packed), x, direction)
    assert found.dtype == dtype
    _out, expected = gradient(twin(packed, None, dtype), x, direction)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-1 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_bias_that_is_trained_has_its_gradient(kernels, monkeypatch, dtype):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    packed, bias = pack("own 8"), torch.randn(50)
    layer = QuantizedLinear(packed, bias.to(dtype))
    trained = layer.bias.requires_grad_()
    direction = torch.randn(4, 50)
    (found,) = torch.autograd.grad(layer(torch.randn(4, 320)), trained, direction)
    assert layer.bias is trained
    torch.testing.assert_close(found.float(), direction.sum(0), rtol=1e-2, atol=1e-2)


def test_nothing_is_recorded_where_no_gradient_is_asked_for():
    layer = QuantizedLinear(pack("own 4"))
    assert not layer(torch.randn(2, 320)).requires_grad
    with torch.no_grad():
        assert not layer(torch.randn(2, 320).requires_grad_()).requires_grad


def test_a_second_derivative_is_refused():
    layer = QuantizedLinear(pack("own 4"))
    x = torch.randn(2, 320, requires_grad=True)
    (first,) = torch.autograd.grad((layer(x) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate"):
        torch.autograd.grad(first.sum(), x)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_weights_for_mps_unpack_to_the_same(monkeypatch, kind):
    """Its operators swap the nibbles of each byte, as this stand-in does."""

    def convert(pairs: Tensor, inner_tiles: int) -> Tensor:
        swapped = ((pairs & 15) << 4 | pairs >> 4).contiguous().view(torch.int32)
        return swapped.view(len(pairs) // 8, 2 * pairs.shape[1] // (16 * inner_tiles), 32, inner_tiles // 2)

    monkeypatch.setattr(torch, "_convert_weight_to_int4pack", convert)
    monkeypatch.setattr("glmtui.quant.mps._PIECE", 32 * 384)
    packed = pack(kind)
    found = torch.cat(list(MpsWeight.of(packed, torch.float32).unpacked(torch.float32)))
    expected = packed.dequantize()
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < (0.01 if kind == "own 8" else 1e-6) * expected.abs().max()


@pytest.mark.parametrize("tokens", [1, 40])
def test_a_tiled_layer_has_the_gradient_of_the_layer_it_replaces(monkeypatch, tokens):
    monkeypatch.setattr(tiled, "TILE", 24 * 7)
    layer = nn.Linear(24, 50, dtype=torch.bfloat16)
    x, direction = torch.randn(tokens, 24).bfloat16(), torch.randn(tokens, 50).bfloat16()
    _out, found = gradient(TiledLinear(layer), x, direction)
    _out, expected = gradient(layer, x, direction)
    torch.testing.assert_close(found, expected)
    grads = [torch.autograd.grad(each(x), layer.weight, direction)[0] for each in (TiledLinear(layer), layer)]
    torch.testing.assert_close(*grads)


def small(kind: str) -> ChatGLM | ChatGLM2:
    if kind == "ChatGLM":
        special = {"bos_token_id": 90, "eos_token_id": 91, "mask_token_id": 92, "gmask_token_id": 93}
        sizes = {"hidden_size": 128, "num_attention_heads": 4, "inner_hidden_size": 256}
        return ChatGLM(ChatGLMConfig.from_dict({"vocab_size": 100, "num_layers": 2, **sizes, **special}))
    sizes = {"hidden_size": 128, "num_attention_heads": 4, "ffn_hidden_size": 256, "kv_channels": 32}
    return ChatGLM2(ChatGLM2Config.from_dict({"padded_vocab_size": 100, "num_layers": 2, **sizes}))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", ["ChatGLM", "ChatGLM2"])
def test_a_prefix_is_trained_through_a_quantised_network(kernels, monkeypatch, kind, bits):
    """As P-tuning does it: a batch, no cache, and a gradient of the prefix alone."""
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network, other = small(kind).eval(), small(kind).eval()
    groups, size = (4, 32) if kind == "ChatGLM" else (2, 32)
    for name, parameter in list(network.named_parameters()):
        parameter.requires_grad_(False)
        chosen = bits_of(network, name, bits)
        if chosen is not None:
            packed = formats.quantize(parameter, chosen)
            install(network, name, packed, "float")
            parameter.data = packed.dequantize()
    other.load_state_dict(float_state(network, other))
    fuse(network)
    ids = torch.randint(0, 90, (2, 5))
    index = torch.arange(5)
    positions = torch.stack((index, index)).expand(2, -1, -1) if kind == "ChatGLM" else index.expand(2, -1)
    mask = torch.cat((torch.ones(5, 3), torch.ones(5, 5).tril()), 1).bool().expand(2, 1, -1, -1)
    grads = []
    prefix = torch.randn(2, 2, groups, 3, size)
    for model in (network, other):
        trained = prefix.clone().requires_grad_()
        hidden = model.hidden(model.embed(ids), positions, mask, PrefixState(trained))
        loss = model.logits(hidden).log_softmax(-1)[:, :, 7].sum()
        grads.append(torch.autograd.grad(loss, trained)[0])
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)


def float_state(network: nn.Module, other: nn.Module) -> dict[str, Tensor]:
    """Return what `network` computes with, in floating point and under the names of `other`."""
    state = dict(network.named_parameters())
    for name in other.state_dict():
        layer = network.get_submodule(name.rpartition(".")[0])
        if name.endswith(".weight") and hasattr(layer.weight, "packed"):
            state[name] = layer.weight.packed.dequantize()
    return {name: state[name] for name in other.state_dict()}

"""One token through all layers at once, against the same layers one after another.

An activation that lies half-way between two bytes may go either way, and every later one after it.
"""

from __future__ import annotations

import pytest
import torch
from quant_support import NETWORKS, chatglm, chatglm2, quantized

from glmtui.engine.prefill import read
from glmtui.models.base import KVCache
from glmtui.models.chatglm import ChatGLM, rotary
from glmtui.models.chatglm2 import ChatGLM2
from glmtui.models.layers import Layers
from glmtui.quant import cpu
from glmtui.quant.fused import FusedLayers, fuse


def answer(network: ChatGLM | ChatGLM2, tokens: int = 12) -> tuple[torch.Tensor, KVCache]:
    """Return the logits behind a prompt and some tokens, and the cache."""
    cache = network.new_cache()
    logits = [read(network, torch.tensor([5, 6, 7, 8, 293, 290]), cache, last_only=True)]
    logits += [read(network, torch.tensor([20 + token]), cache, last_only=True) for token in range(tokens)]
    return torch.cat(logits), cache


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_at_once_is_as_one_by_one(kernels, monkeypatch, name, bits):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = quantized(NETWORKS[name](), bits)
    torch.set_num_threads(3)
    found, cache = answer(network)
    monkeypatch.setattr(FusedLayers, "forward", Layers.forward)
    expected, other = answer(network)
    assert (found - expected).norm() <= 1e-2 * expected.norm()
    used = cache.prefix_length + cache.length
    for ours, theirs in zip(cache.buffers(0), other.buffers(0), strict=True):
        ours, theirs = ours[..., :used, :].float(), theirs[..., :used, :].float()
        assert (ours - theirs).norm() <= 1e-2 * theirs.norm()


def test_it_is_used_wherever_the_kernels_are(kernels, monkeypatch):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = quantized(chatglm(), 4)
    cache = network.new_cache()
    read(network, torch.tensor([5, 6, 293, 290]), cache)
    layers, x = network.transformer.layers, torch.randn(1, 1, 192)
    rotation = rotary(cache.positions(torch.tensor([4])), network.config.head_dim, torch.float32)
    assert layers._fused(x, rotation, cache) is not None
    assert layers._fused(x.double(), rotation, cache) is None
    monkeypatch.setattr(cpu, "load", lambda: None)
    assert layers._fused(x, rotation, cache) is None


def test_a_network_with_float_layers_goes_on_without(kernels, monkeypatch):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = chatglm().requires_grad_(requires_grad=False).eval()
    fuse(network)
    logits, _cache = answer(network)
    assert logits.isfinite().all()


def test_the_cache_grows_in_the_midst_of_an_answer(kernels, monkeypatch):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = quantized(chatglm2(), 8)
    found, cache = answer(network, KVCache.STEP + 3)
    assert cache.buffers(0)[0].shape[3] == 2 * KVCache.STEP
    monkeypatch.setattr(FusedLayers, "forward", Layers.forward)
    expected, _cache = answer(network, KVCache.STEP + 3)
    assert (found - expected).norm() <= 1e-2 * expected.norm()


@pytest.mark.parametrize(
    "value", [0.0, 1.0, -2.5, 65519.0, 65520.0, 1e9, 6.1e-5, 3e-6, 2.9e-8, 3.1e-8, -1e-4]
)
def test_keys_are_rounded_as_pytorch_does(kernels, monkeypatch, value):
    """A value is not rotated and goes into the cache as it is: what the bias of its projection says."""
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = quantized(chatglm2(num_layers=1), 8)
    attention = network.transformer.encoder.layers[0].self_attention
    attention.query_key_value.weight.values.zero_()
    attention.query_key_value.bias.fill_(value)
    _logits, cache = answer(network, 1)
    values = cache.buffers(0)[0][1, 0, :, cache.length - 1]
    assert (values == torch.tensor(value).half()).all()

"""Keys and values with one byte a number: against float64, alone and together, and through whole networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from quant_support import NETWORKS, chatglm, chatglm2, quantized
from torch import Tensor

from glmtui.engine.prefill import read, read_batch
from glmtui.errors import UnavailableError
from glmtui.hub.memory_estimate import INT8_CACHED
from glmtui.models.base import KVCache, Storage
from glmtui.models.layers import Layers
from glmtui.quant import cpu, int8_cache
from glmtui.quant.fused import FusedLayers
from glmtui.quant.int8_cache import Int8Storage

PROMPT = [5, 6, 7, 8, 9, 293, 290]


def rounded(x: Tensor) -> Tensor:
    """What is left of keys or values ``[groups, n, size]`` in the cache, float64."""
    scales = x.abs().amax(-1, keepdim=True).double() / 127
    return torch.nan_to_num((x.double() / scales).round()) * scales


def filled(kernels: cpu.Kernels, keys: Tensor, values: Tensor) -> Tensor:
    """Put them into pages of which the rest is whatever was there before: no numbers."""
    groups, length, size = keys.shape
    shape = (2, groups, -(-length // cpu.PAGE) + 1, cpu.PAGE * (size + 4))
    pages = torch.full(shape, 255, dtype=torch.uint8)
    half = length // 2
    kernels.put_cached(keys[:, :half], values[:, :half], 0, pages)
    kernels.put_cached(keys[:, half:], values[:, half:], half, pages)
    return pages


@pytest.mark.parametrize(("heads", "groups", "size"), [(4, 4, 128), (32, 2, 64), (3, 1, 16), (6, 2, 80)])
@pytest.mark.parametrize("length", [1, 15, 17, 64, 300])
def test_attention_is_that_of_the_rounded_numbers(kernels, heads, groups, size, length):
    keys, values = torch.randn(2, groups, length, size) * torch.randn(groups, length, 1).exp()
    pages = filled(kernels, keys, values)
    tokens = min(length, 21)
    q = torch.randn(heads, tokens, size) * 2
    mask = torch.arange(length) <= torch.arange(length - tokens, length)[:, None]
    found = kernels.attend_cached(q, pages, length, mask)
    grouped = q.view(groups, -1, size).double()
    expected = F.scaled_dot_product_attention(
        grouped, rounded(keys), rounded(values), attn_mask=mask.repeat(heads // groups, 1)
    )
    expected = expected.view(heads, tokens, size).transpose(0, 1)
    assert (found - expected).norm() <= 1e-3 * expected.norm()


def test_the_largest_sum_fits(kernels):
    size = int8_cache.WIDEST_HEAD
    keys = torch.ones(1, 2, size) * torch.tensor([1.0, -1.0])[:, None]
    pages = filled(kernels, keys, keys)
    found = kernels.attend_cached(torch.ones(1, 1, size), pages, 2, None)
    weights = torch.tensor([1.0, -1.0]).mul(size**0.5).softmax(0)
    assert (found - (weights[0] - weights[1])).abs().max() <= 1e-3


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (32, 2)])
@pytest.mark.parametrize("tokens", [*range(1, 18), 40])
def test_a_token_gets_the_same_alone_and_among_others(kernels, heads, groups, tokens):
    length, size = 150, 32
    keys, values = torch.randn(2, groups, length, size)
    pages = filled(kernels, keys, values)
    q = torch.randn(heads, tokens, size)
    mask = torch.arange(length) <= torch.arange(length - tokens, length)[:, None]
    torch.set_num_threads(2)
    together = kernels.attend_cached(q, pages, length, mask)
    torch.set_num_threads(1)
    for token in range(tokens):
        alone = kernels.attend_cached(q[:, token : token + 1], pages, length - tokens + token + 1, None)
        assert torch.equal(alone[0], together[token])


@pytest.mark.parametrize("tokens", [2, 3, 8, 16])
def test_a_token_gets_the_same_alone_and_among_others_from_float16(kernels, tokens):
    length, size = 150, 64
    keys, values = torch.randn(2, 2, length, size).half()
    q = torch.randn(4, tokens, size)
    mask = torch.arange(length) <= torch.arange(length - tokens, length)[:, None]
    together = kernels.attend(q, keys, values, mask)
    for token in range(tokens):
        seen = length - tokens + token + 1
        alone = kernels.attend(q[:, token : token + 1], keys[:, :seen], values[:, :seen])
        assert torch.equal(alone[0], together[token])


def test_a_token_among_thousands_of_small_weight_is_not_lost(kernels):
    """One key takes half of the weight; the rest is shared by many, whose values all say the same."""
    length, size = 4000, 16
    keys = torch.zeros(1, length, size)
    keys[0, 0, 0] = 8.294 * 4  # e^8.294 is 4,000
    values = torch.ones(1, length, size)
    values[0, 0] = -1
    q = torch.zeros(1, 1, size)
    q[0, 0, 0] = 1
    found = kernels.attend_cached(q, filled(kernels, keys, values), length, None)
    assert found.abs().max() < 0.01


def answer(network, monkeypatch, kernels, ids=PROMPT, tokens: int = 12) -> tuple[Tensor, KVCache]:
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    cache = network.new_cache()
    logits = [read(network, torch.tensor(ids), cache, last_only=True)]
    logits += [read(network, torch.tensor([20 + token]), cache, last_only=True) for token in range(tokens)]
    return torch.cat(logits), cache


def with_int8(make) -> object:
    network = quantized(make(), 8)
    network.cache_storage = Int8Storage()
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_one_call_for_all_layers_is_as_one_by_one(kernels, monkeypatch, name):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = with_int8(NETWORKS[name])
    found, cache = answer(network, monkeypatch, kernels)
    assert all(buffer.dtype == torch.uint8 for buffer in cache.buffers(0))
    monkeypatch.setattr(FusedLayers, "forward", Layers.forward)
    expected, _cache = answer(network, monkeypatch, kernels)
    assert (found - expected).norm() <= 1e-2 * expected.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_near_what_float_gives(kernels, monkeypatch, name):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = with_int8(NETWORKS[name])
    found, _cache = answer(network, monkeypatch, kernels)
    network.cache_storage = Storage(torch.float32)
    expected, _cache = answer(network, monkeypatch, kernels)
    assert 0 < (found - expected).norm() <= 0.03 * expected.norm()


def test_truncating_growing_and_copying_lose_nothing(kernels, monkeypatch):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = with_int8(chatglm2)
    ids = [3 + i % 250 for i in range(KVCache.STEP - 3)]
    expected, cache = answer(network, monkeypatch, kernels, ids, tokens=10)  # beyond the first step
    assert cache.buffers(0)[0].shape[3] * cpu.PAGE == 2 * KVCache.STEP
    cache.truncate(len(ids))
    copy = cache.copy(len(ids) - 20)
    assert copy.buffers(0)[0].shape[3] * cpu.PAGE == KVCache.STEP
    for each in (cache, copy):
        each.truncate(len(ids) - 20)
        first = read(network, torch.tensor(ids[-20:]), each, last_only=True)
        rest = [read(network, torch.tensor([20 + token]), each, last_only=True) for token in range(10)]
        assert (torch.cat([first, *rest]) - expected).norm() <= 2e-2 * expected.norm()


def test_a_batch_of_different_lengths_is_as_each_alone(kernels, monkeypatch):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = with_int8(chatglm2)
    prompts = [torch.arange(3, 3 + n) for n in (4, 60, 17)]
    caches = [network.new_cache() for _prompt in prompts]
    found = read_batch(network, prompts, caches, last_only=True)
    steps = read_batch(network, [torch.tensor([9])] * 3, caches, last_only=True)
    for prompt, first, second in zip(prompts, found, steps, strict=True):
        cache = network.new_cache()
        for ids, row in ((prompt, first), (torch.tensor([9]), second)):
            alone = read(network, ids, cache, last_only=True)
            assert (alone - row).norm() <= 2e-2 * alone.norm()


def test_it_takes_what_is_estimated(kernels, monkeypatch):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = with_int8(lambda: chatglm(hidden_size=256, num_attention_heads=2))
    _logits, cache = answer(network, monkeypatch, kernels, tokens=1)
    per_token = 2 * network.config.num_layers * 256
    assert cache.nbytes == int(per_token * KVCache.STEP * INT8_CACHED)


def test_what_cannot_have_it_says_so(monkeypatch):
    odd = chatglm(hidden_size=160)  # 40 columns to a head
    int8_cache.use(odd, asked_for=False)
    assert not isinstance(odd.cache_storage, Int8Storage)
    with pytest.raises(UnavailableError, match="--cache float"):
        int8_cache.use(odd, asked_for=True)
    monkeypatch.setattr(cpu, "load", lambda: None)
    with pytest.raises(UnavailableError, match="kernels"):
        int8_cache.use(chatglm2(), asked_for=True)

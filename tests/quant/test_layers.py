"""Few tokens through all layers at once: against the same layers one by one, and against each token alone.

An activation that lies half-way between two bytes may go either way, and every later one after it; between
tokens next to others and the same alone not a bit may differ.
"""

from __future__ import annotations

import pytest
import torch
from quant_support import NETWORKS, chatglm, chatglm2, quantized

from glmtui.engine.prefill import read, read_batch
from glmtui.models.base import KVCache
from glmtui.models.chatglm import ChatGLM, rotary
from glmtui.models.chatglm2 import ChatGLM2
from glmtui.models.layers import Layers
from glmtui.quant import cpu, linear
from glmtui.quant.fused import FusedLayers, fuse
from glmtui.quant.int8_cache import Int8Storage


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


@pytest.fixture
def alone_and_together(kernels, monkeypatch, request):
    """A network, a cache behind a prompt, and the logits of 16 more tokens one at a time; their ids."""
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    monkeypatch.setattr(linear, "REFINED", 3)
    name, bits, pages = request.param
    network = quantized(NETWORKS[name](), bits)
    if pages:
        network.cache_storage = Int8Storage()
    torch.set_num_threads(2)
    cache = network.new_cache()
    read(network, torch.tensor([5, 6, 7, 8, 293, 290]), cache)
    ids = torch.randint(20, 280, (16,))
    alone = cache.copy()
    logits = torch.cat([read(network, token[None], alone) for token in ids])
    return network, cache, ids, logits, alone


def assert_same_keys(cache: KVCache, other: KVCache) -> None:
    """As far as `cache` goes; of pages as far as it fills them."""
    whole = (cache.prefix_length + cache.length) // cache.storage.unit
    for ours, theirs in zip(cache.buffers(0), other.buffers(0), strict=True):
        assert torch.equal(ours[:, :, :, :whole], theirs[:, :, :, :whole])


EACH_NETWORK = pytest.mark.parametrize(
    "alone_and_together",
    [(name, bits, pages) for name in NETWORKS for bits in (4, 8) for pages in (False, True)],
    indirect=True,
    ids=lambda each: f"{each[0]}-{each[1]}" + ("-int8 cache" if each[2] else ""),
)


@EACH_NETWORK
def test_tokens_of_a_sequence_get_together_what_they_get_alone(alone_and_together):
    network, cache, ids, logits, alone = alone_and_together
    assert network.exact_rows == 16
    for count in (2, 3, 5, 8, 11, 16):
        drafted = cache.copy()
        assert torch.equal(read(network, ids[:count], drafted), logits[:count])
        assert_same_keys(drafted, alone)
        drafted.truncate(cache.length + 1)  # all but the first were wrong
        assert torch.equal(read(network, ids[1:4], drafted), logits[1:4])
    found = read(network, ids[:9], cache.copy(), last_only=True)
    assert torch.equal(found, logits[8:9])


@EACH_NETWORK
def test_sequences_get_together_what_they_get_alone(alone_and_together):
    """One with drafts, one at its first answer's token, one further on: and more than fit one pass."""
    network, cache, ids, logits, _alone = alone_and_together
    further = cache.copy()
    read(network, ids[:7], further)
    found = read_batch(network, [ids[:4], ids[:1], ids[7:8]], [cache.copy(), cache.copy(), further.copy()])
    for ours, theirs in zip(found, (logits[:4], logits[:1], logits[7:8]), strict=True):
        assert torch.equal(ours, theirs)
    many = [further.copy() for _each in range(18)]
    for ours in read_batch(network, [ids[7:8]] * 18, many, last_only=True):
        assert torch.equal(ours, logits[7:8])
    beside_a_prompt = read_batch(
        network, [torch.tensor([9, 10, 293, 290]), ids[7:8]], [network.new_cache(), further]
    )
    assert torch.equal(beside_a_prompt[1], logits[7:8])


def test_the_end_of_a_long_prompt_keeps_what_was_read_before(kernels, monkeypatch):
    """The last few tokens of a prompt go all at once, behind chunks that the cache does not count yet."""
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = quantized(chatglm2(num_layers=2), 8)
    ids = torch.randint(20, 280, (2 * 256 + 7,))
    cache, whole = network.new_cache(), network.new_cache()
    read(network, ids, cache)
    with monkeypatch.context() as patch:
        patch.setattr(FusedLayers, "forward", Layers.forward)
        read(network, ids, whole)
    for ours, theirs in zip(cache.buffers(0), whole.buffers(0), strict=True):
        ours, theirs = ours[..., : len(ids), :].float(), theirs[..., : len(ids), :].float()
        assert (ours - theirs).norm() <= 1e-2 * theirs.norm()


@pytest.mark.parametrize(("head", "rows"), [(256, 16), (272, 1)])
def test_a_head_that_is_too_wide_goes_layer_by_layer(kernels, monkeypatch, head, rows):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = quantized(chatglm2(hidden_size=2 * head, num_attention_heads=2, kv_channels=head), 4)
    assert network.exact_rows == rows
    found, _cache = answer(network)
    monkeypatch.setattr(FusedLayers, "forward", Layers.forward)
    expected, _cache = answer(network)
    assert (found - expected).norm() <= 1e-2 * expected.norm()


def test_no_rows_are_exact_beside_float_ones(kernels, monkeypatch):
    monkeypatch.setattr(cpu, "load", lambda: kernels)
    network = chatglm().requires_grad_(requires_grad=False).eval()
    fuse(network)
    assert network.exact_rows == 1
    network = quantized(chatglm(tie_word_embeddings=False), 4)
    network.lm_head = torch.nn.Linear(192, 300)
    fuse(network)
    assert network.exact_rows == 1


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

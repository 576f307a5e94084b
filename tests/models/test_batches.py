"""Sequences of different lengths in one pass: each gets what it would get alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from golden_data import GOLDEN, read_network
from torch import Tensor

import glmtui
from glmtui.engine import prefill
from glmtui.engine.prefill import read, read_batch
from glmtui.models.base import KVCache
from glmtui.models.checkpoint import Network

NAMES = (
    "chatglm-fp16-sharded",
    "chatglm-mask-token",
    "chatglm-ptuning",
    "chatglm2-fp16-sharded",
    "chatglm2-ptuning",
    "chatglm3-fp16",
)


def prompts(name: str) -> list[Tensor]:
    """The golden's prompt among shorter and longer ones, which have the same ending where it matters."""
    ids = torch.from_numpy(np.load(GOLDEN / name / "expected.npz")["input_ids"])
    return [ids[-3:], ids, ids[-1:], torch.cat((ids[:4], ids)), ids.roll(2)]


def decode(
    network: Network, logits: Sequence[Tensor], caches: Sequence[KVCache], steps: int
) -> tuple[list[list[int]], list[Tensor]]:
    """Continue all sequences greedily, together; return the ids of each, and the last logits."""
    tokens: list[list[int]] = [[] for _each in caches]
    for _step in range(steps):
        for row, each in zip(tokens, logits, strict=True):
            row.append(int(each[-1].argmax()))
        logits = read_batch(network, [torch.tensor([row[-1]]) for row in tokens], caches, last_only=True)
    return tokens, list(logits)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_steps_are_those_of_each_alone(name: str) -> None:
    network = read_network(GOLDEN / name)
    ids = prompts(name)
    caches = [network.new_cache() for _each in ids]
    found = read_batch(network, ids, caches)
    assert [cache.length for cache in caches] == [len(each) for each in ids]
    alone = [network.new_cache() for _each in ids]
    expected = [read(network, each, cache) for each, cache in zip(ids, alone, strict=True)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)
    tokens, last = decode(network, found, caches, 10)
    for i, cache in enumerate(alone):
        theirs, logits = decode(network, [expected[i]], [cache], 10)
        assert tokens[i] == theirs[0]
        torch.testing.assert_close(last[i], logits[0], rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_agrees_with_the_golden(name: str) -> None:
    network = read_network(GOLDEN / name)
    golden = np.load(GOLDEN / name / "expected.npz")
    ids = prompts(name)
    caches = [network.new_cache() for _each in ids]
    logits = read_batch(network, ids, caches)
    close = 1.5e-5 * np.abs(golden["prompt_logits"]).max()
    np.testing.assert_allclose(logits[1], golden["prompt_logits"], rtol=0, atol=close)
    tokens, _last = decode(network, logits, caches, len(golden["greedy_ids"]))
    assert tokens[1] == golden["greedy_ids"].tolist()


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-ptuning"])
def test_sequences_join_and_leave_between_steps(name: str) -> None:
    """A new prompt is read along with the next token of another sequence, and another one has ended."""
    network = read_network(GOLDEN / name)
    first, second, third = prompts(name)[1], prompts(name)[3], prompts(name)[4]
    caches = [network.new_cache() for _each in range(3)]
    read_batch(network, [first, second], caches[:2])
    found = read_batch(network, [third, torch.tensor([7])], [caches[2], caches[0]], last_only=True)
    torch.testing.assert_close(found[0], read(network, third)[-1:], rtol=0, atol=2e-4)
    expected = read(network, torch.cat((first, torch.tensor([7]))))[-1:]
    torch.testing.assert_close(found[1], expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("quant", ["8", "4"])
@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
def test_quantised_layers_take_batches(name: str, quant: str) -> None:
    """An activation that lies half-way between two bytes may go either way, and every later one after it."""
    network = glmtui.load(str(GOLDEN / name), device="cpu", quant=quant, threads=1).network
    ids = prompts(name)
    caches, alone = ([network.new_cache() for _each in ids] for _which in range(2))
    found = read_batch(network, ids, caches, last_only=True)
    expected = [read(network, each, cache, last_only=True) for each, cache in zip(ids, alone, strict=True)]
    for _step in range(6):
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours - theirs).norm() < 2e-2 * theirs.norm()
        tokens = [each[-1].argmax()[None] for each in expected]
        found = read_batch(network, tokens, caches, last_only=True)
        expected = [
            read(network, each, cache, last_only=True) for each, cache in zip(tokens, alone, strict=True)
        ]


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
def test_the_weights_are_read_once_for_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_network(GOLDEN / name)
    calls = dict.fromkeys((m for m in network.modules() if isinstance(m, torch.nn.Linear)), 0)

    def count(module: torch.nn.Module, _args: object, _out: object) -> None:
        calls[module] += 1

    ids = prompts(name)
    caches = [network.new_cache() for _each in ids]
    for module in calls:
        module.register_forward_hook(count)
    layers = {module: 0 for module in calls if module.out_features < network.config.vocab_size}
    read_batch(network, ids, caches)
    assert {calls[module] for module in layers} == {1}
    monkeypatch.setattr(prefill, "ROWS", 1 + len(ids) * 3)
    read_batch(network, ids, [network.new_cache() for _each in ids])
    assert {calls[module] for module in layers} != {2}, "long prompts go by themselves"


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
def test_a_cancelled_batch_leaves_all_caches_as_they_were(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_network(GOLDEN / name)
    ids = prompts(name)
    monkeypatch.setattr(prefill, "ROWS", len(ids) * 3)  # some go together and some alone
    expected = [read(network, each)[-1:] for each in ids]
    caches = [network.new_cache() for _each in ids]
    calls: list[float] = []
    read_batch(network, ids, [network.new_cache() for _each in ids], check=calls.append)
    for stop in range(len(calls)):
        left = iter([None] * stop)

        def check(_fraction: float, left: object = left) -> None:
            if next(left, "cancel") == "cancel":  # type: ignore[call-overload]
                raise InterruptedError

        with pytest.raises(InterruptedError):
            read_batch(network, ids, caches, check=check)
        assert [cache.length for cache in caches] == [0] * len(ids)
    for ours, theirs in zip(read_batch(network, ids, caches, last_only=True), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)

"""Prompts in chunks: what goes through a layer at once, what is left out, progress, and cancelling."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from golden_data import GOLDEN, read_network
from torch import Tensor, nn

from glmtui.engine import prefill
from glmtui.engine.prefill import read
from glmtui.models.checkpoint import Network

FIRST, SECOND = "chatglm-fp16-sharded", "chatglm2-fp16-sharded"


@pytest.fixture(params=[FIRST, SECOND])
def network(request: pytest.FixtureRequest) -> Network:
    return read_network(GOLDEN / request.param)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(prefill, "ROWS", 5)
    return 5


def prompt(n: int) -> Tensor:
    """``n`` tokens, the last two being [gMASK] and <sop> of ChatGLM-6B's golden."""
    ending = torch.from_numpy(np.load(GOLDEN / FIRST / "expected.npz")["input_ids"])[-2:]
    return torch.cat((torch.arange(n - 2) % 50 + 6, ending))


def widths(network: Network) -> Iterator[list[int]]:
    """Note how many tokens each product of the layers is given."""
    seen: list[int] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and ".layers." in name and name.endswith("dense_h_to_4h"):
            module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].shape[1]))
    yield seen


@pytest.mark.parametrize("n", [5, 6, 7, 12, 23])
def test_chunks_change_nothing_but_what_goes_through_at_once(network: Network, n: int, rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefill, "ROWS", 256)
        expected = read(network, prompt(n))
    seen = next(widths(network))
    torch.testing.assert_close(read(network, prompt(n)), expected, rtol=0, atol=2e-4)
    assert max(seen) <= rows
    assert sum(seen) == n * network.config.num_layers


def test_the_last_layer_computes_only_what_is_asked_for(network: Network, rows: int) -> None:
    expected = read(network, prompt(13))[-1:]
    seen = next(widths(network))
    torch.testing.assert_close(read(network, prompt(13), last_only=True), expected, rtol=0, atol=2e-4)
    assert sum(seen) == 13 * (network.config.num_layers - 1) + 1


def test_answers_behind_a_context_are_read_in_chunks_too(network: Network, rows: int) -> None:
    ids = torch.cat((prompt(8), torch.arange(20) % 40 + 6))
    cache = network.new_cache()
    chunked = torch.cat([read(network, ids[:8], cache), read(network, ids[8:], cache)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefill, "ROWS", 256)
        torch.testing.assert_close(chunked, read(network, ids), rtol=0, atol=2e-4)


def test_progress_starts_at_nothing_and_rises_evenly(network: Network, rows: int) -> None:
    fractions: list[float] = []
    read(network, prompt(23), check=fractions.append)
    assert fractions[0] == 0
    steps = [later - earlier for earlier, later in pairwise(fractions)]
    assert all(step == pytest.approx(1 / len(fractions)) for step in steps)


def test_a_cancel_waits_for_one_chunk_in_one_layer(network: Network, rows: int) -> None:
    """Between two checks at most `ROWS` tokens go through one layer's products."""
    seen = next(widths(network))
    at_checks: list[int] = []
    read(network, prompt(23), check=lambda _fraction: at_checks.append(sum(seen)))
    done = [later - earlier for earlier, later in pairwise(at_checks)]
    assert max(done) <= rows


def test_one_token_is_not_asked_whether_to_go_on(network: Network) -> None:
    """That is for whoever generates, before and after each."""
    cache = network.new_cache()
    read(network, prompt(6), cache)
    fractions: list[float] = []
    read(network, torch.tensor([7]), cache, check=fractions.append)
    assert fractions == []
    assert cache.length == 7


def test_nothing_of_a_reading_has_a_gradient(network: Network) -> None:
    for parameter in network.parameters():
        parameter.requires_grad_()
    assert not read(network, prompt(6)).requires_grad

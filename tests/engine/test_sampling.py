"""Every step equals transformers' logits processors, which the published `chat` runs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from glmtui.engine.sampling import FIRST_LOOK, GUARDED, Sampler, distribution, is_finite, penalize
from glmtui.errors import UserError
from glmtui.protocol.sampling import Sampling

torch.set_num_threads(1)


def random_logits(seed: int, vocab: int, scale: float) -> Tensor:
    return torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * scale


def reference(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Probabilities ``[vocab]`` by transformers."""
    steps = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        steps.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        steps.append(TopPLogitsWarper(top_p))
    return steps(torch.zeros(1, 1, dtype=torch.long), logits[None].clone())[0].softmax(dim=0)


def dense(ids: Tensor, probabilities: Tensor, vocab: int) -> Tensor:
    assert ids.unique().numel() == ids.numel()
    return torch.zeros(vocab).index_put((ids,), probabilities)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    vocab=st.sampled_from([7, 320, FIRST_LOOK + 1, 5000]),
    scale=st.sampled_from([0.01, 1.0, 8.0]),
    temperature=st.floats(0.1, 2.0),
    top_k=st.sampled_from([0, 1, 3, 50, 400]),
    top_p=st.sampled_from([0.05, 0.3, 0.7, 0.95, 0.999, 1.0]),
)
def test_distribution_equals_transformers(
    seed: int, vocab: int, scale: float, temperature: float, top_k: int, top_p: float
) -> None:
    logits = random_logits(seed, vocab, scale)
    expected = reference(logits, temperature, top_k, top_p)
    got = dense(*distribution(logits, temperature, top_k, top_p), vocab)
    # The token at the very edge of top-p may fall either way by a rounding of its cumulated probability.
    differing = int(((got > 0) != (expected > 0)).sum())
    assert differing <= 1
    if differing == 0:
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-6)
    else:
        assert abs(float(got.max() - expected.max())) < 0.05


@pytest.mark.parametrize("top_k", [3, 50])
def test_all_tokens_equal_to_the_last_of_top_k_stay(top_k: int) -> None:
    logits = torch.full((300,), -1.0)
    logits[::2] = 2.0
    expected = reference(logits, 1.0, top_k, 1.0)
    torch.testing.assert_close(dense(*distribution(logits, 1.0, top_k, 1.0), 300), expected)


def test_flat_logits_need_more_than_the_first_look() -> None:
    vocab = 4 * FIRST_LOOK
    ids, probabilities = distribution(torch.arange(vocab) * 1e-6, 1.0, 0, 0.9)
    assert math.isclose(len(ids) / vocab, 0.9, abs_tol=0.01)
    assert math.isclose(float(probabilities.sum()), 1.0, rel_tol=1e-4)


def test_tiny_temperature_takes_the_likeliest() -> None:
    logits = random_logits(3, 1000, 5.0)
    for temperature in (1e-30, 1e-50):
        sampler = Sampler(Sampling(temperature=temperature, top_k=0, top_p=0.7, seed=1))
        assert sampler(logits) == int(logits.argmax())


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    penalty=st.floats(0.5, 2.0),
    said=st.lists(st.integers(0, 319), min_size=1, max_size=40),
)
def test_repetition_penalty_equals_transformers(seed: int, penalty: float, said: list[int]) -> None:
    logits = random_logits(seed, 320, 3.0)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([said]), logits[None].clone())[0]
    before = logits.clone()
    torch.testing.assert_close(penalize(logits, said, penalty), expected)
    torch.testing.assert_close(logits, before, rtol=0, atol=0)


def test_sampler_penalizes_prompt_and_its_own_tokens() -> None:
    logits = torch.tensor([4.0, 5.0, 3.9])
    greedy = Sampler(Sampling(temperature=0, repetition_penalty=1.5), prompt=[1])
    assert [greedy(logits) for _ in range(2)] == [0, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.95])
def test_invalid_scores_give_the_guard_token(bad: float, temperature: float) -> None:
    logits = random_logits(0, 320, 1.0)
    logits[17] = bad
    assert Sampler(Sampling(temperature=temperature), guard_id=5)(logits) == 5


def test_scores_that_stay_invalid_are_said_instead_of_an_empty_answer() -> None:
    """As with weights that are no numbers; a single slip of half precision is none of these."""
    sampler, bad = Sampler(Sampling(temperature=0)), torch.full((320,), math.nan)
    for _round in range(2):
        assert [sampler(bad) for _token in range(GUARDED - 1)] == [sampler.guard_id] * (GUARDED - 1)
        sampler(random_logits(0, 320, 1.0))
    with pytest.raises(UserError, match="no numbers"):
        _all = [sampler(bad) for _token in range(GUARDED)]


def test_large_finite_scores_are_no_reason_for_the_guard() -> None:
    assert is_finite(torch.full((320,), 3e38))


def test_same_seed_same_tokens_other_seed_others() -> None:
    logits = random_logits(0, 320, 0.5)

    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(seed=seed, top_p=1.0))
        return [sampler(logits) for _ in range(40)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)


def test_frequencies_follow_the_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    sampler = Sampler(Sampling(temperature=1.0, top_k=0, top_p=1.0, seed=0))
    counts = torch.bincount(torch.tensor([sampler(logits) for _ in range(4000)]), minlength=3) / 4000
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.3, 0.2]), atol=0.03, rtol=0)

"""Guesses from prompt and answer: what they are, when they are made, and that no answer changes by them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from golden_data import GOLDEN, read_network
from torch import Tensor

import glmtui
from glmtui.engine import generate
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.generate import Generation
from glmtui.engine.lookup import CREDIT, FIRST, LONGEST, MOST, PLAIN, SHARE, START, Lookup, NGrams
from glmtui.models.checkpoint import Network
from glmtui.protocol.cancellation import OperationCancelled
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.sampling import Sampling

Script = Callable[..., ChatModel]
NAMES = sorted(path.name for path in GOLDEN.glob("chatglm*") if (path / "expected.npz").exists())
GREEDY = Sampling(temperature=0, max_length=10**6)


class Eager(Lookup):
    """Guesses at every token, as much as it can be asked for: right or wrong."""

    def guess(self, most: int) -> list[int]:
        ids = self._grams._ids
        return self._grams.following(min(most, 5)) or [ids[-1], *ids[:4]][: min(most, 5)]

    def note(self, guessed: int, accepted: int, seconds: float) -> None:
        pass


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "Lookup", Eager)


def reference(ids: Sequence[int], count: int, shortest: int) -> list[int]:
    """Search from the end, longest match first."""
    for length in range(LONGEST, shortest - 1, -1):
        for end in range(len(ids) - 1, length - 1, -1):
            if ids[end - length : end] == ids[-length:]:
                return [ids[end + i % (len(ids) - end)] for i in range(count)]
    return []


# --- what is guessed ---


def test_what_followed_the_longest_and_last_match_is_guessed() -> None:
    grams = NGrams([1, 2, 3, 4, 5, 9, 3, 4, 6, 7, 1, 2])
    assert grams.following(3) == [3, 4, 5]
    grams.add(3)
    grams.add(4)
    assert grams.following(2) == [5, 9]  # after 1 2 3 4, though 3 4 came later
    grams.add(8)
    assert grams.following(2) == []


def test_a_repetition_goes_on() -> None:
    assert NGrams([7, 8, 9, 7, 8]).following(7) == [9, 7, 8, 9, 7, 8, 9]
    assert NGrams([7, 7, 7]).following(3) == [7, 7, 7]


@pytest.mark.parametrize("shortest", [2, 3, 4])
def test_guesses_are_those_of_a_plain_search(shortest: int) -> None:
    draw = random.Random(shortest)
    for _case in range(200):
        ids = [draw.randrange(3) for _token in range(draw.randrange(1, 30))]
        assert NGrams(ids).following(6, shortest) == reference(ids, 6, shortest), ids


# --- when ---


def ready(prompt: Sequence[int] = (1, 2, 3) * 20) -> Lookup:
    """A lookup that knows what a token costs: one second."""
    lookup = Lookup(prompt)
    for _pass in range(PLAIN):
        lookup.note(0, 0, 1.0)
    return lookup


def test_nothing_is_guessed_before_it_is_known_what_a_token_costs() -> None:
    lookup = Lookup([1, 2] * 9)
    assert lookup.guess(9) == []
    for _pass in range(PLAIN // 2):
        lookup.note(0, 0, 1.0)
    assert len(lookup.guess(9)) == FIRST


def test_more_is_guessed_while_all_of_it_comes_and_less_when_not() -> None:
    lookup, widths = ready(), []
    for _pass in range(4):
        widths.append(len(lookup.guess(99)))
        lookup.note(widths[-1], widths[-1], 1.2)
    assert widths == [FIRST, 2 * FIRST, 4 * FIRST, MOST]
    lookup.note(MOST, 1, 1.0)
    assert len(lookup.guess(99)) == MOST // 2
    assert len(lookup.guess(2)) == 2
    assert lookup.guess(0) == lookup.guess(-1) == []


@pytest.mark.parametrize("row", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("count", [100, 200, 1000, 5000])
def test_what_never_comes_costs_next_to_nothing(row: float, count: int) -> None:
    """`row`: what a guessed token adds to a pass, from what a kernel takes to all that a token takes."""
    lookup, seconds = ready(), 0.0
    for token in range(count):
        guessed = len(lookup.guess(99))
        seconds += 1 + row * guessed
        lookup.note(guessed, 0, 1 + row * guessed)
        lookup.add((1, 2, 3)[token % 3])
    assert seconds <= count * (1 + SHARE) + START + FIRST * row
    if row < 1:
        assert seconds <= count / 0.98


def test_a_pass_that_was_held_up_does_not_end_all_guessing() -> None:
    lookup = ready()
    lookup.note(FIRST, FIRST, 50.0)
    assert lookup.guess(99)
    lookup.note(FIRST, 0, 50.0)
    assert not lookup.guess(99)
    for _token in range(round(1 / SHARE) + 2):
        lookup.add(1)
    assert lookup.guess(99)


def test_what_is_saved_does_not_pay_for_endless_guessing() -> None:
    lookup = ready()
    for _pass in range(100):
        lookup.note(MOST, MOST, 1.5)
    wasted = 0.0
    while lookup.guess(99):
        lookup.note(3, 0, 1.5)
        wasted += 0.5
    assert wasted <= CREDIT + 3 * 0.5  # until the median knows


def test_what_costs_more_than_it_saves_ends() -> None:
    """As INT8 did while its kernel was for one row or many."""
    lookup, passes = ready(), 0
    while lookup.guess(99):
        lookup.note(3, 1, 2.9)
        passes += 1
    assert passes == 1


# --- that it changes nothing ---


def ids_of(network: Network, prompt: Sequence[int], sampling: Sampling, **options: Any) -> list[int]:
    return list(Generation(network, list(prompt), sampling, **options))


@pytest.mark.parametrize("name", NAMES)
def test_greedy_answers_are_the_goldens(name: str, eager: None) -> None:
    network = glmtui.load(str(GOLDEN / name), device="cpu", dtype="float32", threads=1).network
    expected = np.load(GOLDEN / name / "expected.npz")
    prompt, ids = expected["input_ids"].tolist(), expected["greedy_ids"].tolist()
    generation = Generation(network, prompt, replace(GREEDY, max_new_tokens=len(ids)))
    found = list(generation)
    if "int" not in name:  # whose activations the kernels round, unlike the published code
        assert found == ids
    assert found == ids_of(network, prompt, replace(GREEDY, max_new_tokens=len(ids)), lookup=False)
    assert generation.filled.length <= len(prompt) + len(found)
    again = Generation(network, prompt, replace(GREEDY, max_new_tokens=60))
    assert list(again) == ids_of(network, prompt, replace(GREEDY, max_new_tokens=60), lookup=False)
    assert again.lookup is not None


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
def test_wrong_guesses_leave_nothing_in_pages_of_bytes(name: str, eager: None) -> None:
    network = glmtui.load(str(GOLDEN / name), device="cpu", quant="4", threads=1, cache="int8").network
    prompt = np.load(GOLDEN / name / "expected.npz")["input_ids"].tolist()
    sampling = replace(GREEDY, max_new_tokens=60)
    assert ids_of(network, prompt, sampling) == ids_of(network, prompt, sampling, lookup=False)


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm-mask-token", "chatglm2-fp16-sharded"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.9, top_p=0.9, seed=5),
        Sampling(temperature=1.3, top_p=1, top_k=0, seed=6),
        Sampling(temperature=0.8, repetition_penalty=1.3, seed=7),
        Sampling(temperature=0, repetition_penalty=1.2),
    ],
    ids=["nucleus", "all", "penalty", "greedy penalty"],
)
def test_the_same_seed_draws_the_same(name: str, sampling: Sampling, eager: None) -> None:
    network = read_network(GOLDEN / name)
    prompt = np.load(GOLDEN / name / "expected.npz")["input_ids"].tolist()
    sampling = replace(sampling, max_length=10**6, max_new_tokens=80)
    assert ids_of(network, prompt, sampling) == ids_of(network, prompt, sampling, lookup=False)


class Unigrams:
    """A network that says one of four tokens, by the same odds whatever came before."""

    def __init__(self) -> None:
        self.network = read_network(GOLDEN / "chatglm2-fp16-sharded")
        self.odds = torch.tensor([0.5, 0.25, 0.15, 0.1])
        size = self.network.config.vocab_size

        def logits(hidden: Tensor) -> Tensor:
            found = torch.full((*hidden.shape[:2], size), -torch.inf)
            found[..., :4] = self.odds.log()
            return found.nan_to_num(neginf=-1e4)

        self.network.logits = logits


@pytest.mark.slow
def test_tokens_come_by_their_odds(eager: None) -> None:
    """Chi-square of single tokens, and of pairs: what is guessed may not come more often. Seeds are fixed."""
    model = Unigrams()
    single: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    for seed in range(6):
        sampling = Sampling(max_length=10**6, max_new_tokens=200, temperature=1, top_p=1, top_k=0, seed=seed)
        generation = Generation(model.network, [0, 1, 0, 2], sampling)
        found = list(generation)
        single.update(found)
        pairs.update(zip(found[::2], found[1::2], strict=True))
    total, odds = sum(single.values()), model.odds.tolist()
    assert set(single) == {0, 1, 2, 3}
    statistic = sum((single[i] - total * p) ** 2 / (total * p) for i, p in enumerate(odds))
    assert statistic < 11.34  # 3 degrees of freedom, 1 %
    count = sum(pairs.values())
    expected = {(i, j): count * p * q for i, p in enumerate(odds) for j, q in enumerate(odds)}
    statistic = sum((pairs[key] - value) ** 2 / value for key, value in expected.items())
    assert statistic < 30.58  # 15 degrees of freedom, 1 %


def test_several_tokens_go_through_at_once(eager: None) -> None:
    network = read_network(GOLDEN / "chatglm2-fp16-sharded")
    passes: list[int] = []
    embed = network.embed
    network.embed = lambda ids: passes.append(ids.shape[1]) or embed(ids)  # type: ignore[func-returns-value]
    prompt = np.load(GOLDEN / "chatglm2-fp16-sharded" / "expected.npz")["input_ids"].tolist()
    found = ids_of(network, prompt, replace(GREEDY, max_new_tokens=60))
    assert len(passes) - 1 < len(found)
    assert max(passes[1:]) == 6


# --- ends within a guess ---


@pytest.mark.parametrize("most", range(1, 12))
def test_a_limit_ends_it_within_a_guess(most: int, eager: None) -> None:
    network = read_network(GOLDEN / "chatglm-fp16-sharded")
    prompt = np.load(GOLDEN / "chatglm-fp16-sharded" / "expected.npz")["input_ids"].tolist()
    full = ids_of(network, prompt, replace(GREEDY, max_new_tokens=12), lookup=False)
    generation = Generation(network, prompt, replace(GREEDY, max_new_tokens=most))
    assert list(generation) == full[:most]
    assert generation.reason == "length"
    assert generation.filled.length <= len(prompt) + most
    limited = Generation(network, prompt, GREEDY, limit=len(prompt) + most)
    assert list(limited) == full[:most]


def test_a_stop_id_ends_it_within_a_guess_and_the_cache_serves_the_next_question(script: Script) -> None:
    """The scripted model repeats itself, so what is guessed comes; then it stops."""
    text = "一二三四五六七" * 12
    model = script(text)
    question = (ChatMessage.of("user", "你好"),)
    answer = model.stream(question)
    assert "".join(piece.text for piece in answer) == text
    assert answer.reason == "stop"
    assert answer.answer_tokens == len(model.network.says)
    lookup = answer.generation.lookup
    assert lookup is not None
    assert answer.generation.filled.length == answer.prompt_tokens + answer.answer_tokens


@pytest.mark.parametrize("stop", ["五六", "七", "三四五"])
def test_a_stop_string_ends_it_within_a_guess(script: Script, eager: None, stop: str) -> None:
    text = "一二三四五六七" * 3
    model = script(text)
    answer = model.stream((ChatMessage.of("user", "你好"),), stop=(stop,))
    assert "".join(piece.text for piece in answer) == text[: text.index(stop)]
    assert answer.reason == "stop"
    said = answer.prompt_tokens + answer.answer_tokens
    assert answer.generation.filled.length <= said
    assert answer.answer_tokens == len(answer._ids)


def test_cancelling_within_a_guess_keeps_what_came(script: Script, eager: None) -> None:
    for last in range(2, 40):
        count = 0

        def check(fraction: float, last: int = last) -> None:
            nonlocal count
            count += fraction == 1.0
            if count > last:
                raise OperationCancelled

        text = "一二三四五六七" * 5
        model = script(text)
        answer = model.stream((ChatMessage.of("user", "你好"),), check=check)
        said = "".join(piece.text for piece in answer)
        assert answer.reason == "cancelled"
        assert text.startswith(said.rstrip("\ufffd"))  # half a character may have come
        assert answer.generation.filled.length <= answer.prompt_tokens + answer.answer_tokens
        kept = model._prefixes.take([*answer.generation.prompt, *answer._ids, 1])
        assert kept is not None


def test_nothing_is_guessed_where_rounding_would_change_the_answer() -> None:
    network = read_network(GOLDEN / "chatglm2-fp16-sharded", torch.bfloat16)
    prompt = np.load(GOLDEN / "chatglm2-fp16-sharded" / "expected.npz")["input_ids"].tolist()
    generation = Generation(network, prompt, replace(GREEDY, max_new_tokens=3))
    assert len(list(generation)) == 3
    assert generation.lookup is None


def test_next_to_others_nothing_is_guessed(eager: None) -> None:
    network = read_network(GOLDEN / "chatglm2-fp16-sharded")
    prompt = np.load(GOLDEN / "chatglm2-fp16-sharded" / "expected.npz")["input_ids"].tolist()
    passes: list[int] = []
    embed = network.embed
    network.embed = lambda ids: passes.append(ids.shape[1]) or embed(ids)  # type: ignore[func-returns-value]
    generation = Generation(network, prompt, replace(GREEDY, max_new_tokens=20))
    generation.alone = False
    found: Iterator[int] = iter(generation)
    assert len(list(found)) == 20
    assert set(passes[1:]) == {1}

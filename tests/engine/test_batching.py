"""Several answers at once: passes are shared, prompts hold nobody up, what goes wrong with one is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from golden_data import GOLDEN, read_network

import glmtui
from glmtui.engine import batching, prefill
from glmtui.engine.batching import LONGEST_GAP, Batch, Member, slots_that_fit
from glmtui.engine.generate import Generation
from glmtui.models.checkpoint import Network
from glmtui.models.lora import Shape, new_lora
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.sampling import Sampling

NAMES = ("chatglm-fp16-sharded", "chatglm-mask-token", "chatglm2-fp16-sharded", "chatglm2-ptuning")
GREEDY = Sampling(temperature=0, max_length=10**6)
DRAWN = Sampling(temperature=1.1, top_p=0.9, seed=4, repetition_penalty=1.2, max_length=10**6)


def prompts(name: str) -> list[list[int]]:
    ids: list[int] = np.load(GOLDEN / name / "expected.npz")["input_ids"].tolist()
    return [ids, ids[:4] + ids, ids[-3:], ids[:2] * 3 + ids]


class Answers:
    """Answers of a batch, and when each token came."""

    def __init__(self, network: Network) -> None:
        self.network, self.batch = network, Batch()
        self.tokens: list[list[int]] = []
        self.ends: list[str] = []
        self.order: list[int] = []

    def begin(self, prompt: Sequence[int], sampling: Sampling, count: int, **options: Any) -> CancelToken:
        number, token = len(self.tokens), CancelToken()
        self.tokens.append([])
        self.ends.append("")

        def check(fraction: float) -> None:
            token.check()
            if fraction < 1:
                self.batch.keep_up()

        def steps(member: Member) -> Iterator[None]:
            limited = Sampling(**{**vars_of(sampling), "max_new_tokens": count})
            member.generation = Generation(self.network, list(prompt), limited, check=check, **options)
            try:
                for each in member.generation:
                    self.tokens[number].append(each)
                    self.order.append(number)
                    yield
                self.ends[number] = member.generation.reason
            except OperationCancelled:
                self.ends[number] = "cancelled"
            except RuntimeError as error:
                self.ends[number] = str(error)

        self.batch.begin(token, steps)
        return token

    def finish(self) -> None:
        while len(self.batch):
            self.batch.step()


def vars_of(sampling: Sampling) -> dict[str, Any]:
    return {name: getattr(sampling, name) for name in sampling.__slots__}


def alone(network: Network, prompt: Sequence[int], sampling: Sampling, count: int) -> list[int]:
    limited = Sampling(**{**vars_of(sampling), "max_new_tokens": count})
    return list(Generation(network, list(prompt), limited, lookup=False))


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("name", NAMES)
def test_each_answer_is_the_one_it_is_alone(name: str, sampling: Sampling) -> None:
    """They join between passes and end at different times."""
    network, counts = read_network(GOLDEN / name), (40, 5, 23, 31)
    answers = Answers(network)
    for prompt, count in zip(prompts(name), counts, strict=True):
        answers.begin(prompt, sampling, count)
        answers.batch.step()
        answers.batch.step()
    answers.finish()
    for prompt, count, found in zip(prompts(name), counts, answers.tokens, strict=True):
        assert found == alone(network, prompt, sampling, count)
    assert answers.ends == ["length"] * 4


@pytest.mark.parametrize("cache", ["float", "int8"])
@pytest.mark.parametrize("quant", ["4", "8"])
@pytest.mark.parametrize("on_top", ["", "lora"])
@pytest.mark.parametrize(
    "name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded", "chatglm-ptuning", "chatglm2-ptuning"]
)
def test_quantised_answers_are_the_ones_they_are_alone(
    name: str, on_top: str, quant: str, cache: str
) -> None:
    model = glmtui.load(str(GOLDEN / name), device="cpu", quant=quant, threads=1, cache=cache)
    network = model.network
    if on_top:
        lora = new_lora(network, Shape(4, 8.0))
        for _name, product in lora.named():
            product.b.data.normal_(0, 0.05)
        lora.attach(network)
    answers = Answers(network)
    for prompt in prompts(name):
        answers.begin(prompt, GREEDY, 24)
    answers.finish()
    assert answers.tokens == [alone(network, prompt, GREEDY, 24) for prompt in prompts(name)]


def test_a_pass_is_shared_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes through the network behind the last token of an answer."""
    network = read_network(GOLDEN / "chatglm2-fp16-sharded")
    answers = Answers(network)
    for prompt in prompts("chatglm2-fp16-sharded"):
        answers.begin(prompt, GREEDY, 10)
    sizes: list[int] = []
    embed, said = network.embed, len(answers.order)
    monkeypatch.setattr(network, "embed", lambda ids: sizes.append(ids.numel()) or embed(ids))
    for _pass in range(5):
        answers.batch.step()
    assert sizes == [4] * 5
    answers.finish()
    assert sum(sizes) == 4 * 10 - said


def test_giving_one_up_leaves_the_others_alone() -> None:
    name = "chatglm2-fp16-sharded"
    network = read_network(GOLDEN / name)
    answers = Answers(network)
    tokens = [answers.begin(prompt, GREEDY, 20) for prompt in prompts(name)]
    for _pass in range(6):
        answers.batch.step()
    tokens[1].cancel()
    answers.batch.step()
    assert answers.ends == ["", "cancelled", "", ""]
    assert len(answers.batch) == 3
    answers.finish()
    for i, prompt in enumerate(prompts(name)):
        expected = alone(network, prompt, GREEDY, 20)
        assert answers.tokens[i] == (expected[:7] if i == 1 else expected)


class Clock:
    """Time that passes only in pieces of a prompt and in passes, as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, piece: float, step: float) -> None:
        self.now = 0.0
        self.steps: list[float] = []
        monkeypatch.setattr(batching, "perf_counter", lambda: self.now)
        keep_up, together = Batch.keep_up, prefill.read_batch

        def timed_keep_up(batch: Batch) -> None:
            self.now += piece
            keep_up(batch)

        def timed_pass(*arguments: Any, **options: Any) -> Any:
            self.now += step
            self.steps.append(self.now)
            return together(*arguments, **options)

        monkeypatch.setattr(Batch, "keep_up", timed_keep_up)
        monkeypatch.setattr(prefill, "read_batch", timed_pass)


@pytest.mark.parametrize(("piece", "step"), [(0.18, 0.12), (0.05, 0.3), (0.35, 0.2)])
@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
def test_a_long_prompt_holds_nobody_up(
    name: str, piece: float, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefill, "ROWS", 8)
    network = read_network(GOLDEN / name)
    answers = Answers(network)
    clock = Clock(monkeypatch, piece, step)
    short, long = prompts(name)[0], [7 + i % 40 for i in range(90)] + prompts(name)[0]
    answers.begin(short, GREEDY, 200)
    answers.begin(short[1:], GREEDY, 200)
    for _pass in range(3):
        answers.batch.step()
    before, began = len(clock.steps), clock.now
    answers.begin(long, GREEDY, 5)
    during, took = clock.steps[before:], clock.now - began
    assert len(during) >= 2
    gaps = np.diff([began, *during, clock.now])
    assert gaps.max() <= LONGEST_GAP + 1e-6
    read = took - step * len(during)
    if (piece, step) == (0.18, 0.12):  # as two cores have it
        assert took <= 1.3 * read
    assert answers.tokens[2] == alone(network, long, GREEDY, 5)[: len(answers.tokens[2])]
    assert answers.tokens[0] == alone(network, short, GREEDY, 200)[: len(answers.tokens[0])]


def test_one_that_is_given_up_while_a_prompt_is_read_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "ROWS", 8)
    name = "chatglm2-fp16-sharded"
    answers = Answers(read_network(GOLDEN / name))
    token = answers.begin(prompts(name)[0], GREEDY, 50)
    ended: list[tuple[int, str]] = []
    keep_up, calls = Batch.keep_up, 0

    def watched(batch: Batch) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            token.cancel()
        keep_up(batch)
        ended.append((calls, answers.ends[0]))

    monkeypatch.setattr(Batch, "keep_up", watched)
    answers.begin([7 + i % 40 for i in range(90)], GREEDY, 2)
    assert ended[3:5] == [(4, ""), (5, "cancelled")]


def test_a_pass_that_fails_is_done_by_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """So only whose it is fails, as where memory is short for all together but not for one."""
    name = "chatglm2-fp16-sharded"
    network = read_network(GOLDEN / name)
    answers = Answers(network)
    for prompt in prompts(name):
        answers.begin(prompt, GREEDY, 12)

    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(prefill, "read_batch", fail)
    answers.finish()
    assert answers.tokens == [alone(network, prompt, GREEDY, 12) for prompt in prompts(name)]
    assert answers.ends == ["length"] * 4


def test_the_last_one_left_guesses_again(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "chatglm2-fp16-sharded"
    answers = Answers(read_network(GOLDEN / name))
    answers.begin(prompts(name)[0], GREEDY, 30)
    answers.begin(prompts(name)[1], GREEDY, 3)
    (first, second) = answers.batch._members
    answers.batch.step()
    assert first.generation is not None
    assert second.generation is not None
    assert not first.generation.alone
    answers.finish()
    assert first.generation.alone


def test_slots_are_as_many_as_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    model = glmtui.load(device="cpu", threads=1)
    each = model.folder.sizes.kv_per_token * min(model.network.config.max_length, 2048) * 4
    available: Callable[[int], Any] = lambda free: type("Memory", (), {"available": free})  # noqa: E731
    for free, expected in [(0, 1), (each, 1), (2 * each, 2), (5 * each, 3), (100 * each, 4)]:
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=free: available(free))
        assert slots_that_fit(model, 4) == expected


torch.set_num_threads(1)

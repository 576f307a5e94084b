"""Which earlier keys and values serve a prompt, how many are kept, and that nobody shares them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden_data import GOLDEN, read_network
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tiny_model import write_tiny_model, write_tiny_model2

import glmtui
from glmtui.engine import prefix_cache
from glmtui.engine.prefill import read
from glmtui.engine.prefix_cache import PrefixCache
from glmtui.models.base import KVCache
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.sampling import Sampling

GIGABYTE = 1 << 30
Digests = list[tuple[int, str]]


def filled(ids: list[int], step: int | None = None) -> KVCache:
    """A cache whose keys are the ids themselves."""
    cache = KVCache(1)
    if step is not None:
        cache.STEP = step  # type: ignore[misc]
    keys = torch.tensor(ids, dtype=torch.float32)[None, None, :, None]
    cache.append(0, keys, keys)
    cache.advance(len(ids))
    return cache


def content(cache: KVCache) -> list[int]:
    return cache.buffers(0)[0][0, 0, 0, : cache.length, 0].int().tolist()


def test_conversations_that_alternate_find_their_prefixes_again() -> None:
    prefixes: PrefixCache[str] = PrefixCache(GIGABYTE)
    said = {name: [1, 2, *([number] * 100)] for number, name in enumerate("abc", start=7)}
    for name, ids in said.items():
        prefixes.put(filled(ids), ids, name)
    for turn in range(4):
        for name, ids in said.items():
            prompt = [*ids, 50 + turn, 60]
            cache = prefixes.take(prompt)
            assert cache is not None
            assert content(cache) == ids, name
            said[name] = [*prompt, 99]
            prefixes.put(filled(said[name]), said[name], name)
    assert sorted(prefixes.sources()) == ["a", "b", "c"]


def test_the_last_token_of_a_prompt_is_always_read() -> None:
    prefixes: PrefixCache[None] = PrefixCache(GIGABYTE)
    prefixes.put(filled([1, 2, 3]), [1, 2, 3], None)
    cache = prefixes.take([1, 2, 3])
    assert cache is not None
    assert content(cache) == [1, 2]
    assert prefixes.take([1, 2, 3]) is None, "it was handed out"


def test_a_part_of_another_conversation_is_copied_and_its_rest_stays() -> None:
    prefixes: PrefixCache[None] = PrefixCache(GIGABYTE)
    long = list(range(200))
    prefixes.put(filled(long), long, None)
    cache = prefixes.take([*long[:80], 7, 7])
    assert cache is not None
    assert content(cache) == long[:80]
    cache.append(0, torch.full((1, 1, 1, 1), -1.0), torch.zeros(1, 1, 1, 1))
    again = prefixes.take([*long, 5])
    assert again is not None
    assert content(again) == long


def test_without_room_for_both_the_cache_itself_is_cut() -> None:
    long = list(range(200))
    prefixes: PrefixCache[None] = PrefixCache(filled(long).nbytes)
    prefixes.put(filled(long), long, None)
    cache = prefixes.take([*long[:80], 7, 7])
    assert cache is not None
    assert content(cache) == long[:80]
    assert len(prefixes) == 0


def test_the_least_recently_used_goes_first_and_the_newest_stays() -> None:
    one = filled([1]).nbytes
    prefixes: PrefixCache[str] = PrefixCache(2 * one)
    for name, ids in (("a", [1, 1]), ("b", [2, 2]), ("c", [3, 3])):
        prefixes.put(filled(ids), ids, name)
    assert list(prefixes.sources()) == ["c", "b"]
    taken = prefixes.take([2, 2, 9])
    assert taken is not None
    prefixes.put(taken, [2, 2, 9], "b")
    prefixes.put(filled([4, 4]), [4, 4], "d")
    assert list(prefixes.sources()) == ["d", "b"]
    prefixes.limit = 0
    prefixes.put(filled([5, 5]), [5, 5], "e")
    assert list(prefixes.sources()) == ["e"]


@pytest.mark.parametrize(
    ("mine", "theirs", "shared"),
    [
        ([], [], 9),
        ([(3, "red")], [(3, "red")], 9),
        ([(3, "red")], [(3, "blue")], 3),
        ([(3, "red")], [], 3),
        ([], [(5, "red")], 5),
        ([(1, "red"), (6, "blue")], [(1, "red"), (6, "green")], 6),
        ([(0, "red")], [(0, "blue")], 0),
    ],
)
def test_images_behind_the_same_placeholders_are_told_apart(
    mine: Digests, theirs: Digests, shared: int
) -> None:
    prefixes: PrefixCache[None] = PrefixCache(GIGABYTE)
    ids = [0] * 9
    prefixes.put(filled(ids), ids, None, mine)
    cache = prefixes.take([*ids, 4], theirs)
    assert (cache.length if cache is not None else 0) == shared


def test_a_bidirectional_context_serves_only_the_very_same_one() -> None:
    network = read_network(GOLDEN / "chatglm-fp16-sharded")
    config = network.config
    ending = [config.gmask_token_id, config.bos_token_id]
    prompt = [5, 6, 7, *ending]
    prefixes: PrefixCache[None] = PrefixCache(GIGABYTE)
    for other, expected in (
        (prompt, 4),
        ([*prompt, 9], 5),
        ([*prompt, 9, 8], 6),
        ([*prompt, 8], 5),
        ([5, 6, 7, 8, *ending], 0),
        ([5, 6, 7, config.gmask_token_id, 8, *ending], 0),  # its context is longer
        ([5, 6, *ending], 0),
    ):
        cache = network.new_cache()
        read(network, torch.tensor([*prompt, 9]), cache)
        prefixes.put(cache, [*prompt, 9], None)
        found = prefixes.take(other)
        assert (found.length if found is not None else 0) == expected, other
        if found is not None:
            logits = read(network, torch.tensor(other[found.length :]), found)
            whole = read(network, torch.tensor(other))
            torch.testing.assert_close(logits, whole[-len(logits) :], rtol=0, atol=2e-4)
        prefixes.clear()


IDS = st.lists(st.integers(0, 2), min_size=1, max_size=40)
IMAGES = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from("xy")), max_size=2, unique_by=lambda each: each[0]
)


class Machine(RuleBasedStateMachine):
    """Puts and takes in any order, against a list of all that was ever put."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = filled([1], step=8).nbytes
        self.prefixes: PrefixCache[int] = PrefixCache(6 * self.unit)
        self.put_ids: list[tuple[list[int], Digests]] = []
        self.out: list[KVCache] = []

    @rule(ids=IDS, images=IMAGES)
    def put(self, ids: list[int], images: Digests) -> None:
        self.put_ids.append((ids, images))
        self.prefixes.put(filled(ids, step=8), ids, len(self.put_ids) - 1, images)
        assert next(self.prefixes.sources()) == len(self.put_ids) - 1

    @rule(ids=IDS, images=IMAGES)
    def take(self, ids: list[int], images: Digests) -> None:
        stored = [self.put_ids[number] for number in self.prefixes.sources()]
        best = max((self.common(each, ids[:-1], images) for each in stored), default=0)
        before = len(self.prefixes)
        cache = self.prefixes.take(ids, images)
        assert (cache.length if cache is not None else 0) == best
        if cache is not None:
            assert content(cache) == ids[:best]
            assert len(self.prefixes) in (before - 1, before)
            self.out.append(cache)

    @rule(ids=IDS, images=IMAGES)
    def take_and_put_back(self, ids: list[int], images: Digests) -> None:
        cache = self.prefixes.take(ids, images) or filled(ids[:1], step=8)
        rest = torch.tensor(ids[cache.length :], dtype=torch.float32)[None, None, :, None]
        if rest.numel():
            cache.append(0, rest, rest)
            cache.advance(rest.numel())
        self.put_ids.append((ids, images))
        self.prefixes.put(cache, ids, len(self.put_ids) - 1, images)

    @staticmethod
    def common(stored: tuple[list[int], Digests], ids: list[int], images: Digests) -> int:
        mine, theirs = dict(stored[1]), dict(images)
        count = 0
        for i, (one, other) in enumerate(zip(stored[0], ids, strict=False)):
            if one != other or mine.get(i) != theirs.get(i):
                break
            count += 1
        return count

    @invariant()
    def the_limit_holds_but_for_the_newest(self) -> None:
        assert len(self.prefixes) <= 1 or self.prefixes.nbytes <= self.prefixes.limit

    @invariant()
    def nobody_shares_a_cache(self) -> None:
        stored = [entry.cache for entry in self.prefixes._entries]
        memory = [cache.buffers(0)[0].data_ptr() for cache in (*stored, *self.out)]
        assert len(memory) == len(set(memory))


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAnyOrder = Machine.TestCase


@given(IDS, IDS)
@settings(max_examples=50, deadline=None)
def test_what_is_found_is_the_longest_common_beginning(stored: list[int], ids: list[int]) -> None:
    prefixes: PrefixCache[None] = PrefixCache(GIGABYTE)
    prefixes.put(filled(stored), stored, None)
    cache = prefixes.take(ids)
    found = content(cache) if cache is not None else []
    assert found == stored[: len(found)] == ids[: len(found)]
    assert len(found) == len(ids) - 1 or found == stored or stored[len(found)] != ids[len(found)]


def test_two_conversations_of_a_model_each_read_only_what_is_new(tmp_path: Path) -> None:
    model = glmtui.load(str(write_tiny_model2(tmp_path / "tiny2")), device="cpu", threads=1)
    sampling = Sampling(temperature=0, max_new_tokens=6)
    turns = {question: [ChatMessage.of("user", question)] for question in ("你好" * 10, "load a model " * 4)}
    read_tokens: dict[str, list[int]] = {question: [] for question in turns}
    for _round in range(3):
        for question, said in turns.items():
            answer = model.stream(said, sampling)
            cache = answer.generation.cache
            read_tokens[question].append(answer.prompt_tokens - (cache.length if cache else 0))
            text = "".join(piece.text for piece in answer)
            assert list(model.generate(answer.generation.prompt, max_new_tokens=6)) == answer._ids
            said += [ChatMessage.of("assistant", text), ChatMessage.of("user", "1 2")]
    for counts in read_tokens.values():
        assert max(counts[1:]) < 25


def test_the_same_question_in_two_conversations_of_a_bidirectional_model(tmp_path: Path) -> None:
    model = glmtui.load(str(write_tiny_model(tmp_path / "tiny")), device="cpu", threads=1)
    sampling = Sampling(temperature=0, max_new_tokens=4)
    questions = [(ChatMessage.of("user", text),) for text in ("你好", "load a model")]
    answers = ["".join(piece.text for piece in model.stream(question, sampling)) for question in questions]
    for question, expected in zip(questions, answers, strict=True):
        again = model.stream(question, sampling)
        assert again.generation.cache is not None
        assert again.generation.cache.length == again.prompt_tokens - 1
        assert "".join(piece.text for piece in again) == expected


def test_the_limit_is_a_share_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for total, expected in ((64 * GIGABYTE, GIGABYTE), (4 * GIGABYTE, int(0.4 * GIGABYTE))):
        monkeypatch.setattr(
            prefix_cache.psutil, "virtual_memory", lambda total=total: type("M", (), {"total": total})
        )
        assert prefix_cache.default_limit(torch.device("cpu")) == pytest.approx(expected, abs=1)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device, free=total: (free, 80 * GIGABYTE))
        assert prefix_cache.default_limit(torch.device("cuda:0")) == pytest.approx(expected, abs=1)


def test_what_a_newer_one_holds_too_is_kept_once() -> None:
    prefixes: PrefixCache[str] = PrefixCache(GIGABYTE)
    for number in range(5):
        prefixes.put(filled([1, 2, 3, 4]), [1, 2, 3, 4], f"again {number}")
    assert list(prefixes.sources()) == ["again 4"]
    prefixes.put(filled([1, 2, 3]), [1, 2, 3], "shorter")
    prefixes.put(filled([1, 2, 9]), [1, 2, 9], "other")
    prefixes.put(filled([1, 2, 3, 4, 5]), [1, 2, 3, 4, 5], "longer")
    assert list(prefixes.sources()) == ["longer", "other"]
    prefixes.put(filled([1, 2, 9, 9]), [1, 2, 9, 9], "other image", [(1, "digest")])
    assert list(prefixes.sources()) == ["other image", "longer", "other"]

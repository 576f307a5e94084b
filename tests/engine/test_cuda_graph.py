"""Decoding in fixed shapes, as a CUDA graph records it: on the CPU, with a recorder that only remembers."""

from __future__ import annotations

import pytest
import torch
from golden_data import GOLDEN
from torch import Tensor

import glmtui
from glmtui.engine import cuda_graph as decoding
from glmtui.engine import generate
from glmtui.engine.cuda_graph import AFTER, Decoder, Run
from glmtui.engine.prefill import read
from glmtui.models.base import KVCache
from glmtui.models.checkpoint import Network

NAMES = [
    "chatglm-fp16-sharded",
    "chatglm-mask-token",
    "chatglm-ptuning",
    "chatglm2-fp16-sharded",
    "chatglm2-ptuning",
]
PROMPT = [5, 6, 7, 8, 9, 10]


class Recorder:
    """Counts recordings and replays; a replay runs the same code on the same tensors, as a graph would."""

    def __init__(self) -> None:
        self.records = self.replays = 0

    def __call__(self, run: Run) -> Run:
        self.records += 1
        out = run()

        def replay() -> Tensor:
            self.replays += 1
            return out.copy_(run())

        return replay


def network_of(name: str) -> Network:
    return glmtui.load(str(GOLDEN / name), device="cpu", dtype="float32", threads=1).network


def decode(network: Network, recorder: Recorder | None, count: int) -> list[Tensor]:
    cache = network.new_cache()
    read(network, torch.tensor(PROMPT), cache)
    decoder = Decoder(network, cache, recorder)
    return [decoder([11 + token % 7]).clone() for token in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_fixed_shapes_give_the_same_logits(name: str) -> None:
    network, recorder = network_of(name), Recorder()
    found, expected = decode(network, recorder, 24), decode(network, None, 24)
    assert (recorder.records, recorder.replays) == (
        1,
        24 - AFTER[1],
    )  # one replay is compared with the ordinary way
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-ptuning"])
def test_a_full_cache_grows_and_is_recorded_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KVCache, "STEP", 16)
    network, recorder = network_of(name), Recorder()
    found, expected = decode(network, recorder, 50), decode(network, None, 50)
    assert recorder.records >= 2
    torch.testing.assert_close(torch.cat(found), torch.cat(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_guesses_go_through_in_widths_that_are_recorded(name: str) -> None:
    """Some are wrong: what they left in the cache is overwritten."""
    network, recorder = network_of(name), Recorder()
    cache = network.new_cache()
    read(network, torch.tensor(PROMPT), cache)
    plain = cache.copy()
    decoder, said = Decoder(network, cache, recorder), 0
    for count, right in [(1, 1), (3, 2), (4, 1), (2, 2), (4, 4), (7, 1), (5, 5), (8, 3), (3, 3), (20, 20)]:
        tokens = [11 + (said + i) % 7 if i < right else 40 + i for i in range(count)]
        logits = decoder(tokens)
        assert logits.shape[0] == count
        expected = read(network, torch.tensor(tokens[:right]), plain)
        torch.testing.assert_close(logits[:right], expected, rtol=1e-4, atol=1e-4)
        said += right
        cache.truncate(len(PROMPT) + said)
    assert recorder.records == 2  # of 4 and 8
    assert recorder.replays == 2 + 2, "one each is compared with the ordinary way"


def test_a_record_is_not_used_when_the_cache_has_other_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KVCache, "STEP", 16)
    network, recorder = network_of("chatglm-fp16-sharded"), Recorder()
    cache = network.new_cache()
    read(network, torch.tensor(PROMPT), cache)
    decoder, plain = Decoder(network, cache, recorder), cache.copy()
    for tokens in [[7]] * (AFTER[1] + 1) + [[8, 9, 10]] + [[7]] * 3:  # the three do not fit the first buffers
        expected = read(network, torch.tensor(tokens), plain)
        torch.testing.assert_close(decoder(tokens), expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_recorded_or_computes_wrongly_goes_the_ordinary_way() -> None:
    network = network_of("chatglm2-fp16-sharded")
    tries = []

    def refuse(_run: Run) -> Run:
        tries.append("refused")
        raise RuntimeError("operation not permitted when stream is capturing")

    def corrupt(run: Run) -> Run:
        tries.append("corrupt")
        return lambda: run() * 1.5

    expected = decode(network, None, 16)
    for recorder in (refuse, corrupt):
        torch.testing.assert_close(torch.cat(decode(network, recorder, 16)), torch.cat(expected))
    assert tries == ["refused", "corrupt"]


def test_generation_says_the_same_through_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    model = glmtui.load(str(GOLDEN / "chatglm2-fp16-sharded"), device="cpu", dtype="float32", threads=1)
    expected = list(model.generate(PROMPT, max_new_tokens=20))
    recorder = Recorder()
    monkeypatch.setattr(generate, "recorder_for", lambda _model: recorder)
    assert list(model.generate(PROMPT, max_new_tokens=20)) == expected
    assert recorder.replays > 5


def test_only_a_single_nvidia_gpu_records() -> None:
    assert decoding.recorder_for(network_of("chatglm2-fp16-sharded")) is None


@pytest.mark.hardware
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("quant", ["none", 4])
@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
def test_a_cuda_graph_says_the_same(name: str, quant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = glmtui.load(str(GOLDEN / name), device="cuda", quant=quant)
    assert decoding.recorder_for(model.network) is not None
    recorded = list(model.generate(PROMPT, max_new_tokens=40))
    monkeypatch.setattr(generate, "recorder_for", lambda _model: None)
    assert list(model.generate(PROMPT, max_new_tokens=40)) == recorded

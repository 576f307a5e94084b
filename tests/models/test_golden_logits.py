"""Logits, every cached step and greedy ids, against what the published code computes in float32."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_data import GOLDEN, check_golden, read_network

import glmtui
from glmtui.engine import prefill
from glmtui.engine.prefill import read

FLOAT = (
    "chatglm-fp16-sharded",
    "chatglm-mask-token",
    "chatglm-ptuning",
    "chatglm-ptuning-projection",
    "chatglm2-fp16-sharded",
    "chatglm2-ptuning",
    "chatglm3-fp16",
)
QUANTIZED = ("chatglm-int4", "chatglm-int8", "chatglm2-int4", "chatglm2-int8")


def set_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "ROWS", rows)


@pytest.mark.parametrize("rows", [256, 3])
@pytest.mark.parametrize("name", FLOAT)
def test_float_checkpoints(name: str, rows: int, monkeypatch: pytest.MonkeyPatch):
    set_rows(rows, monkeypatch)
    check_golden(name, read_network(GOLDEN / name))


@pytest.mark.parametrize("name", QUANTIZED)
def test_published_int8_and_int4_checkpoints(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    model = glmtui.load(str(GOLDEN / name), device="cpu", dtype="float32")
    assert model.info.quant == name[-1]
    check_golden(name, model.network)


@pytest.mark.parametrize("name", ["chatglm-ptuning-projection", "chatglm2-ptuning"])
def test_folding_the_prefix_changes_nothing(name: str):
    network = read_network(GOLDEN / name)
    assert network.transformer.prefix_encoder is not None
    network.transformer.prefix_encoder.fold()
    assert network.transformer.prefix_encoder.trans is None
    check_golden(name, network)


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
def test_a_prompt_in_two_calls_is_one_prompt(name: str):
    network = read_network(GOLDEN / name)
    expected = np.load(GOLDEN / name / "expected.npz")
    ids = torch.from_numpy(np.concatenate([expected["input_ids"], expected["greedy_ids"]]))
    n = len(expected["input_ids"])
    cache = network.new_cache()
    split = torch.cat([read(network, ids[:n], cache), read(network, ids[n:], cache)])
    torch.testing.assert_close(split, read(network, ids), rtol=0, atol=2e-4)


@pytest.mark.parametrize("rows", [256, 4])
@pytest.mark.parametrize("name", ["chatglm-ptuning", "chatglm2-ptuning"])
def test_last_only_is_the_last_row(name: str, rows: int, monkeypatch: pytest.MonkeyPatch):
    set_rows(rows, monkeypatch)
    network = read_network(GOLDEN / name)
    ids = torch.from_numpy(np.load(GOLDEN / name / "expected.npz")["input_ids"])
    torch.testing.assert_close(read(network, ids, last_only=True), read(network, ids)[-1:])


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
def test_a_short_prompt_reads_the_weights_once(name: str):
    network = read_network(GOLDEN / name)
    calls = dict.fromkeys((m for m in network.modules() if isinstance(m, torch.nn.Linear)), 0)

    def count(module: torch.nn.Module, _args: object, _out: object) -> None:
        calls[module] += 1

    for module in calls:
        module.register_forward_hook(count)
    read(network, torch.from_numpy(np.load(GOLDEN / name / "expected.npz")["input_ids"]))
    assert set(calls.values()) == {1}


class StopError(Exception):
    pass


def stop_at(call: int) -> tuple[Callable[[float], None], Sequence[float]]:
    fractions: list[float] = []

    def check(fraction: float) -> None:
        fractions.append(fraction)
        if len(fractions) == call:
            raise StopError

    return check, fractions


@pytest.mark.parametrize("name", ["chatglm-ptuning", "chatglm2-ptuning"])
def test_a_cancelled_prompt_leaves_the_cache_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch):
    set_rows(4, monkeypatch)
    network = read_network(GOLDEN / name)
    ids = torch.from_numpy(np.load(GOLDEN / name / "expected.npz")["input_ids"])
    whole = read(network, ids)
    everything, fractions = stop_at(-1)
    read(network, ids, check=everything)
    assert len(fractions) >= 6
    assert all(0 <= fraction < 1 for fraction in fractions)
    assert list(fractions) == sorted(fractions)
    cache = network.new_cache()
    for call in range(1, len(fractions) + 1):
        check, _fractions = stop_at(call)
        with pytest.raises(StopError):
            read(network, ids, cache, check=check)
        assert cache.length == 0
    torch.testing.assert_close(read(network, ids, cache), whole)


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(name: str, dtype: torch.dtype):
    network = read_network(GOLDEN / name, dtype)
    expected = np.load(GOLDEN / name / "expected.npz")
    logits = read(network, torch.from_numpy(expected["input_ids"]))
    assert logits.dtype == torch.float32
    similarity = torch.cosine_similarity(logits, torch.from_numpy(expected["prompt_logits"]))
    assert similarity.mean() > 0.99

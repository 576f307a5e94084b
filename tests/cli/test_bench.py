"""``glmtui bench``: what is measured besides, what is said meanwhile, and an earlier run next to this one."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_data import GOLDEN, read_network
from openai_server import openai_server, spoken

from glmtui.cli import comparison
from glmtui.cli import main as cli
from glmtui.engine import bench, bench_batches, generate
from glmtui.engine.bench_texts import TASKS, Task

COMMAND = ["bench", "--device", "cpu", "--prompt", "8", "--generate", "2", "--repeat", "1", "--threads", "1"]
torch.set_num_threads(1)
TINY = ["--model", str(GOLDEN / "chatglm2-fp16-sharded")]


@pytest.fixture(autouse=True)
def little_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "READ_AT_LEAST", 1 << 20)


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[str, str]:
    assert cli.main([*COMMAND, *TINY, *options]) == 0
    told = capsys.readouterr()
    return told.out, told.err


@pytest.mark.slow
def test_contexts_answers_at_once_and_guesses_are_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--context", "16,32", "--parallel", "2,3", "--task", "copy", "--json"]
    result = json.loads(run(capsys, *options)[0])
    assert [each["tokens"] for each in result["contexts"]] == [16, 32]
    assert all(each["decode_tokens_per_s"] > 0 for each in result["contexts"])
    assert [each["streams"] for each in result["parallel"]] == [2, 3]
    assert all(each["tokens_per_s"] > 0 and each["speedup"] > 0 for each in result["parallel"])
    assert result["lookup"].keys() == {"task", "speedup", "accepted_per_step"}
    assert result["lookup"]["task"] == "copy"
    assert result["lookup"]["accepted_per_step"] > 0
    assert "compared" not in result


def test_contexts_that_do_not_fit_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "--context", "16,99999", "--json")
    assert [each["tokens"] for each in json.loads(out)["contexts"]] == [16]
    assert "99999" in err.splitlines()[-1]


def test_what_was_not_asked_for_is_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(run(capsys, "--json")[0])
    assert not {"contexts", "parallel", "lookup", "compared"} & result.keys()
    low, high = result["decode"]["tokens_per_s_quartiles"]
    assert 0 < low <= result["decode"]["tokens_per_s"] <= high, "of two tokens too"


def test_people_are_shown_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    out, _err = run(capsys, "--context", "16", "--parallel", "2", "--task", "chat")
    for words in ("behind 16 tokens", "2 answers at once", "guessing (chat)"):
        assert words in out


def test_an_earlier_run_is_shown_next_to_this_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(run(capsys, "--parallel", "2", "--json")[0])
    options = ["--parallel", "2,3", "--compare", str(earlier)]
    compared = json.loads(run(capsys, *options, "--json")[0])["compared"]
    names = [each["name"] for each in compared]
    assert {"decode.tokens_per_s", "prefill.8.tokens_per_s", "parallel.2.tokens_per_s"} <= set(names)
    assert "parallel.3.tokens_per_s" not in names
    assert all(each["ratio"] == pytest.approx(each["now"] / each["before"], abs=1e-3) for each in compared)
    assert "× " in run(capsys, *options)[0]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"decode": 3}', b"\xff\xfe", b'{"prefill": [3]}'])
def test_what_is_no_result_is_refused_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "other.json"
    file.write_bytes(content)
    assert cli.main([*COMMAND, *TINY, "--compare", str(file)]) == 1
    told = capsys.readouterr()
    assert "other.json" in told.err
    assert len(told.err.splitlines()) == 1
    assert cli.main([*COMMAND, "--compare", str(tmp_path)]) == 1


def test_a_figure_that_is_none_costs_itself_alone() -> None:
    before: dict[str, Any] = {"decode": {"tokens_per_s": "fast"}, "load_s": 2.0, "bandwidth_share": 0}
    before["prefill"] = [{"tokens": 8, "tokens_per_s": True}, {"tokens": 9, "tokens_per_s": 4.0}]
    now = {"decode": {"tokens_per_s": 3.0}, "load_s": 1.0, "bandwidth_share": 0.9}
    now |= {"prefill": [{"tokens": 8, "tokens_per_s": 2.0}, {"tokens": 9, "tokens_per_s": 6.0}]}
    ratios = {each["name"]: each["ratio"] for each in comparison.compare(before, now)}
    assert ratios == {"load_s": 0.5, "prefill.9.tokens_per_s": 1.5}


def test_only_the_same_task_is_compared() -> None:
    copy, chat = ({"lookup": {"task": task, "speedup": 2.0}} for task in ("copy", "chat"))
    assert comparison.compare(copy, chat) == []
    assert [each["name"] for each in comparison.compare(copy, copy)] == ["lookup.copy.speedup"]


def test_prompts_for_a_server_are_as_long_as_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """By its own count, here three tokens a word."""
    with openai_server() as server:

        def count(body: dict[str, Any]) -> None:
            words = body["messages"][0]["content"].split()
            server.lines = spoken("a", "b", prompt=3 * len(words))

        server.refuse = count
        options = ["--prompt", "30,120", "--repeat", "2", "--json"]
        assert cli.main(["bench", "--model", f"{server.url}#tiny", *options]) == 0
        told = capsys.readouterr()
        result = json.loads(told.out)
        assert [each["tokens"] for each in result["prefill"]] == [30, 120]
        assert result["decode"]["tokens_per_s"] > 0
        assert len(told.err.splitlines()) == 1 + 1 + 2 * 2


def test_answers_in_one_piece_have_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with openai_server() as server:
        server.lines = spoken("all of it", prompt=3)
        command = ["bench", "--model", f"{server.url}#tiny", "--prompt", "30", "--repeat", "1"]
        assert cli.main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["decode"]["tokens_per_s"] is None
        assert cli.main(command) == 0
        assert "tok/s" not in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("option", ["--context", "--parallel"])
def test_a_list_that_is_none_is_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*COMMAND, option, "many"]) == 2
    assert "many" in capsys.readouterr().err


@pytest.mark.slow
def test_something_is_said_at_once_though_nobody_watches() -> None:
    """Before PyTorch is imported, which takes seconds."""
    command = [sys.executable, "-m", "glmtui", *COMMAND, *TINY]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("glmtui: ")
        first = time.monotonic()
        process.communicate()
        assert process.returncode == 0
        assert time.monotonic() - first > 0.1  # it was not said in the end


def test_the_tasks_differ_in_what_can_be_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With passes that all take a second: in so small a network their true times are chance."""
    monkeypatch.setattr(generate, "perf_counter", map(float, itertools.count()).__next__)
    network = read_network(GOLDEN / "chatglm2-fp16-sharded")
    begun = {name: Task(task.question[:400], task.answer[:300]) for name, task in TASKS.items()}
    monkeypatch.setattr(bench_batches, "TASKS", begun)
    copy, chat = (bench_batches.measure_lookup(network, name, repeat=1) for name in TASKS)
    assert copy.accepted_per_step > 5 * chat.accepted_per_step
    assert copy.accepted_per_step > 1


def test_contexts_that_do_not_fit_are_left_out() -> None:
    network = read_network(GOLDEN / "chatglm-fp16-sharded")
    most = network.config.max_length
    found = bench_batches.measure_contexts(network, [8, most, most - 4, most - 2], generate=2, repeat=2)
    assert [(each.tokens, len(each.seconds)) for each in found] == [(8, 4), (most - 4, 2)]

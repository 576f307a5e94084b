"""Time to first token over a conversation: what each architecture must read again."""

from __future__ import annotations

import json

import pytest
from golden_data import GOLDEN, read_network

from glmtui.cli import main as cli
from glmtui.engine.bench import measure_rounds

pytestmark = pytest.mark.slow


def test_a_causal_model_reads_only_the_new_question():
    rounds = measure_rounds(read_network(GOLDEN / "chatglm2-fp16-sharded"), 4, question=8, answer=3, repeat=2)
    assert [each.prompt for each in rounds] == [8, 19, 30, 41]
    assert [each.read for each in rounds] == [8, 9, 9, 9]  # and the last answer's last token
    assert all(len(each.seconds) == 2 for each in rounds)


def test_a_bidirectional_model_reads_everything():
    rounds = measure_rounds(read_network(GOLDEN / "chatglm-fp16-sharded"), 3, question=8, answer=3)
    assert [each.prompt for each in rounds] == [8, 17, 26]
    assert [each.read for each in rounds] == [8, 17, 26]


def test_rounds_end_with_the_longest_context():
    network = read_network(GOLDEN / "chatglm2-fp16-sharded")
    most = network.config.max_length // 200
    assert len(measure_rounds(network, most + 5, question=196, answer=4)) == most


@pytest.mark.parametrize(
    ("name", "words"),
    [("chatglm2-fp16-sharded", "only its own tokens"), ("chatglm-fp16-sharded", "in both directions")],
)
def test_bench_prints_the_rounds_and_says_what_they_show(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
):
    command = ["bench", "--model", str(GOLDEN / name), "--device", "cpu", "--prompt", "8", "--generate", "2"]
    command += ["--repeat", "1", "--rounds", "3", "--threads", "1"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert out.count("first token after") == 3
    assert words in out
    assert cli.main([*command, "--json"]) == 0
    rounds = json.loads(capsys.readouterr().out)["rounds"]
    assert [each["round"] for each in rounds] == [1, 2, 3]
    assert all(each["first_token_s"] > 0 for each in rounds)

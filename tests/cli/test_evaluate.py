"""``glmtui evaluate`` with the built-in model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from glmtui.cli import main

ROWS = [
    {"prompt": "你好", "response": "你好！有什么可以帮你？"},
    {"prompt": "怎么加载模型", "response": "用 /model 命令。", "history": [["你好", "你好！"]]},
    {"prompt": "?"},
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return file


def run(*arguments: object) -> int:
    return main.main(["evaluate", "--model", "nano", "--language", "en", *map(str, arguments)])


def test_answers_are_scored_and_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jieba")
    pytest.importorskip("rouge_chinese")
    predictions = data.with_name("predictions.jsonl")
    assert run("--data", data, "--predictions", predictions, "--max-target-length", 12, "--json") == 0
    out, errors = capsys.readouterr()
    found = json.loads(out)
    assert found["rows"] == 2
    assert 0 < found["bleu-4"] <= 100
    assert found["perplexity"] > 1
    assert "data.jsonl:3: it is in no known format" in errors
    lines = [json.loads(line) for line in predictions.read_text("utf-8").splitlines()]
    assert [line["labels"] for line in lines] == [row["response"] for row in ROWS[:2]]
    assert all(line["predict"] for line in lines)
    mean = sum(line["rouge-l"] for line in lines) / 2
    assert found["rouge-l"] == pytest.approx(mean)
    before = predictions.read_bytes()
    assert run("--data", data, "--predictions", predictions) == 1
    assert "is there already" in capsys.readouterr().err
    assert predictions.read_bytes() == before


def test_the_perplexity_alone_is_that_of_a_plain_pass(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", data, "--perplexity-only", "--max-rows", 1, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"rows", "perplexity"}
    import glmtui
    from glmtui.training.encoding import IGNORED, encode
    from glmtui.training.rows import Row

    model = glmtui.load(device="cpu")
    row = encode(Row("你好", ROWS[0]["response"]), model.tokenizer, 512, 256)
    chances = model.logits(row.ids[:-1]).log_softmax(-1)
    losses = [-float(chances[at, label]) for at, label in enumerate(row.labels[1:]) if label != IGNORED]
    assert found["perplexity"] == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-3)


def test_a_question_that_is_too_long_costs_itself(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = {"instruction": "问", "output": "答", "system": "规矩" * 2000}
    data.write_text(data.read_text("utf-8") + json.dumps(long) + "\n", "utf-8")
    assert run("--data", data, "--perplexity-only", "--json") == 0
    out, errors = capsys.readouterr()
    assert json.loads(out)["rows"] == 2
    assert "data.jsonl:4: no question fits" in errors


def test_a_table_for_people(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", data, "--perplexity-only") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["rows", "perplexity"]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--data", "/nowhere.json"], 1, "There is no /nowhere.json"),
        ([], 2, "required"),
        (["--data", "x", "--model", "http://localhost:1/v1"], 2, "on this machine"),
    ],
)
def test_what_cannot_be(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, error: str
) -> None:
    assert run(*arguments) == code
    assert error in capsys.readouterr().err

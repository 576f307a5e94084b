"""What a run learns from: the report before it, and what is kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden_data import GOLDEN

from glmtui.errors import BadFileError
from glmtui.models.chat_tokenizer import ChatTokenizer, load_tokenizer
from glmtui.training.data import Data, prepare, report_lines, split
from glmtui.training.rows import Row


@pytest.fixture(scope="module")
def nano() -> ChatTokenizer:
    return load_tokenizer(GOLDEN.parents[1] / "glmtui" / "models" / "nano")


def prepared(tmp_path: Path, tokenizer: ChatTokenizer, rows: list[Any], **options: Any) -> Data:
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    given: dict[str, Any] = {"max_source": 64, "max_target": 32, **options}
    return prepare([file], tokenizer, **given)


def row(number: int, prompt: str = "问", response: str = "答") -> dict[str, Any]:
    return {"prompt": f"{prompt} {number}", "response": response, "history": []}


def test_the_report_counts_what_is_learned_cut_and_skipped(tmp_path: Path, nano: ChatTokenizer) -> None:
    rows: list[Any] = [row(number) for number in range(20)]
    rows += [row(20, response="很长的回答" * 40), row(21, prompt="很长的问题" * 40), {"prompt": "x"}]
    rows += [{**row(22), "history": [["第一个问题" * 20, "回答"]]}]
    report = prepared(tmp_path, nano, rows, validation=0.25).report
    assert (report.rows, report.validation, len(report.skipped)) == (23, 6, 1)
    assert (report.lost_rounds, report.cut_prompts, report.cut_responses) == (1, 1, 1)
    assert len(report.lengths) == 23
    assert max(report.lengths) <= 64 + 32
    said = "\n".join(map(str, report_lines(report)))
    assert "23 rows to learn from, 6 of them kept apart" in said
    assert "1 row loses its oldest rounds: prompts have at most 64 tokens" in said
    assert "1 row loses the beginning of its question" in said
    assert "1 row loses the end of its answer: answers have at most 32 tokens" in said
    assert "1 row is skipped:\ndata.jsonl:23: it is in no known format; it has: prompt" in said
    assert sum(int(line.rpartition(" ")[2]) for line in said.splitlines() if "≤" in line) == 23


def test_nothing_is_cut(tmp_path: Path, nano: ChatTokenizer) -> None:
    said = "\n".join(map(str, report_lines(prepared(tmp_path, nano, [row(1)]).report)))
    assert said.startswith("1 row to learn from;")
    assert "Nothing is cut." in said


def test_what_is_skipped_is_named_up_to_ten(tmp_path: Path, nano: ChatTokenizer) -> None:
    said = "\n".join(map(str, report_lines(prepared(tmp_path, nano, [row(1)] + [7] * 25).report)))
    assert "25 rows are skipped:" in said
    assert "… and 15 more" in said


def test_the_same_options_give_the_same_rows(tmp_path: Path, nano: ChatTokenizer) -> None:
    rows = [row(number) for number in range(40)]
    first, again, other = (prepared(tmp_path, nano, rows, validation=0.2, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.validation_rows != other.validation_rows
    assert len(first.train) + len(first.validation) == 40
    assert len(first.validation) == len(first.validation_rows) == 8


def test_only_the_first_rows(tmp_path: Path, nano: ChatTokenizer) -> None:
    assert prepared(tmp_path, nano, [row(number) for number in range(9)], max_rows=4).report.rows == 4


def test_what_is_learned_is_not_what_is_validated(tmp_path: Path, nano: ChatTokenizer) -> None:
    rows = [row(number % 10) for number in range(40)] + [row(number) for number in range(40, 60)]
    found = prepared(tmp_path, nano, rows, validation=0.5)
    assert found.report.repeated == 30
    assert found.validation
    learned = {tuple(each.ids) for each in found.train}
    assert not learned.intersection(tuple(each.ids) for each in found.validation)
    assert len(found.train) + len(found.validation) == 60
    assert "30 rows are the same as others" in "\n".join(map(str, report_lines(found.report)))


def test_conversations_are_not_split() -> None:
    rows = [Row(str(at), "答", origin=f"a:{at // 3}") for at in range(30)]
    apart = split(rows, 0.1, 42)
    assert len(apart) == 3
    assert len({rows[at].origin for at in apart}) == 1


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(1, 0.5, 0), (2, 0.01, 1), (10, 0, 0), (10, 0.05, 1), (10, 0.9, 9)]
)
def test_something_is_left_to_learn(count: int, share: float, expected: int) -> None:
    assert len(split([Row(str(at), "答") for at in range(count)], share, 1)) == expected


def test_a_row_that_cannot_be_encoded_is_skipped(tmp_path: Path, nano: ChatTokenizer) -> None:
    alpaca = {"instruction": "问", "output": "答"}
    data = prepared(tmp_path, nano, [{**alpaca, "system": "规矩" * 100}, alpaca])
    assert data.report.rows == 1
    assert data.report.skipped[0].origin == "data.jsonl:1"
    with pytest.raises(BadFileError, match="no rows that can be learned"):
        prepared(tmp_path, nano, [{**alpaca, "system": "规矩" * 100}])

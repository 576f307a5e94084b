"""BLEU-4 and ROUGE as the published evaluation has them."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import pytest
from golden_data import golden_json

from glmtui.errors import UnavailableError
from glmtui.training import metrics
from glmtui.training.metrics import Scores, bleu_4, score

CASES = golden_json("ptuning-metrics.json")


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where jieba's dictionary is kept."""
    metrics._words.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLMTUI_HOME", str(tmp_path_factory.mktemp("home")))
        yield
    metrics._words.cache_clear()


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_bleu_is_nltks(case: Any) -> None:
    assert 100 * bleu_4(case["prediction"], case["label"]) == pytest.approx(case["bleu4"], abs=1e-3)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_scores_are_the_published_ones(case: Any) -> None:
    pytest.importorskip("jieba")
    pytest.importorskip("rouge_chinese")
    found = score(case["prediction"], case["label"])
    expected = [case["bleu4"], *case["rouge_words"].values()]
    assert [found.bleu_4, found.rouge_1, found.rouge_2, found.rouge_l] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(("prediction", "label"), [("", "标签"), ("答", ""), ("", ""), (" \n", "标签")])
def test_an_empty_answer_scores_nothing(prediction: str, label: str) -> None:
    pytest.importorskip("jieba")
    pytest.importorskip("rouge_chinese")
    assert score(prediction, label) == Scores(0, 0, 0, 0)


def test_the_mean() -> None:
    assert Scores.mean([Scores(0, 10, 20, 30), Scores(100, 20, 40, 60)]) == Scores(50, 15, 30, 45)


def test_what_is_missing_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name in ("jieba", "rouge_chinese"):
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    metrics._words.cache_clear()
    try:
        with pytest.raises(UnavailableError, match=r"pip install 'glmtui\[tune\]'"):
            score("一", "二")
    finally:
        metrics._words.cache_clear()

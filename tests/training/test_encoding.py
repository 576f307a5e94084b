"""Rows as token ids: the published code's, and what is too long."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from glm_support import PLAIN, THINKING, make_tokenizer
from golden_data import GOLDEN, TOKENIZERS, golden_json, needs_published_tokenizers

from glmtui.errors import TooLongError
from glmtui.models.chat_tokenizer import ChatTokenizer, load_tokenizer
from glmtui.training.encoding import IGNORED, Encoded, _prompt, batch, encode, pad_id
from glmtui.training.rows import Row

NANO = GOLDEN.parents[1] / "glmtui" / "models" / "nano"


@cache
def tokenizer(name: str) -> ChatTokenizer:
    return load_tokenizer(TOKENIZERS / name)


@pytest.fixture(scope="module")
def nano() -> ChatTokenizer:
    return load_tokenizer(NANO)


def cases() -> list[Any]:
    return [
        pytest.param(case, id=f"{case['model']}-{case['history_column']}-{case['max_source_length']}")
        for case in golden_json("ptuning-preprocess.json")["cases"]
    ]


def rows(case: Any) -> list[Row]:
    return [
        Row(
            each["prompt"],
            each["response"],
            tuple(map(tuple, each["history"])) if case["history_column"] else None,
        )
        for each in golden_json("ptuning-preprocess.json")["rows"]
        if each["prompt"] and each["response"]
    ]


@needs_published_tokenizers
@pytest.mark.parametrize("case", cases())
def test_ids_and_labels_are_the_published_codes(case: Any) -> None:
    chat = tokenizer(case["model"])
    source, target = case["max_source_length"], case["max_target_length"]
    encoded = [encode(row, chat, source, target, as_published=True) for row in rows(case)]
    ids, labels = batch(encoded, pad_id(chat), len(case["input_ids"][0]))
    assert ids.tolist() == case["input_ids"]
    assert labels.tolist() == case["labels"]


@needs_published_tokenizers
@pytest.mark.parametrize("case", [case for case in cases() if case.values[0]["max_source_length"] == 64])
def test_what_fits_is_as_published_also_where_cuts_are_not(case: Any) -> None:
    """But ChatGLM-6B's ``[Round 0]`` before a question with an empty history, which `chat` does not write."""
    chat = tokenizer(case["model"])
    for row, ids, labels in zip(rows(case), case["input_ids"], case["labels"], strict=True):
        encoded = encode(row, chat, 64, 64)
        assert not encoded.cut
        if row.history == () and case["model"] == "chatglm-6b":
            assert encoded.ids == encode(Row(row.prompt, row.response), chat, 64, 64).ids
        else:
            assert encoded.ids == ids[: len(encoded.ids)]
            assert encoded.labels == labels[: len(encoded.labels)]


@pytest.mark.parametrize("template", [PLAIN, THINKING], ids=["plain", "thinking"])
def test_newer_models_learn_the_answer_behind_their_template(tmp_path: Path, template: str) -> None:
    """The prompt of GLM-Z1 ends in a thought that has begun: it is closed before the answer."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "glm4", "vocab_size": 512}), "utf-8")
    make_tokenizer(tmp_path, template)
    chat = load_tokenizer(tmp_path)
    encoded = encode(Row("你好", "世界！", (("a", "b"),)), chat, 200, 50)
    start = prompt_length(encoded)
    assert encoded.ids[:start] == encode_prompt(Row("你好", "", (("a", "b"),)), chat, 200)
    assert encoded.ids[-1] == chat.raw.eos_id
    said = chat.decode(encoded.ids[start:-1])
    assert said == ("世界！" if template == PLAIN else "\n</think>\n\n世界！")


def prompt_length(encoded: Encoded) -> int:
    return next(at for at, label in enumerate(encoded.labels) if label != IGNORED)


def encode_prompt(row: Row, tokenizer: ChatTokenizer, max_source: int) -> list[int]:
    return _prompt(row, tokenizer, max_source, as_published=False)[1]


LONG = Row("这是最后的问题，它的结尾不能丢", "好。", (("第一个问题很长很长", "第一个回答"), ("第二个", "嗯")))


def test_the_oldest_rounds_are_left_out_first(nano: ChatTokenizer) -> None:
    whole = encode(LONG, nano, 200, 50)
    assert not whole.cut
    shorter = encode(LONG, nano, prompt_length(whole) - 2, 50)
    assert shorter.cut == (1, False, False)
    assert shorter.ids == encode(Row(LONG.prompt, LONG.response, LONG.history[1:]), nano, 200, 50).ids  # type: ignore[index]


def test_a_question_that_is_too_long_keeps_its_end(nano: ChatTokenizer) -> None:
    encoded = encode(LONG, nano, 12, 50)
    assert encoded.cut == (2, True, False)
    assert prompt_length(encoded) <= 12
    assert "结尾不能丢" in nano.decode(encoded.ids)
    assert "第二个" not in nano.decode(encoded.ids)


@pytest.mark.parametrize("source", range(3, 40))
def test_no_prompt_is_longer_than_it_may_be(nano: ChatTokenizer, source: int) -> None:
    encoded = encode(LONG, nano, source, 50)
    assert len(encode_prompt(LONG, nano, source)) <= source + 1  # as published
    assert encoded.ids[: prompt_length(encoded) + 1] == encode_prompt(LONG, nano, source)


def test_the_answer_loses_its_end_and_still_ends(nano: ChatTokenizer) -> None:
    whole, cut = encode(LONG, nano, 100, 50), encode(LONG, nano, 100, 3)
    assert cut.cut == (0, False, True)
    assert cut.ids[-1] == whole.ids[-1] == nano.raw.eos_id
    assert len(cut.ids) - prompt_length(cut) == 3


def test_only_the_answer_is_learned(nano: ChatTokenizer) -> None:
    encoded = encode(LONG, nano, 100, 50)
    assert len(encoded.ids) == len(encoded.labels)
    start = prompt_length(encoded)
    assert set(encoded.labels[:start]) == {IGNORED}
    assert encoded.labels[start:] == encoded.ids[start:]
    assert nano.decode(encoded.labels[start:]) == LONG.response


def test_what_stands_before_every_question_can_be_too_long(nano: ChatTokenizer) -> None:
    with pytest.raises(TooLongError, match="no question fits into 9 tokens"):
        encode(Row("问", "答", system="规矩" * 50), nano, 8, 8)


def test_a_batch_is_filled_up_on_the_right(nano: ChatTokenizer) -> None:
    long, short = encode(LONG, nano, 100, 50), encode(Row("你好", "好"), nano, 100, 50)
    ids, labels = batch([short, long], pad_id(nano))
    assert ids.shape == labels.shape == (2, len(long.ids))
    assert ids[0, len(short.ids) :].tolist() == [3] * (len(long.ids) - len(short.ids))
    assert set(labels[0, len(short.ids) :].tolist()) == {IGNORED}
    assert ids[1].tolist() == long.ids

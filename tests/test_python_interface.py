"""`glmtui.load` and `glmtui.load_tokenizer` given what they cannot use: the error is typed and says what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import glmtui
from glmtui.errors import BadValueError, UserError

NAN = float("nan")


@pytest.fixture(scope="module")
def model() -> Any:
    return glmtui.load(device="cpu")


@pytest.mark.parametrize(
    "ids", [[], [1.5], ["a"], None, 5, [[1]], [-1], [10**9], [2**70], "abc", [NAN], [True], [None]]
)
def test_ids_that_are_none(model: Any, ids: Any) -> None:
    with pytest.raises(BadValueError):
        model.logits(ids)
    with pytest.raises(BadValueError):
        next(model.generate(ids, max_new_tokens=1))


@pytest.mark.parametrize(
    "option",
    [
        *({"max_new_tokens": value} for value in (-1, 1.5, "3", None, NAN)),
        *({"temperature": value} for value in (-1, NAN, float("inf"), "hot", None)),
        *({"top_p": value} for value in (2, -0.1, NAN, "1", None)),
        *({"top_k": value} for value in (-1, 1.5, "1")),
        *({"repetition_penalty": value} for value in (0, NAN, None)),
        *({"seed": value} for value in (2**70, "x", 1.5)),
        *({"stop_ids": value} for value in (5, ["a"], None)),
    ],
)
def test_options_of_generate_out_of_range(model: Any, option: dict[str, Any]) -> None:
    options: dict[str, Any] = {"max_new_tokens": 2, **option}
    with pytest.raises(BadValueError):
        list(model.generate([5, 6], **options))


@pytest.mark.parametrize(
    "option",
    [
        *({"quant": value} for value in ("3", 3, 4.0, True)),
        *({"device": value} for value in ("tpu", None, 5)),
        *({"dtype": value} for value in ("float99", 5)),
        *({"threads": value} for value in (-1, 1.5, "two")),
        {"source": "/nope"},
        {"source": 5},
        {"ptuning": "/nope"},
    ],
)
def test_options_of_load_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        glmtui.load(**{"device": "cpu", **option})


@pytest.mark.parametrize("directory", ["/nope", 5, None, b"x"])
def test_a_tokenizer_from_nowhere(directory: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        glmtui.load_tokenizer(directory)
    with pytest.raises(UserError):
        glmtui.load_tokenizer(tmp_path)


@pytest.mark.parametrize("history", [5, ["ab"], [("x",)], [(1, 2)], [("x", None)], "ab", [None]])
def test_a_history_that_is_none(model: Any, history: Any) -> None:
    for way in (model.tokenizer.encode_chat, model.chat, lambda *given: next(model.stream_chat(*given))):
        with pytest.raises(BadValueError):
            way("hi", history)


@pytest.mark.parametrize("text", [None, 5, b"x", ["a"]])
def test_what_is_no_text(model: Any, text: Any) -> None:
    for way in (model.tokenizer.encode, model.tokenizer.encode_text, model.tokenizer.encode_chat, model.chat):
        with pytest.raises(BadValueError):
            way(text)


def test_what_are_no_ids(model: Any) -> None:
    for ids in (None, 5, "ab", [1.5], [None]):
        with pytest.raises(BadValueError):
            model.tokenizer.decode(ids)

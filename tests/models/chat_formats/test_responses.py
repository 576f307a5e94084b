import re
from collections.abc import Iterable

import pytest
from golden_data import golden_json
from hypothesis import given, settings
from hypothesis import strategies as st

from glmtui.models.chat_formats.responses import ResponseStream

CASES = golden_json("chat_text.json")["process_response"]
TEXT = st.text(alphabet="[]训练时间年a1 \n\t\u3000,!:;?，中文。")
PIECES = st.lists(st.one_of(TEXT, st.sampled_from(["[[训练时间]]", "[[训练", "时间]]", ""])), max_size=8)


@pytest.mark.parametrize(("family", "punctuation"), [("chatglm", True), ("chatglm2", False)])
def test_golden_responses(family: str, punctuation: bool):
    for raw, expected in CASES[family]:
        assert process_stream([raw], punctuation=punctuation) == expected
        assert process_stream(raw, punctuation=punctuation) == expected  # character by character


def process_stream(pieces: Iterable[str], *, punctuation: bool) -> str:
    stream = ResponseStream(punctuation=punctuation)
    return "".join(map(stream.push, pieces)) + stream.finish()


def reference(text: str, *, punctuation: bool) -> str:
    """The rules as the facts state them, on the whole text."""
    text = text.strip().replace("[[训练时间]]", "2023年")
    if punctuation:
        for half, full in zip(",!:;?", "，！：；？", strict=True):
            text = re.sub(rf"([\u4e00-\u9fff])\{half}", rf"\1{full}", text)
            text = re.sub(rf"\{half}([\u4e00-\u9fff])", rf"{full}\1", text)
    return text


@given(PIECES, st.booleans())
@settings(max_examples=500, deadline=None)
def test_streaming_equals_the_rules_on_the_whole(pieces: list[str], punctuation: bool):
    expected = reference("".join(pieces), punctuation=punctuation)
    assert process_stream(pieces, punctuation=punctuation) == expected
    assert process_stream(["".join(pieces)], punctuation=punctuation) == expected


def test_only_what_is_undecided_is_held_back():
    stream = ResponseStream(punctuation=True)
    assert [stream.push(text) for text in ("\n 你", "好,", "ok", ",", "好", "x!")] == [
        "你",
        "好，",
        "ok",
        "",
        "，好",
        "x",
    ]
    assert stream.push("[[训练") == ""
    assert stream.push("营]] ") == "![[训练营]]"
    assert stream.finish() == ""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("好", ",ok", "，ok"),
        ("ok", ", yes", ", yes"),
        ("def f():", "\n    pass\n", "\n    pass"),
        ("", "\n ok", "ok"),
    ],
)
def test_an_answer_goes_on_from_what_is_there(before: str, after: str, expected: str):
    stream = ResponseStream(punctuation=True, after=before)
    assert stream.push(after) + stream.finish() == expected

"""Words and characters in the composer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.text.word_boundaries import (
    next_character,
    next_word,
    previous_character,
    previous_word,
    word_spans,
)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("我喜欢看电影", ["我", "喜欢", "看电", "影"]),
        ("我们的模型没有加载", ["我们", "的", "模型", "没有", "加载"]),
        ("run glmtui ask，好吗？", ["run", "glmtui", "ask", "，", "好", "吗", "？"]),
        ("カタカナ漢字", ["カタカナ", "漢字"]),
        ("你好世界", ["你好", "世界"]),
        ("  ", []),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert [line[start:end] for start, end in word_spans(line)] == words


@given(st.text(st.sampled_from("我们的模型 ab1，。\t是カ😀\u0301"), max_size=30))
def test_moving_by_words_visits_every_word_and_ends_at_the_edges(line: str) -> None:
    column, places = 0, []
    while column < len(line):
        following = next_word(line, column)
        assert following > column
        column = following
        places.append(column)
    column = len(line)
    while column > 0:
        before = previous_word(line, column)
        assert before < column
        column = before
    assert [end for _start, end in word_spans(line)] == [p for p in places if p != len(line)] + (
        [len(line)] if word_spans(line) and word_spans(line)[-1][1] == len(line) else []
    )


def test_a_character_is_what_a_person_sees() -> None:
    line = "e\u0301👍🏽👩\u200d👩\u200d👧❤\ufe0fx🇨🇳🇩🇪🇫y"
    column, characters = 0, []
    while column < len(line):
        following = next_character(line, column)
        characters.append(line[column:following])
        column = following
    assert characters == ["e\u0301", "👍🏽", "👩\u200d👩\u200d👧", "❤\ufe0f", "x", "🇨🇳", "🇩🇪", "🇫", "y"]
    while column:
        before = previous_character(line, column)
        assert line[before:column] == characters.pop()
        column = before

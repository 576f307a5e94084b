"""Text made safe for a terminal; words and characters in the composer."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.tui.text import clean, one_line, split_partial
from glmtui.tui.words import next_character, next_word, previous_character, previous_word, word_spans


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("你好\tworld\n", "你好\tworld\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;cm0gLXJm\x1b\\text", "text"),
        ("\x1bPq#0\x1b\\text", "text"),
        ("\x9b31mtext", "text"),
        ("a\x1bcb", "ab"),
        ("unfinished \x1b]0;title\nnext", "unfinished ]0;title\nnext"),
        ("a\r\nb\rc\u2028d\u2029e\x85f\vg\fh", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("bell\a back\b null\0 del\x7f", "bell back null del"),
        ("\u202eevil\u202c", "evil"),
        ("\ufeffmark", "mark"),
        ("\ud83d", "\ufffd"),
        ("👩\u200d👩\u200d👧 ❤\ufe0f", "👩\u200d👩\u200d👧 ❤\ufe0f"),
    ],
)
def test_clean_removes_what_steers_the_terminal_and_nothing_else(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text(st.characters(exclude_categories=())))
def test_clean_leaves_only_text_that_every_line_splitter_agrees_on(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") for c in cleaned)
    assert [*cleaned.split("\n")][:-1] == (cleaned + "x").splitlines()[:-1]
    cleaned.encode()


@given(st.text(st.sampled_from("ab\x1b[]0;31m\x07\\\r\nP你")), st.integers(0, 40))
def test_a_sequence_cut_by_the_stream_is_cleaned_as_one(text: str, at: int) -> None:
    whole, rest = "", ""
    for piece in (text[:at], text[at:]):
        ready, rest = split_partial(rest + piece)
        whole += clean(ready)
    whole += clean(rest)
    if "\x1b" not in text:
        assert whole == clean(text)
    assert not set(whole) & set("\x1b\r\x07")


def test_a_colour_cut_in_the_middle_leaves_no_letters() -> None:
    ready, rest = split_partial("red: \x1b[3")
    assert (ready, rest) == ("red: ", "\x1b[3")
    ready, rest = split_partial(rest + "1mtext")
    assert (clean(ready), rest) == ("text", "")


def test_one_line() -> None:
    assert one_line("  a\n\tb\x1b[1m  c ") == "a b c"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("我喜欢看电影", ["我", "喜欢", "看电", "影"]),
        ("我们的模型没有加载", ["我们", "的", "模型", "没有", "加载"]),
        ("run glmtui ask，好吗？", ["run", "glmtui", "ask", "，", "好", "吗", "？"]),
        ("カタカナ漢字", ["カタカナ", "漢字"]),
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
    line = "e\u0301👍🏽👩\u200d👩\u200d👧❤\ufe0fx"
    column, characters = 0, []
    while column < len(line):
        following = next_character(line, column)
        characters.append(line[column:following])
        column = following
    assert characters == ["e\u0301", "👍🏽", "👩\u200d👩\u200d👧", "❤\ufe0f", "x"]
    while column:
        before = previous_character(line, column)
        assert line[before:column] == characters.pop()
        column = before

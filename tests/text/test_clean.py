"""Text made safe for a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.text.clean import clean, one_line, split_partial


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

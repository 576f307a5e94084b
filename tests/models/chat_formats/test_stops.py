"""Stop strings, wherever the pieces of an answer begin and end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from glmtui.models.chat_formats.stops import StopStream


@given(some.lists(some.text("abc", max_size=4)), some.lists(some.text("abc", max_size=4), max_size=3))
def test_the_answer_ends_before_the_first_stop(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    stream = StopStream(stops)
    said = "".join(map(stream.push, pieces)) + stream.finish()
    ends = {end for stop in stops if stop for end in range(len(text) + 1) if text[:end].endswith(stop)}
    assert stream.found is bool(ends)
    if not ends:
        assert said == text
    else:  # the first to be complete ends it; of several, the one that began first
        first = min(ends)
        begins = {first - len(stop) for stop in stops if stop and text[:first].endswith(stop)}
        assert text.startswith(said)
        assert said == text[: min(begins)]


@pytest.mark.parametrize(("text", "held"), [("一<|user", "<|user"), ("一", ""), ("<", "<")])
def test_only_the_beginning_of_a_stop_is_held_back(text: str, held: str) -> None:
    stream = StopStream(["<|user|>"])
    assert stream.push(text) == text.removesuffix(held)
    assert stream.finish() == held

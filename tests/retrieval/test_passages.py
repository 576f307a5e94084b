"""Documents are cut where their authors would cut them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from glmtui.retrieval.documents import Block
from glmtui.retrieval.passages import LETTER, ROOM, cut, extent


def test_headings_are_kept_and_never_passed_over() -> None:
    blocks = [
        Block("heading", "Book", 1), Block("text", "a"), Block("heading", "One", 2), Block("text", "b"),
        Block("heading", "Deep", 3), Block("text", "c"), Block("heading", "Two", 2), Block("text", "d"),
    ]  # fmt: skip
    assert [(p.heading, p.text) for p in cut(blocks)] == [
        ("Book", "a"), ("Book › One", "b"), ("Book › One › Deep", "c"), ("Book › Two", "d"),
    ]  # fmt: skip


def test_a_heading_with_nothing_below_is_found_too() -> None:
    blocks = [
        Block("heading", "Empty", 1),
        Block("heading", "Full", 1),
        Block("text", "x"),
        Block("heading", "Z", 2),
    ]
    assert [(p.heading, p.text) for p in cut(blocks)] == [("", "Empty"), ("Full", "x"), ("Full", "Z")]


def test_pages_are_never_passed_over() -> None:
    found = list(cut([Block("text", "a", page=1), Block("text", "b", page=1), Block("text", "c", page=2)]))
    assert [(p.text, p.page) for p in found] == [("a\nb", 1), ("c", 2)]


def test_short_paragraphs_come_together_with_their_lines() -> None:
    found = list(cut([Block("text", "一。", first=3, last=3), Block("text", "二。", first=5, last=6)]))
    assert [(p.text, p.first, p.last) for p in found] == [("一。\n二。", 3, 6)]


def test_a_long_paragraph_is_cut_at_sentences_and_the_last_one_is_said_again() -> None:
    sentences = [f"这是第{number}句话，说的是同一件事情里的不同方面。" for number in range(60)]
    found = [p.text for p in cut([Block("text", "".join(sentences))])]
    assert len(found) > 2
    assert all(extent(text) <= ROOM and text.endswith("。") for text in found)
    assert all(after.startswith(before[before.rindex("这是") :]) for before, after in pairwise(found))


def test_tables_are_cut_at_rows_and_repeat_their_header() -> None:
    rows = [f"型号{n} | 名称名称名称名称 | {n}" for n in range(80)]
    found = list(cut([Block("table", "\n".join(rows), first=2, last=81, header="型号 | 名称 | 价")]))
    assert all(p.text.startswith("型号 | 名称 | 价\n型号") for p in found)
    assert [row for p in found for row in p.text.split("\n")[1:]] == rows
    assert (found[0].first, found[-1].last) == (2, 81)
    assert all(after.first == before.last + 1 for before, after in pairwise(found))


def test_a_question_stays_with_its_answer() -> None:
    answers = "答：" + "这里写着很长的回答。" * 14
    lines = [line for n in range(12) for line in (f"问：第{n}个问题是什么？", answers)]
    together = [p.text for p in cut([Block("text", "\n".join(lines), first=1, last=len(lines))])]
    apart = [p.text for p in cut([Block("text", line) for line in lines])]
    for found in (together, apart):
        assert len(found) > 3
        assert all(text.startswith("问：") and text.endswith("回答。") for text in found)


@given(
    st.lists(st.text(alphabet="甲乙。，.a b\n|", max_size=900), max_size=6),
    st.sampled_from(["text", "code", "table"]),
)
def test_nothing_is_lost_and_nothing_is_too_long(paragraphs: list[str], kind: str) -> None:
    blocks = [Block(kind, text) for text in paragraphs]  # type: ignore[arg-type]
    found = list(cut(blocks))
    said = "".join(p.text for p in found)
    for character in "甲乙a":
        assert said.count(character) >= sum(text.count(character) for text in paragraphs)
    assert all(extent(p.text) <= 2 * ROOM + len(p.text.split("\n")) * LETTER + 2 for p in found)

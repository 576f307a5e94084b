"""Where lines are broken, in Chinese and English."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.content import Content

from glmtui.tui.transcript.typeset.lines import _NOT_FIRST, _NOT_LAST, Line, breaks, copied, fold, wrap


def broken(text: str, width: int) -> list[str]:
    return [line.content.plain for line in wrap(Content(text), width)]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("short", 10, ["short"]),
        ("two words here", 9, ["two words", "here"]),
        ("量化以后，内存减少。", 8, ["量化以", "后，内存", "减少。"]),
        ("他说：“好的”。", 10, ["他说：“好", "的”。"]),
        ("见说明（第三章）里", 8, ["见说明", "（第三", "章）里"]),
        ("使用 INT4 量化模型", 9, ["使用 INT4", "量化模型"]),
        ("averyverylongword x", 6, ["averyv", "erylon", "gword", "x"]),
        ("一\n\n二", 8, ["一", "", "二"]),
        ("好！！！！！！", 4, ["好！", "！！", "！！", "！"]),
        ("", 5, [""]),
    ],
)
def test_lines_are_broken_as_people_write(text: str, width: int, lines: list[str]) -> None:
    assert broken(text, width) == lines


@given(st.text(st.sampled_from("ab 中文，。（）「」é👍\u0301\u200d"), max_size=60), st.integers(2, 20))
def test_every_line_fits_and_nothing_is_lost(text: str, width: int) -> None:
    lines = wrap(Content(text), width)
    assert all(cell_len(line.content.plain.rstrip(" \u0301\u200d")) <= width for line in lines)
    assert copied(lines).rstrip() == text.rstrip()


@given(st.text(st.sampled_from("中文字，。（）「」"), max_size=60), st.integers(8, 20))
def test_no_line_begins_or_ends_with_what_must_not_stand_there(text: str, width: int) -> None:
    for at in breaks(text, width):
        forced = all(text[k] in _NOT_FIRST or text[k - 1] in _NOT_LAST for k in range(max(at - 2, 1), at + 1))
        assert forced or (text[at] not in _NOT_FIRST and text[at - 1] not in _NOT_LAST)


def test_what_was_broken_to_fit_is_copied_whole() -> None:
    text = "a long English sentence，中文也一样。\nnext line"
    assert copied(wrap(Content(text), 10)) == text


def test_code_is_folded_without_losing_a_blank() -> None:
    lines = fold(Content("if x:    y = '中文'"), 7)
    assert "".join(line.content.plain for line in lines) == "if x:    y = '中文'"
    assert all(line.content.cell_length <= 7 for line in lines)


def test_a_frame_is_not_copied_and_a_list_mark_is() -> None:
    framed = Line(Content("│ code │"), start=2, end=6)
    assert framed.behind(Content("  "), copied=True).copied == "code"
    assert Line(Content("item")).behind(Content(" • "), copied=True).copied == " • item"

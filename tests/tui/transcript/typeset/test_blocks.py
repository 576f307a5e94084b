"""How the parts of a Markdown text are laid out."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from glmtui.tui.transcript.typeset.blocks import stack
from glmtui.tui.transcript.typeset.growing import read_all
from glmtui.tui.transcript.typeset.lines import copied
from glmtui.tui.transcript.typeset.table import shrink


def drawn(text: str, width: int = 40) -> list[str]:
    lines = stack(read_all(text), width)
    assert all(line.content.cell_length <= max(width, 24) for line in lines)
    return [line.content.plain.rstrip() for line in lines]


def test_lists_are_nested_and_their_marks_tell_how_deep() -> None:
    text = "- 一\n  - 二\n    - 三\n      - 四\n- 五\n  后面\n\n1. x\n   1. y"
    assert drawn(text) == [
        " • 一", "    ◦ 二", "       ▪ 三", "          ▪ 四", " • 五", "   后面", "", " 1. x", "     1. y",
    ]  # fmt: skip


def test_tasks_have_boxes() -> None:
    assert drawn("- [x] 完成\n- [ ] 未完成\n- [z] 其他") == [" ✔ 完成", " ☐ 未完成", " • [z] 其他"]


def test_long_items_hang_below_their_text() -> None:
    assert drawn("12. 一二三四五六七八九十", 14) == [" 12. 一二三四", "     五六七八", "     九十"]


def test_quotes_stand_behind_a_bar_that_is_not_copied() -> None:
    assert drawn("> 一\n> 二\n>\n> - 三") == ["▎ 一", "▎ 二", "▎", "▎  • 三"]
    assert copied(stack(read_all("> 一\n> 二"), 40)) == "一\n二"


def test_code_has_a_frame_with_its_language_and_a_word_to_copy_it() -> None:
    assert drawn("```Python title=[x]\nx = 1\n\ny = '中'\n```", 30) == [
        "╭─ python ──────────── copy ─╮",
        "│ x = 1                      │",
        "│                            │",
        "│ y = '中'                   │",
        "╰────────────────────────────╯",
    ]
    assert copied(stack(read_all("```python\nx = 1\n\ny = 2\n```"), 30)).strip() == "x = 1\n\ny = 2"


def test_long_code_is_folded_and_copied_whole() -> None:
    code = "x = " + "a" * 50
    assert all(cell_len(line) <= 30 for line in drawn(f"```\n{code}\n```", 30))
    assert copied(stack(read_all(f"```\n{code}\n```"), 30)).strip() == code


def test_code_without_language_or_of_an_unknown_one_is_plain() -> None:
    assert "nosuch" in drawn("```nosuch\nx\n```")[0]
    assert drawn("```\nx\n```")[0].startswith("╭──────")


def test_tables_line_up_by_cells() -> None:
    assert drawn("| 名称 | n | c |\n|---|--:|:-:|\n| 甲乙丙 | 1 | x |\n| a | 22 | yyy |") == [
        " 名称   │  n │  c",
        "────────┼────┼─────",
        " 甲乙丙 │  1 │  x",
        " a      │ 22 │ yyy",
    ]


def test_a_wide_table_wraps_its_widest_column_and_indents_what_goes_on() -> None:
    text = "| 名称 | n |\n|---|--:|\n| 甲乙丙 | 1 |\n| " + "很长的文字" * 12 + " | 22 |\n| 丁 | 3 |"
    lines = drawn(text, 40)
    assert all(cell_len(line) <= 40 for line in lines)
    first = [line.split("│")[0] for line in lines[2:]]
    assert "".join(first[1:-1]).replace(" ", "") == "很长的文字" * 12
    assert [cell[:3] != "   " for cell in first] == [True, True, *[False] * (len(first) - 3), True]


def test_rows_of_several_lines_that_do_not_begin_with_text_are_parted_by_rules() -> None:
    wrapped = "| a | " + "long " * 20 + "|\n| %s | c |\n| d | e |"
    head = "| n | m |\n|---|---|\n"
    rules = [[line[0] for line in drawn(head + wrapped % name, 40)].count("╌") for name in ("b", "")]
    assert rules == [0, 2]


@pytest.mark.parametrize("width", [12, 20, 30, 41, 80])
def test_tables_with_cells_that_are_missing_or_too_many_fit_every_width(width: int) -> None:
    text = "|a|b|c|d|\n|-|-|-|-|\n|" + "x" * 50 + "|y|" + "中" * 40 + "||\n|1|2|3|4|5|\n|ok|"
    assert any("ok" in line for line in drawn(text, width))


def test_the_widest_columns_give_way_first() -> None:
    assert shrink([4, 50, 6], 30) == [4, 20, 6]
    assert shrink([40, 50, 6], 30) == [12, 12, 6]
    assert sum(shrink([40, 50, 60], 31)) == 31
    assert shrink([3, 0], 20) == [3, 1]


def test_formulas_are_readable() -> None:
    assert drawn("能量 \\(E = mc^2\\) 和 $\\frac{a}{b}$：\n\n$$\n\\sum_{i=1}^n x_i\n$$") == [
        "能量 E = mc² 和 a/b：", "", "  ∑ᵢ₌₁ⁿ xᵢ",
    ]  # fmt: skip


def test_headings_rules_and_images() -> None:
    assert drawn("# 标题\n\n---\n\n![图](http://a.b/c.png)", 12) == ["标题", "", "─" * 12, "", "[图]"]

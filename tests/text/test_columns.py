"""Tables and cells by the columns of a terminal."""

from __future__ import annotations

import pytest

from glmtui.text.columns import cell, table


@pytest.mark.parametrize(
    ("text", "width", "right", "shown"),
    [
        ("模型", 6, False, "模型  "),
        ("模型", 6, True, "  模型"),
        ("模型名称", 6, False, "模型 …"),
        ("ab", 0, False, ""),
    ],
)
def test_a_cell_has_its_width(text: str, width: int, right: bool, shown: str) -> None:
    assert cell(text, width, right=right) == shown


def test_a_table_counts_a_hanzi_twice_and_a_mark_not_at_all() -> None:
    rows = [("模型", "8 位"), ("nano [b]", "1.5"), ("e\u0301", "")]
    assert table(rows, right=(1,)) == ["模型      8 位", "nano [b]   1.5", "e\u0301"]

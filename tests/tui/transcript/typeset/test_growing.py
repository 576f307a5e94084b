"""Markdown as it is streamed: always what the text given whole would be, without reading it all again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmtui.tui.transcript.typeset.blocks import Block, Formula, Item, List, Paragraph, Quote, stack
from glmtui.tui.transcript.typeset.code import Code
from glmtui.tui.transcript.typeset.growing import GrowingMarkdown, read_all, undecided
from glmtui.tui.transcript.typeset.lines import copied
from glmtui.tui.transcript.typeset.table import Table

ANSWER = """# 标题

你好，**重点（括号）。**后面的`代码 x`
第二行 https://example.com/路径

1. 第一**项目**：内容
2. 第二项
   - 子项 a
   - 子项 b
     1. 深
3. 第三项

   ```python
   def f(x):
       return x
   ```
10. 四

- [链接](https://a.b) 和
  懒行
- b
* 别的列表

| 名称 | 值 |
|---|--:|
| 甲 | 1 |
| 乙乙乙 | 22 |

```python
import os
- 不是列表
```

> 引用
> 两行
>
> - 引用里的列表
---
$$
\\frac{a}{b}
$$
    缩进代码

结尾 **完**"""


def shape(blocks: list[Block]) -> list[object]:
    """What blocks say, in plain values."""
    return [_shape(block) for block in blocks]


def _shape(block: Block) -> object:
    match block:
        case Paragraph(text, heading):
            return heading, text.plain, sorted(map(str, text.spans))
        case Code(code, language):
            return language, code
        case Formula(source):
            return source
        case Quote(blocks):
            return shape(blocks)
        case List(items, first, depth):
            return first, depth, shape(items)
        case Item(blocks, _source, done):
            return done, shape(blocks)
        case Table(header, rows, aligns):
            return [[cell.plain for cell in row] for row in (header, *rows)], aligns
    return type(block).__name__


def drawn(blocks: list[Block], width: int = 60) -> list[str]:
    return [line.content.plain.rstrip() for line in stack(blocks, width)]


def stream(pieces: list[str], *, width: int = 60) -> GrowingMarkdown:
    """Stream, drawing after each piece as a widget does."""
    growing = GrowingMarkdown()
    for piece in pieces:
        if growing.add(piece):
            drawn(growing.blocks, width)
    return growing


def cut(text: str, seed: int) -> list[str]:
    chooser, pieces = random.Random(seed), []
    while text:
        size = chooser.choice([1, 2, 3, 5, 9, 30])
        pieces.append(text[:size])
        text = text[size:]
    return pieces


@pytest.mark.parametrize("seed", range(12))
def test_a_streamed_answer_looks_like_the_whole_one(seed: int) -> None:
    growing = stream(cut(ANSWER, seed))
    before = drawn(growing.blocks)
    growing.finish()
    assert shape(growing.blocks) == shape(read_all(ANSWER))
    assert drawn(growing.blocks) == drawn(read_all(ANSWER))
    assert drawn(growing.blocks)[: len(before) - 2] == before[:-2], "nothing but the end changes at the end"


def test_finishing_keeps_the_lines_that_stand() -> None:
    growing = stream(cut(ANSWER, 1))
    before = {id(line) for line in stack(growing.blocks, 60)}
    growing.finish()
    kept = [line for line in stack(growing.blocks, 60) if id(line) in before]
    assert len(kept) > len(before) // 3, "what was drawn is not drawn again"


PIECES = [
    "- ", "1. ", "2. ", "  ", "   ", "\n", "\n\n", "**", "*", "`", "```", "```py\n", "| a | b |\n",
    "|---|---|\n", "> ", "# ", "---", "$$", "\\(", "\\)", "你好", "，", "x", "12", ".", "[x](", ")",
    "[a]: b\n", "\t", "\\", "<b>", "~~",
]  # fmt: skip


def test_any_mixture_ends_as_the_whole_text() -> None:
    chooser = random.Random(5)
    for _each in range(300):
        text = "".join(chooser.choices(PIECES, k=chooser.randint(1, 30)))
        growing = stream(cut(text, chooser.randint(0, 999)))
        growing.finish()
        assert shape(growing.blocks) == shape(read_all(text)), repr(text)
        assert drawn(growing.blocks) == drawn(read_all(text)), repr(text)


def test_finished_rows_of_a_list_are_kept() -> None:
    growing = stream(["1. 甲\n2. 乙\n   - 子\n3. 丙"])
    before = stack(growing.blocks, 40)
    growing.add("丙丙\n4. 丁\n")
    after = stack(growing.blocks, 40)
    assert [line.content.plain for line in after] == [" 1. 甲", " 2. 乙", "     ◦ 子", " 3. 丙丙丙", " 4. 丁"]
    assert [new is old for new, old in zip(after, before, strict=False)] == [True, True, True, False]


def test_numbers_line_up_when_the_list_gets_longer() -> None:
    growing = stream([f"{number}. x\n" for number in range(8, 12)])
    assert drawn(growing.blocks) == ["  8. x", "  9. x", " 10. x", " 11. x"]


@pytest.mark.parametrize(
    ("pieces", "never"),
    [
        (["文字\n", "-", "-", "-", "\n后"], "文字\n-"),
        (["```", "python\nx = 1\n", "```"], "``"),
        (["这是**", "重点", "**", "后面"], "*"),
        (["用`co", "de`"], "`"),
        (["1", ".", " 一\n", "2", ". 二"], "\n2\n"),
    ],
)
def test_half_written_marks_do_not_flash(pieces: list[str], never: str) -> None:
    growing = GrowingMarkdown()
    for piece in pieces:
        growing.add(piece)
        assert never not in "\n".join(drawn(growing.blocks)), piece


@given(
    st.text(st.sampled_from("a-*`1. \n#|>你"), max_size=20), st.text(st.sampled_from("a-*`1. \n"), max_size=5)
)
@settings(deadline=None)
def test_what_has_been_shown_stays_decided(text: str, more: str) -> None:
    assert undecided(text + more) >= undecided(text)


def test_what_follows_a_fence_is_never_inside_it() -> None:
    growing = stream(["```\nA\n", "B\n", "```\n", "后面"])
    growing.finish()
    assert shape(growing.blocks) == [("", "A\nB"), (0, "后面", [])]


def test_colours_of_growing_code_follow_and_are_complete_at_the_end() -> None:
    growing = stream(["```python\n", *(f"value_{number} = {number}  # 注释\n" for number in range(60))])
    rows = growing.blocks[0]._rows  # type: ignore[attr-defined]
    assert rows[0].spans
    growing.finish()
    code = growing.blocks[0]
    assert isinstance(code, Code)
    assert all(row.spans for row in code.rows())


def test_escape_sequences_are_taken_out_even_when_they_are_cut() -> None:
    growing = stream(["a\x1b[", "31mb\x1b]0;t", "itle\x07c\u2028d\u2029e\x85f", "\r", "\ng\x00"])
    growing.finish()
    assert growing.text == "abc\nd\ne\nf\ng"
    assert drawn(growing.blocks) == ["abc", "d", "e", "f", "g"]


def test_markup_is_text() -> None:
    text = copied(stack(read_all("[bold]x[/bold] [/]\n\n```a[b]\n[red]y[/red]\n```\n\n- [z]"), 60))
    assert "[bold]x[/bold] [/]" in text
    assert "[red]y[/red]" in text

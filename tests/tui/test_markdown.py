"""Markdown as it is streamed: always what the text given whole would look like, without rebuilding it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.pilot import Pilot
from textual.widgets import Markdown
from tui_helpers import Host, screen_lines, screen_text, wait_until

from glmtui.tui.widgets.markdown import ChatMarkdown, code_blocks, outline, undecided
from glmtui.tui.widgets.markdown_blocks import ListRow, blocks_of
from glmtui.tui.widgets.markdown_code import CodeBlock

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


@pytest_asyncio.fixture
async def pilot() -> AsyncIterator[Pilot[None]]:
    async with Host(ChatMarkdown(), keep=(Markdown.LinkClicked,)).run_test(size=(80, 70)) as pilot:
        yield pilot


def markdown(pilot: Pilot[None]) -> ChatMarkdown:
    return pilot.app.query_one(ChatMarkdown)


def shape(widget: ChatMarkdown) -> list[object]:
    return [outline(block) for block in blocks_of(widget)]


async def stream(widget: ChatMarkdown, pieces: list[str]) -> None:
    await widget.update("")
    for piece in pieces:
        await widget.append(piece)


def cut(text: str, seed: int) -> list[str]:
    chooser, pieces = random.Random(seed), []
    while text:
        size = chooser.choice([1, 2, 3, 5, 9, 30])
        pieces.append(text[:size])
        text = text[size:]
    return pieces


async def test_a_streamed_answer_looks_like_the_whole_one(pilot: Pilot[None]) -> None:
    widget = markdown(pilot)
    await widget.update(ANSWER)
    whole = shape(widget)
    for seed in range(12):
        await stream(widget, cut(ANSWER, seed))
        before = [id(block) for block in blocks_of(widget)]
        await widget.finish()
        assert shape(widget) == whole, seed
        assert [id(block) for block in blocks_of(widget)][:-1] == before[:-1], "finished by building it anew"


PIECES = [
    "- ", "1. ", "2. ", "  ", "   ", "\n", "\n\n", "**", "*", "`", "```", "```py\n", "| a | b |\n",
    "|---|---|\n", "> ", "# ", "---", "$$", "\\(", "\\)", "你好", "，", "x", "12", ".", "[x](", ")",
    "[a]: b\n", "\t", "\\", "<b>", "~~",
]  # fmt: skip


async def test_any_mixture_ends_as_the_whole_text(pilot: Pilot[None]) -> None:
    widget = markdown(pilot)
    chooser = random.Random(5)
    for _each in range(60):
        text = "".join(chooser.choices(PIECES, k=chooser.randint(1, 30)))
        await stream(widget, cut(text, chooser.randint(0, 999)))
        await widget.finish()
        streamed = shape(widget)
        await widget.update(text)
        assert streamed == shape(widget), repr(text)


async def test_finished_rows_of_a_list_are_kept(pilot: Pilot[None]) -> None:
    widget = markdown(pilot)
    await stream(widget, ["1. 甲\n2. 乙\n   - 子\n3. 丙"])
    rows = list(widget.query(ListRow))
    await widget.append("丙丙\n4. 丁\n")
    after = list(widget.query(ListRow))
    assert after[: len(rows)] == rows
    assert len(after) == len(rows) + 1
    await pilot.pause()
    assert [line.strip() for line in screen_lines(pilot.app)[:5]] == [
        "1. 甲",
        "2. 乙",
        "• 子",
        "3. 丙丙丙",
        "4. 丁",
    ]


async def test_numbers_line_up_when_the_list_gets_longer(pilot: Pilot[None]) -> None:
    widget = markdown(pilot)
    for number in range(8, 12):
        await widget.append(f"{number}. x\n")
    await wait_until(pilot, lambda: screen_lines(pilot.app)[:4] == ["  8. x", "  9. x", " 10. x", " 11. x"])


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
async def test_half_written_marks_do_not_flash(pilot: Pilot[None], pieces: list[str], never: str) -> None:
    widget = markdown(pilot)
    for piece in pieces:
        await widget.append(piece)
        await pilot.pause()
        assert never not in screen_text(pilot.app), piece


@given(
    st.text(st.sampled_from("a-*`1. \n#|>你"), max_size=20), st.text(st.sampled_from("a-*`1. \n"), max_size=5)
)
@settings(deadline=None)
def test_what_has_been_shown_stays_decided(text: str, more: str) -> None:
    assert undecided(text + more) >= undecided(text)


async def test_continuing_after_a_fence_is_never_inside_it(pilot: Pilot[None]) -> None:
    """Textual's own `update` then `append` puts what follows into the code block."""
    widget = markdown(pilot)
    await stream(widget, ["```\nA\n", "B\n", "```\n", "后面"])
    await widget.finish()
    assert [code.code for code in widget.query(CodeBlock)] == ["A\nB"]
    await wait_until(pilot, lambda: screen_lines(pilot.app)[5] == "后面")


async def test_escape_sequences_never_reach_the_screen(pilot: Pilot[None]) -> None:
    widget = markdown(pilot)
    for piece in ["a\x1b[", "31mb\x1b]0;t", "itle\x07c\u2028d\u2029e\x85f", "\r", "\ng\x00"]:
        await widget.append(piece)
    await widget.finish()
    assert widget.source == "abc\nd\ne\nf\ng"
    await wait_until(pilot, lambda: screen_lines(pilot.app)[:5] == ["abc", "d", "e", "f", "g"])


async def test_markup_is_text(pilot: Pilot[None]) -> None:
    await markdown(pilot).update("[bold]x[/bold] [/]\n\n```a[b]\n[red]y[/red]\n```\n\n- [z]")
    await pilot.pause()
    text = screen_text(pilot.app)
    assert "[bold]x[/bold] [/]" in text
    assert "[red]y[/red]" in text


async def test_links_are_posted_and_not_opened(pilot: Pilot[None], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(pilot.app, "open_url", lambda url, **_options: opened.append(url))
    await markdown(pilot).update("https://a.b/c 后")
    await pilot.pause()
    await pilot.click(ChatMarkdown, offset=(3, 0))
    await wait_until(pilot, lambda: pilot.app.kept)
    assert [message.href for message in pilot.app.kept] == ["https://a.b/c"]
    assert opened == []


async def test_code_says_its_language_and_follows_the_theme(pilot: Pilot[None]) -> None:
    widget = markdown(pilot)
    await stream(widget, ["```Python title=[x]\n", "def f():\n", "    return 1\n" * 30, "```\n"])
    await widget.finish()
    await pilot.pause()
    code = widget.query_one(CodeBlock)
    assert " python " in screen_lines(pilot.app)[0]
    coloured = {str(span.style) for span in code._highlighted_code.spans}
    assert any("$text-accent" in style for style in coloured)
    pilot.app.theme = "ansi-dark"
    await wait_until(pilot, lambda: any("ansi_" in str(span.style) for span in code._highlighted_code.spans))


async def test_code_without_language_or_of_an_unknown_one_is_plain(pilot: Pilot[None]) -> None:
    await markdown(pilot).update("```\nx = 1\n```\n\n```nosuch\nx\n```")
    await pilot.pause()
    assert [code.lexer for code in markdown(pilot).query(CodeBlock)] == ["", "nosuch"]


def test_code_blocks_of_a_message() -> None:
    assert code_blocks("a\n```py\nx = 1\n\n```\n- b\n  ```\n  y\n  ```\n") == ["x = 1", "y"]


async def test_tables_are_laid_out_by_cells_and_fit(pilot: Pilot[None]) -> None:
    await markdown(pilot).update(
        "| 名称 | n |\n|---|--:|\n| 甲乙丙 | 1 |\n| " + "很长的文字" * 20 + " | 22 |"
    )
    await pilot.pause()
    lines = [line for line in screen_lines(pilot.app) if line]
    assert lines[0].startswith(" 名称")
    assert all("│" in line or "┼" in line for line in lines)
    assert "".join(line.split("│")[0].strip() for line in lines[3:]) == "很长的文字" * 20
    assert lines[2].endswith(" 1")


async def test_tall_and_wide_tables_at_every_width(pilot: Pilot[None]) -> None:
    await markdown(pilot).update(
        "|a|b|c|d|\n|-|-|-|-|\n|" + "x" * 50 + "|y|" + "中" * 40 + "||\n|1|2|3|4|5|\n|ok|"
    )
    for width in (20, 30, 41, 80):
        await pilot.resize_terminal(width, 70)
        await pilot.pause()
        assert "ok" in screen_text(pilot.app)

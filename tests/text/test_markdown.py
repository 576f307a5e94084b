"""The Markdown dialect, as HTML: Chinese emphasis, line breaks, URLs, mathematics, HTML as text."""

from __future__ import annotations

import time

import pytest

from glmtui.text.markdown import code_blocks, make_parser


def render(text: str) -> str:
    parser = make_parser()
    return str(parser.renderer.render(parser.parse(text), parser.options, {})).strip()


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**中文文本（带括号）。**这句子", "<strong>中文文本（带括号）。</strong>这句子"),
        ("**具体：**与其说", "<strong>具体：</strong>与其说"),
        ("含**「重点」**内容", "含<strong>「重点」</strong>内容"),
        ("含**“重点”**内容", "含<strong>“重点”</strong>内容"),
        ("~~删除（线）~~后面", "<s>删除（线）</s>后面"),
        ("***强调***字", "<em><strong>强调</strong></em>字"),
        ("**bold** and *em* and _em_", "<strong>bold</strong> and <em>em</em> and <em>em</em>"),
        ("snake_case_name 2 * 3 * 4", "snake_case_name 2 * 3 * 4"),
        ('*(*foo*)* "*x*"', "<em>(<em>foo</em>)</em> &quot;<em>x</em>&quot;"),
        ("foo*bar* **a**b**c**", "foo<em>bar</em> <strong>a</strong>b<strong>c</strong>"),
        ("* not*", "<ul>"),
    ],
)
def test_emphasis(text: str, html: str) -> None:
    assert html in render(text)


def test_line_ends_stay() -> None:
    assert render("第一行\n第二行") == "<p>第一行<br />\n第二行</p>"


@pytest.mark.parametrize(
    ("text", "link", "after"),
    [
        ("见https://example.com/路径，然后", "https://example.com/", "路径，然后"),
        ("http://x.y/a_b_c。后面", "http://x.y/a_b_c", "。后面"),
        ("(https://a.b/c_(d))", "https://a.b/c_(d)", ")"),
        ("https://a.b/?q=1&r=2, then", "https://a.b/?q=1&amp;r=2", ", then"),
        ("**https://a.b**", "https://a.b", "</strong>"),
    ],
)
def test_a_bare_url_ends_where_it_ends(text: str, link: str, after: str) -> None:
    assert f'<a href="{link}">{link}</a>{after}' in render(text)


@pytest.mark.parametrize("text", ["main.py", "foo.com", "a@b.co", "xhttps://a", "https://", "`https://a.b`"])
def test_what_is_no_url(text: str) -> None:
    assert "<a " not in render(text)


def test_link_texts_are_links_once() -> None:
    assert render("[https://a.b](https://c.d)") == '<p><a href="https://c.d">https://a.b</a></p>'


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (r"公式 \( x_1*y_2*z \) 完", "x_1*y_2*z"),
        (r"内 \[ a\_b \] 联", r"a\_b"),
        ("$a_b$ 和 _c_", "a_b"),
        (r"$$ \frac{a}{b} $$ 后面", r"\frac{a}{b}"),
    ],
)
def test_mathematics_in_a_line_is_kept(text: str, formula: str) -> None:
    assert f"<code>{formula}</code>" in render(text)


@pytest.mark.parametrize(
    "text", ["价格是$5和$10", "cost \\$5 and $x", "US$ 5 and $ 6", "$中文$", "a$b$c", "open \\( only"]
)
def test_money_is_no_mathematics(text: str) -> None:
    assert "<code>" not in render(text)


@pytest.mark.parametrize(("opening", "closing"), [("$$", "$$"), ("\\[", "\\]")])
def test_displayed_formulas(opening: str, closing: str) -> None:
    block = '<pre><code class="language-latex">\\frac{a}{b}\n= c\n</code></pre>'
    assert render(f"前\n{opening}\n\\frac{{a}}{{b}}\n= c\n{closing}\n后") == f"<p>前</p>\n{block}\n<p>后</p>"
    assert "<pre>" in render(f"{opening}\nx")  # still being written
    assert "<pre>" not in render(f"{opening}\nx\n\ny")
    assert "<pre>" in render(f"- a\n  {opening}\n  x\n  {closing}\n- b")


def test_html_is_text() -> None:
    assert render("List<String> <think>x</think>\n\n<div>y</div>") == (
        "<p>List&lt;String&gt; &lt;think&gt;x&lt;/think&gt;</p>\n<p>&lt;div&gt;y&lt;/div&gt;</p>"
    )


def test_dashes_below_a_line_are_a_rule() -> None:
    assert render("text\n---\nmore") == "<p>text</p>\n<hr />\n<p>more</p>"


def test_code_blocks_of_a_message() -> None:
    assert code_blocks("a\n```py\nx = 1\n\n```\n- b\n  ```\n  y\n  ```\n") == ["x = 1", "y"]


def test_code_that_is_markdown_has_fences_of_its_own() -> None:
    text = "```markdown\n# Title\n```bash\nmake\n```\n## Output\n```\nThat was it."
    assert code_blocks(text) == ["# Title\n```bash\nmake\n```\n## Output"]
    assert render(text).endswith("<p>That was it.</p>")


def test_a_sentence_right_behind_a_fence_ends_the_code() -> None:
    text = "```python\nprint(1)\n```这样就完成了。\n\n## 下一步"
    assert code_blocks(text) == ["print(1)"]
    assert "<p>这样就完成了。</p>\n<h2>" in render(text)
    assert code_blocks("```代码\nx\n```") == ["x"]
    assert render("```这样就完成了。") == "<p>这样就完成了。</p>"


@pytest.mark.parametrize("unit", ["\\(", "\\[", "http:", "![", "["])
def test_many_openers_without_an_end_take_no_longer_than_they_should(unit: str) -> None:
    def seconds(count: int) -> float:
        begun = time.process_time()
        render(unit * count)
        return time.process_time() - begun

    seconds(10)
    assert seconds(8000) < 12 * seconds(2000) + 0.1

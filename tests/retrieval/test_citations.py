"""Numbers that point to nothing go, and statements are compared with what they cite."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glmtui.protocol.messages import Source
from glmtui.retrieval.citations import CitationFilter, check, marked_statements, without_marks

SOURCES = [
    Source(1, "手册", "年假为每年十五天，须提前三天申请。加班费按小时计算，周末加倍。"),
    Source(2, "公告", "食堂中午十一点半开饭，晚上六点关门。联系电话 8010。"),
    Source(3, "Manual", "The gateway listens on port 8443 and restarts every night at two."),
]


def filtered(*pieces: str, count: int = 3) -> str:
    citations = CitationFilter(count)
    return "".join(map(citations.push, pieces)) + citations.finish()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("见[1]。", "见[1]。"),
        ("见[7]。", "见。"),
        ("见[0]。", "见。"),
        ("见[1][9][2]。", "见[1][2]。"),
        ("见【2】和［3］。", "见[2]和[3]。"),
        ("see [1, 3] and [2-9].", "see [1][3] and [2][3]."),
        ("见[来源2]", "见[2]"),
        ("[a] [link](x) [ ]", "[a] [link](x) [ ]"),
        ("`a[9]` b[9]", "`a[9]` b"),
        ("```\na[9]\n```\nb[9]", "```\na[9]\n```\nb"),
        ("an open ` and a line\nb[9]", "an open ` and a line\nb"),
        ("unfinished [12", "unfinished [12"),
    ],
)
def test_numbers_are_corrected_however_they_come(text: str, shown: str) -> None:
    assert filtered(text) == shown
    assert filtered(*text) == shown


@given(st.text(alphabet="ab 1[]`\n9,", max_size=40), st.integers(0, 40))
@example("1111[1\n]", 7)
@example(f"[{', '.join(map(str, range(1, 13)))}]", 40)
@example(f"[1{' ' * 70}]", 68)
@example("[来源 1]", 2)
def test_where_a_stream_is_cut_changes_nothing(text: str, at: int) -> None:
    assert filtered(text[:at], text[at:]) == filtered(text)


@pytest.mark.parametrize(
    ("answer", "checked"),
    [
        ("年假是每年十五天[1]。", "年假是每年十五天[1]。"),
        ("年假是每年十五天，须提前三天申请。", "年假是每年十五天，须提前三天申请[1]。"),
        ("年假是每年十五天，须提前三天申请[2]。", "年假是每年十五天，须提前三天申请[1]。"),
        ("加班费按小时计算[3]。", "加班费按小时计算[1]。"),
        ("年假为每年二十五天，须提前三天申请[1]。", "年假为每年二十五天，须提前三天申请[?]。"),
        ("公司成立于一九九八年，总部位于上海[1]。", "公司成立于一九九八年，总部位于上海[?]。"),
        ("The gateway listens on port 8443 [3].", "The gateway listens on port 8443 [3]."),
        ("The gateway listens on port 9443 [3].", "The gateway listens on port 9443[?]."),
        ("网关的端口号是 8443 [3]。", "网关的端口号是 8443 [3]。"),
        ("年假是每年十五天[1]，食堂晚上六点关门[2]。", "年假是每年十五天[1]，食堂晚上六点关门[2]。"),
        ("年假是每年二十天[1]，食堂晚上六点关门[2]。", "年假是每年二十天[?]，食堂晚上六点关门[2]。"),
        ("好的。", "好的。"),
        ("月亮是奶酪做的[1]。", "月亮是奶酪做的[?]。"),  # short, but it cites
        ("The moon is made of cheese [3].", "The moon is made of cheese[?]."),
        ("It is 9443 [3].", "It is 9443[?]."),
        ("It is 8443 [3].", "It is 8443 [3]."),
        ("根据资料，年假为每年二十五天[1]。", "根据资料，年假为每年二十五天[?]。"),
        ("根据提供的文档，年假是每年十五天[1]。", "根据提供的文档，年假是每年十五天[1]。"),
        (
            "According to the documents, port 9443 is open [3].",
            "According to the documents, port 9443 is open[?].",
        ),
        ("According to the sources, the gateway listens on port 8443 [3].",) * 2,
        ("The documents do not mention the founding year of the company.",) * 2,
        ("7. 年假为十五天[1]。\n8) 须提前三天申请[1]。",) * 2,  # the numbers of a list are no figures
        ("资料中没有提到公司的成立时间。", "资料中没有提到公司的成立时间。"),
        ("# 关于公司成立时间与总部的说明", "# 关于公司成立时间与总部的说明"),
        ("```\n年假是每年十五天，须提前三天申请。\n```", "```\n年假是每年十五天，须提前三天申请。\n```"),
        ("- 食堂中午十一点半开饭[1]\n- 晚上六点关门[2]", "- 食堂中午十一点半开饭[2]\n- 晚上六点关门[2]"),
        ("食堂中午十一点半开饭。[2]年假每年十五天。[1]", "食堂中午十一点半开饭。[2]年假每年十五天。[1]"),
    ],
)
def test_statements_are_compared_with_what_they_cite(answer: str, checked: str) -> None:
    assert check(answer, SOURCES) == checked


def test_statements_that_nothing_supports_are_listed() -> None:
    text = check("年假是每年十五天[1]。公司成立于一九九八年，总部位于上海[1]。", SOURCES)
    assert marked_statements(text) == ["公司成立于一九九八年，总部位于上海。"]


@given(st.text(alphabet="年假每十五天。.[]1239? \n`#-", max_size=80))
@example("11`1五五2\n`")  # a code span ends with its line
@example("```\n年假[1]\n```\n年假每年十五天，须提前三天申请[2]。")
@example("[1]```年假每年十五天，须提前申请\n年假每年十五天，须提前三天申请。")
@example("`年假每年十五。天须提前三天申请[2]`年假每年十五天，须提前三天申请[2]。")
def test_only_marks_change(answer: str) -> None:
    def bare(text: str) -> str:
        return without_marks(text).replace(" ", "")

    assert bare(check(filtered(answer), SOURCES)) == bare(filtered(answer))


def test_brackets_in_code_in_a_line_stay_where_a_statement_is_corrected() -> None:
    sources = [Source(1, "a", "员工入职满一年享有十天带薪年假。", "a")]
    wrong = "变量 `a[7]` 保存公司食堂的菜单和价格[1]。"
    assert check(wrong, sources) == "变量 `a[7]` 保存公司食堂的菜单和价格[?]。"

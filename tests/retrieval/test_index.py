"""What is found, and in which order."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glmtui.retrieval import terms
from glmtui.retrieval.index import COMMON, FileRecord, Index
from glmtui.retrieval.marking import spans
from glmtui.retrieval.passages import Passage
from glmtui.retrieval.provider import sources


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(None) as index:
        yield index


def put(index: Index, *texts: str, origin: str = "/a", heading: str = "") -> None:
    index.put(
        origin,
        [Passage(text, heading) for text in texts],
        lambda count: FileRecord(origin, "Title", 0, 0, "", 0, count, 0.0),
    )


def texts(index: Index, question: str, top: int = 3) -> list[str]:
    return [hit.passage.text for hit in index.search(question, top)]


@pytest.mark.parametrize(
    "question",
    [
        "索引",
        "索引优化",
        "优化索引的方法",
        "电话",
        "海淀区",
        "Token消耗",
        "token",
        "13800138000",
        "HT-2024-0917",
        "甲",
        "ＨＴ-２０２４-０９１７",
    ],
)
def test_exact_words_are_found(index: Index, question: str) -> None:
    wanted = "索引优化与Token消耗，海淀区，电话 13800138000，合同 HT-2024-0917，甲。"
    put(
        index,
        "没有关系的一段话。",
        wanted,
        "Another passage without any of it.",
        "2024 年的 0917 次会议，编号 HT。",
    )
    assert texts(index, question)[0] == wanted


def test_words_are_found_in_their_other_forms(index: Index) -> None:
    put(index, "The installation takes ten minutes.", "Batteries are included.")
    assert texts(index, "installing a battery")[0] == "Batteries are included."
    assert terms.stem("installing") == terms.stem("installed") == terms.stem("installs")


def test_a_question_in_other_words(index: Index) -> None:
    put(index, "修改密码：进入设置页面，点击安全。", "查看账单：进入账单页面。")
    assert texts(index, "密码怎么修改？") == ["修改密码：进入设置页面，点击安全。"]


def test_headings_and_titles_count(index: Index) -> None:
    put(index, "需提前三天。", origin="/a", heading="假期 › 年假")
    put(index, "需提前一天。", origin="/b", heading="假期 › 病假")
    assert texts(index, "病假提前几天")[0] == "需提前一天。"


def test_scores_tell_what_has_nothing_to_do_with_the_question(index: Index) -> None:
    put(index, "年假每年十五天。", "食堂中午十一点半开饭。")
    assert index.search("年假有几天")[0].score > 0.4
    assert all(hit.score < 0.3 for hit in index.search("How do I bake an apple pie with cinnamon?"))


SUBJECTS = {
    "Frogs eat ants, and people like frogs, number {}.": (
        ["mix frogs ants", "do frogs hibernate?"],
        ["How do I bake an apple pie with cinnamon?", "how do people bake a pie?"],
    ),
    "大熊猫吃竹子，人们都喜欢大熊猫，第 {} 条。": (
        ["大熊猫会冬眠吗", "怎样喂养大熊猫"],
        ["怎样烤苹果派", "出差报销需要多长时间，人们"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("about", SUBJECTS)
@pytest.mark.parametrize("count", [60, 200])
def test_documents_about_one_subject_answer_what_is_asked_about_it(
    index: Index, about: str, count: int
) -> None:
    """Its own words stand in every passage, and others of the question in none."""
    put(index, *map(about.format, range(count)))
    related, unrelated = SUBJECTS[about]
    assert all(sources(index.search(question)) for question in related)
    assert not any(sources(index.search(question)) for question in unrelated)


@pytest.mark.parametrize(
    "question", ["", "？！", "的", '"', 'a" OR b', "NEAR(a b)", "*", "a AND", "x:y", "😀", "\x00", "''; DROP"]
)
def test_any_question_is_only_text(index: Index, question: str) -> None:
    put(index, "a b c")
    index.search(question)


@pytest.mark.parametrize("at", [0, 20_000])
def test_of_a_text_that_was_pasted_beginning_and_end_are_looked_for(index: Index, at: int) -> None:
    put(index, "otters hold hands", "llamas hum")
    words = [f"word{number}" for number in range(20_000)]
    began = time.process_time()
    assert texts(index, " ".join([*words[:at], "otters", *words[at:]])) == ["otters hold hands"]
    assert list(terms.phrases("a" * 20_000)) == []
    assert time.process_time() - began < 1


def test_what_is_common_is_found_too(index: Index) -> None:
    put(
        index, *(f"common words {number}" for number in range(COMMON + 50)), "words that are common come last"
    )
    assert len(texts(index, "common words")) == 3
    assert texts(index, f"common {COMMON + 20}")[0] == f"common words {COMMON + 20}"


def test_replacing_and_removing_leaves_nothing_behind(index: Index) -> None:
    put(index, "old words", "more old words")
    put(index, "new words")
    assert texts(index, "old new words") == ["new words"]
    index.remove(["/a"])
    assert texts(index, "words") == []
    assert index.count() == (0, 0)


def test_what_fails_while_it_is_read_changes_nothing(index: Index) -> None:
    put(index, "old words")

    def failing() -> Iterator[Passage]:
        yield Passage("half")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        index.put("/a", failing(), lambda count: FileRecord("/a", "", 0, 0, "", 0, count, 0.0))
    assert texts(index, "old half words") == ["old words"]


def test_words_are_marked_where_they_stand() -> None:
    text = "修改密码：installed 后，在 Settings 页面。"
    marked = [text[start:end] for start, end in spans(text, "怎么修改密码 after installing the setting?")]
    assert marked == ["修改密码", "installed", "Settings"]


def test_recall_over_documents_of_all_formats(folder: Path) -> None:
    pytest.importorskip("pypdfium2")
    path = Path(__file__).parents[1] / "benchmarks" / "retrieval.py"
    spec = importlib.util.spec_from_file_location("retrieval_benchmark", path)
    assert spec
    assert spec.loader
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    assert benchmark.recall(folder, verbose=False) >= 0.9

"""Vectors: what words do not find is found by its meaning, where a person has a model for that."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from embedding_model import tiny_bert

from glmtui.engine.embedding import EmbeddingModel
from glmtui.errors import BadFileError, UserError
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.retrieval.collections import Collection
from glmtui.retrieval.index import Hit
from glmtui.retrieval.provider import DocumentProvider, search
from glmtui.retrieval.update import update
from glmtui.retrieval.vectors import Embedder, merged

SUBJECTS = (("纸", "复印", "打印"), ("饭", "食堂", "午餐"), ("车", "停车", "班车"))


class Subjects:
    """A model that knows three subjects."""

    before_question, before_passage = "query: ", "passage: "

    def __init__(self, id_: str = "subjects") -> None:
        self.id = id_
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        self.texts += texts
        found = []
        for text in texts:
            vector = [float(any(word in text for word in words)) for words in SUBJECTS] + [0.1]
            length = sum(value**2 for value in vector) ** 0.5
            found.append([value / length for value in vector])
        return found, len(texts)


@pytest.fixture
def collection(folder: Path, collection: Collection) -> Collection:
    for name, text in (
        ("a.txt", "复印机在二楼。"), ("b.txt", "食堂十一点半开门。"), ("c.txt", "班车每天两班。"),
        ("d.txt", "本公司成立于一九九八年。"),
    ):  # fmt: skip
        (folder / name).write_text(text, "utf-8")
    return collection


def ask(collection: Collection, question: str, model: Embedder | None) -> list[Hit]:
    with collection.index() as index:
        if model is not None:
            index.embed(model)
        return index.search(question, 5, model)


def test_what_is_said_in_other_words_is_found(collection: Collection) -> None:
    update(collection)
    assert ask(collection, "午餐几时", None) == []
    hits = ask(collection, "午餐几时", Subjects())
    assert [hit.passage.text for hit in hits] == ["食堂十一点半开门。"]
    assert 0 < hits[0].score <= 1


def test_what_both_find_comes_first_and_scores_only_fall(collection: Collection, folder: Path) -> None:
    (folder / "e.txt").write_text("班车的午餐在食堂。", "utf-8")
    update(collection)
    hits = ask(collection, "午餐几时开门", Subjects())
    assert hits[0].passage.text == "食堂十一点半开门。"
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert merged([1, 2], [3, 2]) == [2, 1, 3]


def test_each_passage_is_embedded_once_and_by_each_model_anew(collection: Collection, folder: Path) -> None:
    model = Subjects()
    update(collection, embedding=lambda: model)
    assert sorted(model.texts)[0] == "passage: \n复印机在二楼。"
    assert len(model.texts) == 4
    (folder / "a.txt").write_text("打印机在三楼。", "utf-8")
    (folder / "c.txt").unlink()
    update(collection, embedding=lambda: model)
    assert model.texts[4:] == ["passage: \n打印机在三楼。"]
    db = sqlite3.connect(collection.index_path)
    assert db.execute("SELECT count(*) FROM vectors").fetchone() == (3,)
    db.close()
    assert ask(collection, "纸", model)[0].passage.text == "打印机在三楼。"
    assert model.texts[-1] == "query: 纸"
    other = Subjects("other")
    with collection.index() as index:
        assert index.search("纸", 5, other) == []  # nobody made them yet
    update(collection, embedding=lambda: other)
    assert len(other.texts) == 3


def test_what_was_made_stays_when_the_rest_is_given_up(collection: Collection, folder: Path) -> None:
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"第 {number} 份", "utf-8")
    update(collection)
    model, token = Subjects(), CancelToken()
    with collection.index() as index:
        with pytest.raises(OperationCancelled):
            index.embed(model, token, lambda done, _total, _name: token.cancel() if done else None)
        made = len(model.texts)
        assert 0 < made < 44
        index.embed(model)
    assert len(model.texts) == 44


class Broken(Subjects):
    """A model whose files do not fit each other."""

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        raise BadFileError("no vectors today")


def absent() -> Embedder:
    raise BadFileError("no vectors today")


@pytest.mark.parametrize("value", ["x'007c007c007c007c'", "x'007e007e007e007e'", "'abcdefgh'", "7", "x'00'"])
def test_a_damaged_vector_costs_itself_alone(collection: Collection, value: str) -> None:
    update(collection)
    model = Subjects()
    assert ask(collection, "午餐几时", model)
    with sqlite3.connect(collection.index_path) as db:
        db.execute(f"UPDATE vectors SET vector = {value} WHERE id = (SELECT max(id) FROM vectors)")
    db.close()
    assert [hit.passage.text for hit in ask(collection, "午餐几时", model)] == ["食堂十一点半开门。"]


async def test_words_are_found_without_the_model(collection: Collection, folder: Path) -> None:
    for load in (absent, Broken):
        outcome = update(collection, embedding=load)
        assert "no vectors today" in str(outcome.notes[-1][1])
        said: list[object] = []
        (source,) = await DocumentProvider(collection, load, said.append).search("复印机在哪里")
        assert source.text == "复印机在二楼。"
        assert list(map(str, said)) == ["no vectors today"]


@pytest.mark.slow
def test_a_tiny_model_of_the_real_kind(collection: Collection, tmp_path: Path) -> None:
    model = EmbeddingModel(tiny_bert(tmp_path / "bert"))
    update(collection, embedding=lambda: model)
    db = sqlite3.connect(collection.index_path)
    sizes = db.execute("SELECT DISTINCT length(vector) FROM vectors").fetchall()
    db.close()
    assert sizes == [(2 * 8,)]
    with collection.index() as index:
        hits, problem = search(index, "复印机", 5, lambda: model)
    assert (hits[0].passage.text, str(problem)) == ("复印机在二楼。", "")
    before = model.id
    vocabulary = tmp_path / "bert" / "config.json"
    vocabulary.write_text(vocabulary.read_text() + "\n")
    assert EmbeddingModel(tmp_path / "bert").id != before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "question", "passage"),
    [
        ("multilingual-e5-small", "query: ", "passage: "),
        ("models--intfloat--multilingual-e5-small/snapshots/0a1b", "query: ", "passage: "),
        ("bge-small-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", ""),
        ("bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("bge-m3", "", ""),
        ("text2vec", "", ""),
    ],
)
def test_prefixes_are_those_of_the_model(name: str, question: str, passage: str, tmp_path: Path) -> None:
    model = EmbeddingModel(tiny_bert(tmp_path / name))
    assert (model.before_question, model.before_passage) == (question, passage)


def test_a_folder_that_is_no_model_is_refused_in_words(tmp_path: Path) -> None:
    for content in ("{}", '{"model_type": "bert"}', "[]", "no json"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=str(tmp_path)):
            EmbeddingModel(tmp_path)

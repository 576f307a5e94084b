"""``glmtui docs`` and ``glmtui ask --docs``: what they print, for people and for programs."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import document_files as make
import pytest

from glmtui import i18n
from glmtui.cli import main as cli
from glmtui.errors import UserError
from glmtui.retrieval import collections
from glmtui.retrieval.update import update
from glmtui.session.documents import collection_lines, listed
from glmtui.settings.settings import Settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    yield tmp_path / "home"
    i18n.use("en")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "handbook"
    path.mkdir()
    (path / "年假.md").write_text("# 假期\n\n## 年假\n\n员工每年有十五天年假，须提前三天申请。\n", "utf-8")
    (path / "slides.pptx").write_bytes(make.pptx(("食堂", ["中午十一点半开饭"]), ("班车", ["末班车七点半"])))
    (path / "broken.docx").write_bytes(b"PK\x03\x04")
    return path


def passages(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    capsys.readouterr()
    assert cli.main(["docs", "search", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["passages"]
    assert isinstance(found["passages"], list)
    return found["passages"]


def test_a_path_is_searched_and_its_index_kept_in_the_cache(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = passages(capsys, str(folder), "年假有几天", "--top", "1")
    assert found == {
        "file": str(folder / "年假.md"),
        "page": None,
        "lines": [5, 5],
        "heading": "假期 › 年假",
        "text": "员工每年有十五天年假，须提前三天申请。",
        "score": found["score"],
    }
    assert isinstance(found["score"], float)
    assert 0 < found["score"] <= 1
    assert list((home / "cache" / "documents").glob("*.sqlite"))
    assert not (home / "data" / "documents").exists()
    (folder / "年假.md").write_text("员工每年有二十天年假。", "utf-8")
    assert "二十天" in str(passages(capsys, str(folder), "年假", "有几天")[0]["text"])
    slide = passages(capsys, str(folder), "末班车")[0]
    assert (slide["page"], slide["heading"], slide["lines"]) == (2, "班车", None)


def test_without_the_model_for_vectors_words_are_found_and_it_is_told(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert passages(capsys, str(folder), "年假")
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('[docs]\nembedding = "/nowhere/bge"\n')
    assert cli.main(["docs", "search", str(folder), "年假", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["passages"]
    assert len([line for line in said.err.splitlines() if "/nowhere/bge" in line]) == 1


def test_those_that_are_named_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("rules", "others"):
        cli.main(["docs", "add", str(folder), "--name", name])
    capsys.readouterr()
    assert cli.main(["docs", "list", "others"]) == 0
    said = capsys.readouterr().out
    assert "others: " in said
    assert "rules: " not in said
    assert cli.main(["docs", "list", "--json", "rules"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["collections"]] == ["rules"]
    assert cli.main(["docs", "list", "rules", "nowhere"]) == 1
    said = capsys.readouterr()
    assert not said.out
    assert "nowhere" in said.err


def test_the_best_come_first_and_no_more_than_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        (folder / f"{number}.txt").write_text("年假 " * (number + 1) + f"第 {number} 份。", "utf-8")
    found = passages(capsys, str(folder), "年假 第 7 份")
    scores = [float(str(passage["score"])) for passage in found]
    assert len(found) == 5
    assert scores == sorted(scores, reverse=True)
    assert "第 7 份" in str(found[0]["text"])


def test_collections_are_added_listed_used_and_removed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["docs", "add", str(folder), "--name", "rules", "--follow"]) == 0
    said = capsys.readouterr()
    assert "rules: 2 documents were read" in said.out
    assert "broken.docx" in said.err
    assert passages(capsys, "rules", "年假")
    assert cli.main(["docs", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["collections"]
    assert (listed["name"], listed["roots"], listed["follows"]) == ("rules", [str(folder)], True)
    assert [Path(file["file"]).name for file in listed["files"] if file["error"]] == ["broken.docx"]
    assert cli.main(["docs", "use", "rules"]) == 0
    assert Settings.load()["docs.collection"] == "rules"
    assert cli.main(["docs", "list"]) == 0
    assert "in use" in capsys.readouterr().out
    assert cli.main(["docs", "use", "none"]) == 0
    assert Settings.load()["docs.collection"] is None
    (folder / "slides.pptx").unlink()
    assert cli.main(["docs", "update", "rules"]) == 0
    assert "1 removed" in capsys.readouterr().out
    assert cli.main(["docs", "remove", "rules"]) == 0
    assert cli.main(["docs", "list"]) == 0
    assert folder.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["add", "nowhere-at-all"], 1),
        (["search", "nowhere-at-all", "x"], 1),
        (["use", "nowhere-at-all"], 1),
        (["update", "nowhere"], 1),
        (["remove", "nowhere"], 1),
    ],
)
def test_what_is_not_there_is_one_clear_line(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["docs", *arguments]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "nowhere" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
def test_what_is_no_file_is_not_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert cli.main(["docs", "add", str(pipe)]) == 1
    assert str(pipe) in capsys.readouterr().err
    assert collections.names() == []


def test_nothing_of_which_anything_could_be_read_is_a_failure(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["docs", "add", str(folder / "broken.docx")]) == 1
    assert "broken.docx" in capsys.readouterr().err


def test_an_answer_in_json_has_its_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["ask", "--json", "--no-save", "--max-tokens", "4", "--seed", "1"]
    assert cli.main([*question, "--docs", str(folder), "年假有几天？"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (source,) = answer["sources"]
    assert (source["number"], source["title"]) == (1, "年假.md")
    assert source["origin"] == str(folder / "年假.md")
    assert "十五天" in source["text"]
    assert cli.main([*question, "--docs", str(folder), "What is a black hole?"]) == 1
    assert "handbook" in capsys.readouterr().err
    assert cli.main([*question, "--web", "What is a black hole?"]) == 1
    assert "/set web.provider" in capsys.readouterr().err


def test_an_answer_for_people_ends_with_the_list_of_its_sources(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ask", "--no-save", "--max-tokens", "4", "--docs", str(folder), "年假有几天？"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == ""
    assert lines[-1].startswith("[1] 年假.md")
    assert lines[-1].endswith(str(folder / "年假.md"))


STORED = {
    "no JSON": b"garbage",
    "wrong types": b'{"roots": [NaN, 1, null], "follows": "x"}',
    "a list": b"[1]",
    "nested too deep": b'{"roots":' + b"[" * 100_000,
}


@pytest.mark.parametrize("damage", [*STORED, "folder for an index"])
def test_a_damaged_collection_costs_itself_alone(
    folder: Path, home: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    for name in ("one", "two"):
        assert cli.main(["docs", "add", str(folder / "年假.md"), "--name", name]) == 0
    kept = home / "data" / "documents"
    if damage in STORED:
        (kept / "one.json").write_bytes(STORED[damage])
    else:
        (kept / "one.sqlite").unlink()
        (kept / "one.sqlite").mkdir()
    capsys.readouterr()
    assert cli.main(["docs", "list", "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)["collections"]
    assert str(kept / "one") in one["error"]
    assert (two["error"], len(two["files"])) == (None, 1)
    assert cli.main(["docs", "list"]) == 0
    assert str(kept / "one") in capsys.readouterr().out
    if damage in STORED:
        assert cli.main(["docs", "remove", "one"]) == 0
        assert [each.stem for each in kept.glob("*.json")] == ["two"]


COLUMNS = {
    "files": ["origin", "title", "size", "mtime", "sha256", "pages", "passages", "read_at", "error", "notes"],
    "passages": ["file", "page", "first", "last", "heading", "text"],
}


@pytest.mark.slow
def test_whatever_is_in_an_index_is_read_or_named(folder: Path, home: Path) -> None:
    """SQLite keeps any value in any column."""
    kept = update(collections.add("one", folder / "年假.md")) and home / "data" / "documents" / "one.sqlite"
    whole = kept.read_bytes()
    for table, column in ((name, column) for name in COLUMNS for column in COLUMNS[name]):
        for value in ("x'ff00'", "'x'", "1e400"):
            for left in kept.parent.glob("one.sqlite*"):
                left.unlink()
            kept.write_bytes(whole)
            with closing(sqlite3.connect(kept)) as index, index:
                index.execute(f"UPDATE {table} SET {column} = {value}")
            assert len(collection_lines(listed())) >= 1
            with suppress(UserError), collections.get("one").index() as opened:
                opened.search("年假")
            with suppress(UserError):
                update(collections.get("one"))

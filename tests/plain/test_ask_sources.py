"""``glmtui ask`` with a model that looks for sources itself, and with settings that are wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_engine import ScriptedEngine

from glmtui import i18n
from glmtui.cli import main
from glmtui.plain import ask
from glmtui.retrieval import collections


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    yield tmp_path / "home"
    i18n.use("en")


def playing(monkeypatch: pytest.MonkeyPatch, *answers: str, unasked: tuple[str, ...] = ()) -> None:
    engine = ScriptedEngine(*answers)
    engine.calls_tools = True
    engine.calls_unasked = unasked
    monkeypatch.setattr(ask, "LocalEngine", lambda: engine)


def configure(home: Path, text: str) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text(text)


def test_calls_that_gave_nothing_are_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(home, '[web]\nprovider = "searxng"\nurl = "http://127.0.0.1:1"\n')
    (tmp_path / "leave.md").write_text("Everybody has 15 days of leave.")
    collections.add("handbook", tmp_path / "leave.md")
    calls = (
        ("search_documents", {"query": "leave"}),
        ("search_documents", {"query": "zebra"}),
        ("open_page", {"url": "http://x.example/?" + "y" * 900}),
        ("open_page", {"url": 7}),
    )
    playing(monkeypatch, *(f"{name}\n{json.dumps(arguments)}" for name, arguments in calls), "15 days [1].")
    assert main.main(["ask", "--no-stdin", "--docs", "handbook", "leave?"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("15 days [1].\n")
    nothing, refused, wrong = said.err.splitlines()
    assert "zebra" in nothing
    assert "x.example" in refused
    assert refused.endswith("not allowed.")
    assert len(refused) < 500
    assert '{"url": 7}' in wrong


def test_settings_that_are_wrong_are_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(home, '[docs]\ntools = "off"\n')
    playing(monkeypatch, "Hello.")
    assert main.main(["ask", "--no-stdin", "hi"]) == 0
    said = capsys.readouterr()
    assert said.out == "Hello.\n"
    assert "docs.tools" in said.err


def test_a_model_that_only_calls_what_it_was_not_offered_has_not_answered(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    playing(monkeypatch, 'lookup\n{"q": "x"}', unasked=("lookup",))
    assert main.main(["ask", "--no-stdin", "--no-save", "hi"]) == 1
    said = capsys.readouterr()
    assert not said.out.strip()
    assert len(said.err.splitlines()) == 1

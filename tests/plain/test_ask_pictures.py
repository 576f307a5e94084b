"""``glmtui ask --image``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from picture_files import BAD, png, write
from scripted_engine import NANO, ScriptedEngine

from glmtui import i18n
from glmtui.chat.library import Library
from glmtui.cli import main
from glmtui.plain import ask
from glmtui.protocol.messages import Image, Text
from glmtui.protocol.phrases import verbatim


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.chdir(tmp_path)
    i18n.use("en")
    write(tmp_path / "cat.png")
    yield tmp_path
    i18n.use("en")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> ScriptedEngine:
    engine = ScriptedEngine("A gradient.")
    engine.info = replace(NANO, sees_images=True)
    monkeypatch.setattr(ask, "LocalEngine", lambda: engine)
    return engine


def test_a_question_about_a_picture(engine: ScriptedEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["ask", "--no-stdin", "--image", "cat.png", "What", "is", "it?"]) == 0
    assert capsys.readouterr().out == "A gradient.\n"
    (request,) = engine.generated
    (image, text) = request.messages[0].parts
    assert isinstance(image, Image)
    assert (image.name, text) == ("cat.png", Text("What is it?"))
    assert request.images == {image.sha256: png()}
    (summary,) = Library().list()
    assert Library().open(summary.path).branch()[0].parts == (text, image)


def test_several_without_a_question(
    engine: ScriptedEngine, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home / "other.png", png(3, 3))
    arguments = ["ask", "--no-stdin", "--no-save", "--json", "--image", "cat.png", "--image", "other.png"]
    assert main.main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "A gradient."
    (request,) = engine.generated
    assert request.messages[0].text == "Describe the image."
    assert sorted(request.images.values()) == sorted([png(), png(3, 3)])
    assert Library().list() == []


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("nowhere.png", "nowhere.png"),
        ("bad.png", "bad.png"),
        ("http://127.0.0.1:9/cat.png", "inside your network"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    engine: ScriptedEngine, home: Path, capsys: pytest.CaptureFixture[str], image: str, said: str
) -> None:
    write(home / "bad.png", BAD["svg"])
    assert main.main(["ask", "--no-stdin", "--image", image, "What?"]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert engine.generated == []
    assert Library().list() == [], "nothing was sent"


def test_a_model_that_does_not_see(engine: ScriptedEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.info = NANO
    assert main.main(["ask", "--no-stdin", "--image", "cat.png", "What?"]) == 1
    assert "nano does not see pictures" in capsys.readouterr().err
    assert engine.generated == []
    assert Library().list() == []


def test_what_is_to_know_of_the_model_is_said_on_standard_error(
    engine: ScriptedEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.info = replace(NANO, note=verbatim("It is slow without a compiler."))
    assert main.main(["ask", "--no-stdin", "hi"]) == 0
    said = capsys.readouterr()
    assert said.out == "A gradient.\n"
    assert said.err.count("It is slow without a compiler.") == 1

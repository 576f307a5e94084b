"""The contract of engines, kept by the local one with nano and by the scripted one of the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from contracts.engine import ASK, EngineContract, until_end
from scripted_engine import ScriptedEngine

import glmtui
from glmtui.engine import local
from glmtui.engine.chat_model import Answer, ChatModel
from glmtui.engine.local import LocalEngine
from glmtui.errors import BadFileError
from glmtui.protocol.engine import Engine
from glmtui.protocol.events import Tokens
from glmtui.protocol.models import LocalModel, ModelSpec
from glmtui.protocol.requests import Load

HELD_AFTER = 8
"""Checks before tokens, of which there are two each."""


LATE = LocalModel("damaged")
"""Whose load fails when the former model is gone."""


def fail_late(_progress: local.Progress) -> ChatModel:
    raise BadFileError("It is damaged.")


class Gated(ChatModel):
    """A model whose answers stand still after their first tokens while the gate is closed."""

    gate: threading.Event

    def stream(self, *arguments: Any, check: Any, **options: Any) -> Answer:
        checks = 0

        def wait(fraction: float) -> None:
            nonlocal checks
            checks += fraction == 1.0
            while checks > HELD_AFTER and not self.gate.wait(0.005):
                check(fraction)
            check(fraction)

        return super().stream(*arguments, check=wait, **options)


@pytest.fixture(scope="module")
def nanos_answer() -> str:
    return glmtui.load(device="cpu", threads=1).chat("你好", temperature=0)[0]


class TestLocalEngine(EngineContract):
    spec = LocalModel(device="cpu", threads=1)
    slots = 1

    @cached_property
    def gate(self) -> threading.Event:
        gate = threading.Event()
        gate.set()
        return gate

    @pytest.fixture
    def engine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nanos_answer: str
    ) -> Iterator[LocalEngine]:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
        self._answer = nanos_answer

        def prepare(spec: ModelSpec) -> local.Loader:
            if spec == LATE:
                return fail_late
            load = local._prepare(spec)

            def gated(progress: local.Progress) -> ChatModel:
                model = load(progress)
                assert isinstance(model, ChatModel)
                model.__class__ = Gated
                model.gate = self.gate
                return model

            return gated

        engine = LocalEngine(prepare, self.slots)
        yield engine
        engine.close()
        assert engine.join(60)

    def hold(self, engine: Engine) -> None:
        self.gate.clear()

    def release(self, engine: Engine) -> None:
        self.gate.set()

    def failing(self, engine: Engine, *, keeps: bool) -> LocalModel:
        return LocalModel("/no/such/folder") if keeps else LATE

    def answer(self, engine: Engine) -> str:
        return self._answer


class TestSeveralAnswersAtOnce(TestLocalEngine):
    slots = 3

    def test_says_how_many(self, ready: Engine) -> None:
        assert ready.capabilities.slots == 3


class TestScriptedEngine(EngineContract):
    @pytest.fixture
    def engine(self) -> ScriptedEngine:
        return ScriptedEngine()

    def hold(self, engine: Engine) -> None:
        assert isinstance(engine, ScriptedEngine)
        engine.hold = True

    def release(self, engine: Engine) -> None:
        assert isinstance(engine, ScriptedEngine)
        engine.hold = False
        if engine.answering:
            engine.finish()

    def failing(self, engine: Engine, *, keeps: bool) -> LocalModel:
        assert isinstance(engine, ScriptedEngine)
        engine.fail, engine.keeps = "It is damaged.", keeps
        return LocalModel("/some/folder")

    def answer(self, engine: Engine) -> str:
        return "Hello!"


def test_a_scripted_thought() -> None:
    engine = ScriptedEngine("<think>\nwell\n</think>\n\nHello!")
    until_end(engine.submit(Load()))
    said = [event for event in until_end(engine.submit(ASK)) if isinstance(event, Tokens)]
    assert [(event.text, event.thought) for event in said] == [("well", True), ("Hello!", False)]

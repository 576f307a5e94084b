"""The thread that runs the model: whatever it meets, every request ends, and the next one is served."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from glmtui.engine import local
from glmtui.engine.local import LocalEngine
from glmtui.errors import NotFoundError
from glmtui.protocol.engine import Stream
from glmtui.protocol.events import Event, Failed, ModelList
from glmtui.protocol.models import LocalModel
from glmtui.protocol.phrases import verbatim
from glmtui.protocol.requests import CountTokens, ListModels, Load


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))

    def prepare(_spec: object) -> local.Loader:
        raise NotFoundError(verbatim("There is no such folder"))

    made = LocalEngine(prepare)
    yield made
    made.close()
    assert made.join(10)


def end_of(stream: Stream) -> Event:
    return list(stream)[-1]


def test_a_load_that_fails_while_another_thread_imports_torch_ends(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by ``/quant 4`` and ``/model /nope`` at once: what is half imported has no attributes."""
    half = ModuleType("torch")
    half.__spec__ = SimpleNamespace(_initializing=True)  # type: ignore[assignment]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", half)
        assert isinstance(end_of(engine.submit(Load(LocalModel()))), Failed)
    assert isinstance(end_of(engine.submit(Load(LocalModel()))), Failed)


@pytest.mark.faults
def test_what_fails_while_memory_is_given_back_is_written_down_and_nothing_else(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken() -> None:
        raise AttributeError("the device is gone")

    monkeypatch.setattr(local, "free_memory", broken)
    for _again in range(2):
        assert isinstance(end_of(engine.submit(Load(LocalModel()))), Failed)
    assert "the device is gone" in (tmp_path / "state" / "glmtui.log").read_text()


@pytest.mark.faults
def test_a_thread_that_breaks_ends_what_was_asked_and_another_serves_what_follows(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise ArithmeticError("nobody foresaw it")

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "_begin", broken)
        ends = [end_of(each) for each in (engine.submit(Load(LocalModel())), engine.submit(CountTokens(())))]
        assert all(isinstance(end, Failed) and end.code == "unexpected" for end in ends)
    other = engine.submit(ListModels())
    failed = end_of(engine.submit(Load(LocalModel())))
    assert isinstance(failed, Failed)
    assert failed.code == NotFoundError.code
    assert isinstance(end_of(other), ModelList)

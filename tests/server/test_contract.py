"""The contract of engines, kept by a remote model behind a server of our own that has nano."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.engine import EngineContract
from engine.test_local_contract import LATE, fail_late, nanos_answer, prepare_gated
from served import Served, end, make

from glmtui.engine import local
from glmtui.engine.local import LocalEngine
from glmtui.protocol.engine import Engine
from glmtui.protocol.events import Loaded
from glmtui.protocol.models import LocalModel, ModelSpec, RemoteModel
from glmtui.protocol.requests import Load

__all__ = ["nanos_answer"]


@pytest.fixture(scope="module")
def gate() -> threading.Event:
    """While it is not set, the server's answers stand still after their first tokens."""
    return threading.Event()


@pytest.fixture(scope="module")
def nano_server(gate: threading.Event) -> Iterator[Served]:
    """A server with nano, as `glmtui serve` has it."""
    engine = LocalEngine(lambda spec: prepare_gated(spec, gate), slots=4)
    *_progress, loaded = engine.submit(Load(LocalModel(device="cpu", threads=1)))
    assert isinstance(loaded, Loaded)
    served = make()
    served.engine.current, served.info = engine, loaded.info
    yield served
    end(served)
    engine.close()
    assert engine.join(60)


class TestOurOwnServer(EngineContract):
    @pytest.fixture
    def engine(
        self,
        nano_server: Served,
        gate: threading.Event,
        nanos_answer: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[LocalEngine]:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
        self._answer, self._gate, self._url = nanos_answer, gate, f"{nano_server.url}/v1"
        self.spec = RemoteModel(f"{self._url}#nano", self._url, "nano")
        gate.set()
        engine = LocalEngine(lambda spec: fail_late if spec == LATE else local._prepare(spec))
        yield engine
        gate.set()
        engine.close()
        assert engine.join(60)

    def hold(self, engine: Engine) -> None:
        self._gate.clear()

    def release(self, engine: Engine) -> None:
        self._gate.set()

    def failing(self, engine: Engine, *, keeps: bool) -> ModelSpec:
        return RemoteModel(f"{self._url}#none", self._url, "none") if keeps else LATE

    def answer(self, engine: Engine) -> str:
        return self._answer

"""Memory runs out while a model is loaded or answers: a message that helps, and all goes on."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import glmtui
from glmtui.engine import loader
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.local import LocalEngine
from glmtui.errors import OutOfMemoryError
from glmtui.protocol.events import Done, Event, Failed, Loaded, Tokens
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import LocalModel
from glmtui.protocol.requests import Generate, Load
from glmtui.protocol.sampling import Sampling

QUESTION = (ChatMessage.of("user", "你好"),)


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine()
    yield engine
    engine.close()
    assert engine.join(30)


def load(engine: LocalEngine, folder: Path) -> Event:
    return list(engine.submit(Load(LocalModel(str(folder), device="cpu", threads=1))))[-1]


class Failing:
    """A forward pass that runs out of memory at its `at`th call, holding a tensor that must go."""

    def __init__(self, network: torch.nn.Module, at: int, error: Callable[[], Exception]) -> None:
        self.calls = 0
        self.held: list[weakref.ref[torch.Tensor]] = []
        hidden = network.hidden

        def forward(*arguments: object, **options: object) -> torch.Tensor:
            self.calls += 1
            if self.calls == at:
                activations = torch.zeros(1 << 20)
                self.held.append(weakref.ref(activations))
                raise error()
            return hidden(*arguments, **options)

        network.hidden = forward


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        lambda: RuntimeError("MPS backend out of memory (MPS allocated: 20.00 GB)"),
        lambda: RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"
        ),
        MemoryError,
    ],
    ids=["cuda", "mps", "cpu", "python"],
)
def test_an_answer_that_runs_out_says_what_would_fit_and_the_next_one_comes(
    engine: LocalEngine, text_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    models: list[ChatModel] = []
    original = loader.load
    monkeypatch.setattr(
        loader, "load", lambda *given, **options: models.append(original(*given, **options)) or models[-1]
    )
    assert isinstance(load(engine, text_folder), Loaded)
    failing = Failing(models[0].network, 4, error)
    sampling = Sampling(max_new_tokens=8, temperature=0)
    events = list(engine.submit(Generate(QUESTION, sampling)))
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert "ran out of memory with a conversation of" in str(failed.phrase)
    assert "--quant 8 frees" in str(failed.phrase)
    assert "--quant 4 frees" in str(failed.phrase)
    assert "/new" in str(failed.phrase)
    assert sum(event.count for event in events if isinstance(event, Tokens)) == 3
    gc.collect()
    assert [tensor() for tensor in failing.held] == [None]
    assert len(models[0]._prefixes) == 0
    assert isinstance(list(engine.submit(Generate(QUESTION, sampling)))[-1], Done)


def test_long_conversations_are_told_how_long_would_do(text_folder: Path) -> None:
    model = glmtui.load(str(text_folder), device="cpu", threads=1, quant=4)
    message = str(model.too_long(2100))
    assert "--max-length 1024" in message
    assert "/quant" not in message
    assert "max_length" not in str(model.too_long(300))


def test_a_load_that_runs_out_says_what_would_fit_and_lets_go(
    engine: LocalEngine, text_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[weakref.ref[torch.Tensor]] = []
    assign = loader.assign

    def full(network: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
        if len(placed) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        placed.append(weakref.ref(tensor))
        assign(network, name, tensor)

    with monkeypatch.context() as patch:
        patch.setattr(loader, "assign", full)
        failed = load(engine, text_folder)
    assert isinstance(failed, Failed)
    assert failed.code == "out_of_memory"
    assert not failed.model_kept
    assert "ran out of memory while" in str(failed.phrase)
    assert str(text_folder) in str(failed.phrase)
    assert "This would fit: --quant 8" in str(failed.phrase)
    gc.collect()
    assert [tensor() for tensor in placed] == [None] * 3
    assert isinstance(load(engine, text_folder), Loaded)


def test_python_gets_the_same_error(text_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = glmtui.load(str(text_folder), device="cpu", threads=1)
    Failing(model.network, 1, MemoryError)
    with pytest.raises(OutOfMemoryError, match="ran out of memory"):
        model.chat("你好")

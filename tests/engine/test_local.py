"""The local engine: order of events, cancelling at any moment, failures as events, memory let go."""

from __future__ import annotations

import gc
import json
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import glmtui
from glmtui.engine import preflight
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.local import THREAD_NAME, LocalEngine
from glmtui.errors import BadFileError, UserError
from glmtui.hub import catalog
from glmtui.hub.model_dir import ModelFolder
from glmtui.models import chat_tokenizer
from glmtui.models.base import State
from glmtui.models.checkpoint import expected_shapes, new_network
from glmtui.protocol.engine import Stream
from glmtui.protocol.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Loaded,
    LoadProgress,
    PromptProgress,
    Started,
    TokenCount,
    Tokens,
    Unloaded,
)
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import LocalModel
from glmtui.protocol.requests import CountTokens, Generate, Load, Unload
from glmtui.protocol.sampling import Sampling

Script = Callable[..., ChatModel]
Progress = Callable[[str, int, int], None]
Loader = Callable[[LocalModel, Progress], ChatModel]
Make = Callable[..., LocalEngine]
Ready = Callable[[ChatModel], LocalEngine]
GOLDEN = Path(__file__).parents[1] / "golden"
TEXT = "你好，我是一个小模型。" * 4
QUESTION = (ChatMessage.of("user", "你好"),)


def ask(engine: LocalEngine, **options: Any) -> Stream:
    return engine.submit(Generate(QUESTION, **options))


def end_of(stream: Stream) -> Event:
    return list(stream)[-1]


def text_of(events: Iterable[Event], *, thought: bool = False) -> str:
    return "".join(event.text for event in events if isinstance(event, Tokens) and event.thought is thought)


@pytest.fixture
def make_engine() -> Iterator[Make]:
    """Make engines; every thread has ended after the test."""
    engines: list[LocalEngine] = []

    def make(load: Loader | None = None) -> LocalEngine:
        engine = LocalEngine(load and (lambda spec: partial(load, spec)))
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.close()
        assert engine.join(10)


@pytest.fixture
def ready(make_engine: Make) -> Ready:
    """Make an engine that has loaded a model."""

    def make(model: ChatModel) -> LocalEngine:
        engine = make_engine(lambda _spec, _progress: model)
        assert isinstance(end_of(engine.submit(Load())), Loaded)
        return engine

    return make


def test_load_reports_bytes_and_generates(make_engine: Make, text_folder: Path) -> None:
    engine = make_engine()
    *progress, loaded = engine.submit(Load(LocalModel(str(text_folder), device="cpu", threads=1)))
    assert isinstance(loaded, Loaded)
    assert loaded.info.name == "tiny"
    assert progress
    assert all(isinstance(event, LoadProgress) and 0 < event.done <= event.total for event in progress)
    events = list(ask(engine, sampling=Sampling(temperature=0, max_new_tokens=10)))
    started, done = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(done, Done)
    assert started.prompt_tokens == done.stats.prompt_tokens
    assert started.limit == 256


def test_a_load_finds_the_folder_and_reads_the_tokenizer_once(
    make_engine: Make, text_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*arguments: Any) -> Any:
            calls.append(name)
            return function(*arguments)

        return count

    monkeypatch.setattr(catalog, "resolve", counted("folder", catalog.resolve))
    read = counted("tokenizer", chat_tokenizer.tokenizers.load_tokenizer)
    monkeypatch.setattr(chat_tokenizer.tokenizers, "load_tokenizer", read)
    opened = counted("config", ModelFolder.open)
    monkeypatch.setattr(ModelFolder, "open", opened)
    engine = make_engine()
    assert isinstance(end_of(engine.submit(Load(LocalModel(str(text_folder), device="cpu")))), Loaded)
    assert isinstance(end_of(ask(engine, sampling=Sampling(max_new_tokens=2))), Done)
    assert sorted(calls) == ["config", "folder", "tokenizer"]


def test_no_thread_before_the_first_request(make_engine: Make) -> None:
    def running() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == THREAD_NAME]

    before = running()
    engine = make_engine()
    assert running() == before
    list(engine.submit(Unload()))
    assert len(running()) == len(before) + 1


def test_events_of_an_answer_join_to_its_text(ready: Ready, script: Script) -> None:
    model = script(TEXT)
    events = list(ask(ready(model)))
    assert isinstance(events[0], Started)
    tokens = [event for event in events if isinstance(event, Tokens)]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.reason == "stop"
    assert text_of(tokens) == TEXT
    assert sum(event.count for event in tokens) == done.stats.answer_tokens == len(model.network.says)


def test_thought_and_answer_come_apart(ready: Ready, script: Script) -> None:
    engine = ready(script("<think>\n想 一想 \n</think>\n\n你好"))
    events = list(ask(engine))
    assert text_of(events, thought=True) == "想 一想"
    assert text_of(events) == "你好"
    kinds = [event.thought for event in events if isinstance(event, Tokens) and event.text]
    assert kinds == sorted(kinds, reverse=True)


def test_first_text_at_once_and_then_at_most_twenty_events_a_second(ready: Ready, script: Script) -> None:
    engine = ready(script(TEXT * 3, on_token=lambda: time.sleep(0.002), max_length=4096))
    began = time.perf_counter()
    tokens = [event for event in ask(engine) if isinstance(event, Tokens)]
    seconds = time.perf_counter() - began
    assert len(tokens) >= 2
    assert len(tokens) <= 20 * seconds + 2
    assert tokens[0].count <= 3


def test_cancel_ends_at_the_next_token_and_keeps_the_text(ready: Ready, script: Script) -> None:
    said = threading.Semaphore(0)
    proceed = threading.Semaphore(6)

    def on_token() -> None:
        said.release()
        assert proceed.acquire(timeout=30)

    engine = ready(script(TEXT, on_token=on_token))
    stream = ask(engine)
    for _ in range(7):
        assert said.acquire(timeout=30)
    stream.cancel()
    proceed.release(100)
    events = list(stream)
    cancelled = events[-1]
    assert isinstance(cancelled, Cancelled)
    assert cancelled.stats is not None
    assert cancelled.stats.answer_tokens == 6
    assert text_of(events)
    assert TEXT.startswith(text_of(events))
    proceed.release(100)
    assert isinstance(end_of(ask(engine)), Done)


def test_cancel_between_pieces_of_the_prompt(ready: Ready, script: Script) -> None:
    model = script(TEXT)
    forward = model.network
    reading = threading.Event()

    class Slow:
        """Reads the prompt for as long as it may."""

        config, parameters, new_cache = forward.config, forward.parameters, forward.new_cache
        takes_any_state = False
        embed = staticmethod(forward.embed)

        def hidden(self, x: Tensor, _positions: object, _mask: object, state: State) -> None:
            while True:
                reading.set()
                state.append(0, x[:, None], x[:, None])
                time.sleep(0.001)

    model.network = Slow()
    stream = ask(ready(model))
    assert reading.wait(30)
    stream.cancel()
    events = list(stream)
    assert any(isinstance(event, PromptProgress) and event.fraction < 1 for event in events)
    assert isinstance(events[-1], Cancelled)
    assert text_of(events) == ""


def test_cancel_between_tensors_and_of_what_is_queued(make_engine: Make) -> None:
    reading = threading.Event()

    def load(_spec: LocalModel, progress: Progress) -> ChatModel:
        while True:
            reading.set()
            progress("read", 1, 2)
            time.sleep(0.001)

    engine = make_engine(load)
    first, second, third = (engine.submit(request) for request in (Load(), Load(), Generate(QUESTION)))
    assert reading.wait(30)
    second.cancel()
    first.cancel()
    assert isinstance(end_of(first), Cancelled)
    assert list(second) == [Cancelled()]
    assert isinstance(end_of(third), Failed)


def test_without_a_model_it_says_so(make_engine: Make) -> None:
    engine = make_engine()
    for request in (Generate(QUESTION), CountTokens(QUESTION)):
        (failed,) = engine.submit(request)
        assert isinstance(failed, Failed)
        assert failed.code == "no_model"
        assert "--model" in str(failed.phrase)


class Panic(BaseException):
    """As what Python code must not catch: Rust's panics are of this kind."""


@pytest.mark.faults
@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (UserError("no such thing"), "failed", "no such thing"),
        (BadFileError("no such file"), "bad_file", "no such file"),
        (MemoryError(), "out_of_memory", "Not enough memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"),
            "out_of_memory",
            "Not enough memory",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", "Not enough memory"),
        (ImportError("libx.so: failed to map segment from shared object"), "out_of_memory", "Not enough"),
        (PermissionError(13, "Permission denied", "/some/file"), "failed", "/some/file: Permission denied"),
        (ZeroDivisionError("by zero"), "unexpected", "ZeroDivisionError"),
        (Panic("index out of bounds"), "unexpected", "Panic"),
    ],
)
def test_every_exception_becomes_an_event_and_the_thread_lives_on(
    make_engine: Make,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: BaseException,
    code: str,
    expected: str,
) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    model, errors = script(TEXT), [error]

    def load(_spec: LocalModel, _progress: Progress) -> ChatModel:
        if errors:
            raise errors.pop()
        return model

    engine = make_engine(load)
    first, second = engine.submit(Load()), engine.submit(Load())
    (failed,) = first
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert expected in str(failed.phrase)
    log = tmp_path / "state" / "glmtui.log"
    if code == "unexpected":
        assert str(log) in str(failed.phrase)
        assert "in load" in log.read_text()
    else:
        assert not log.exists()
    assert isinstance(end_of(second), Loaded)


@pytest.mark.parametrize(
    "field",
    [
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": -1},
        {"top_p": math.nan},
        {"top_p": 2},
        {"top_k": -1},
        {"repetition_penalty": 0},
        {"seed": 2**70},
        {"max_new_tokens": -1},
    ],
)
def test_what_no_sampling_can_be_is_a_bad_value(ready: Ready, script: Script, field: dict[str, Any]) -> None:
    engine = ready(script(TEXT))
    end = end_of(ask(engine, sampling=Sampling(**field)))
    assert isinstance(end, Failed)
    assert end.code == "bad_value"
    assert isinstance(end_of(ask(engine)), Done)


def test_a_folder_without_tokenizer_fails_before_it_is_read(make_engine: Make) -> None:
    (failed,) = make_engine().submit(Load(LocalModel(str(GOLDEN / "chatglm-fp16-sharded"), device="cpu")))
    assert isinstance(failed, Failed)
    assert "ice_text.model" in str(failed.phrase)


def test_a_pointer_instead_of_weights_says_what_to_run(
    make_engine: Make, text_folder: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "ice_text.model"):
        (tmp_path / name).write_bytes((text_folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    (failed,) = make_engine().submit(Load(LocalModel(str(tmp_path), device="cpu")))
    assert isinstance(failed, Failed)
    assert "git lfs pull" in str(failed.phrase)
    assert str(tmp_path / "model.safetensors") in str(failed.phrase)


def test_unload_and_change_let_the_old_model_go(make_engine: Make, text_folder: Path) -> None:
    seen: list[weakref.ref[ChatModel]] = []
    alive_at_load: list[int] = []

    def load(spec: LocalModel, _progress: Progress) -> ChatModel:
        alive_at_load.append(sum(model() is not None for model in seen))
        model = glmtui.load(spec.source, device="cpu", threads=1)
        seen.append(weakref.ref(model))
        return model

    engine = make_engine(load)
    for _ in range(2):
        end_of(engine.submit(Load(LocalModel(str(text_folder)))))
        end_of(ask(engine, sampling=Sampling(max_new_tokens=2)))
    assert alive_at_load == [0, 0]
    assert list(engine.submit(Unload())) == [Unloaded()]
    gc.collect()
    assert [model() for model in seen] == [None, None]


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is comparable on Linux only")
def test_unload_gives_memory_back_to_the_system(make_engine: Make, text_folder: Path, tmp_path: Path) -> None:
    """Tensors of a few megabytes, as the C library likes to keep them."""
    config = json.loads((text_folder / "config.json").read_text())
    config |= {"hidden_size": 512, "inner_hidden_size": 2048, "num_layers": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "ice_text.model").write_bytes((text_folder / "ice_text.model").read_bytes())
    shapes = expected_shapes(new_network(replace(ModelFolder.open(text_folder), config=config)))
    save_file(
        {name: torch.zeros(shape).half() for name, shape in shapes.items()}, tmp_path / "model.safetensors"
    )
    engine = make_engine()
    loaded = end_of(engine.submit(Load(LocalModel(str(tmp_path), device="cpu"))))
    assert isinstance(loaded, Loaded)
    resident = psutil.Process().memory_info().rss
    end_of(engine.submit(Unload()))
    assert resident - psutil.Process().memory_info().rss > 0.8 * loaded.info.memory_bytes


def test_count_tokens(ready: Ready, script: Script) -> None:
    model = script(TEXT)
    stream = ready(model).submit(CountTokens(QUESTION))
    ids = model.tokenizer.encode("你好")
    assert list(stream) == [TokenCount(len(ids), tuple(ids))]


def test_submit_cancel_and_close_never_wait(ready: Ready, script: Script) -> None:
    proceed = threading.Event()
    started = threading.Event()

    def on_token() -> None:
        started.set()
        assert proceed.wait(30)

    engine = ready(script(TEXT, on_token=on_token))
    running = ask(engine)
    assert started.wait(30)
    began = time.perf_counter()
    queued = ask(engine)
    running.cancel()
    engine.close()
    late = ask(engine)
    assert list(late) == [Cancelled()]
    assert time.perf_counter() - began < 0.1
    assert not engine.join(0)
    proceed.set()
    assert engine.join(10)
    assert [type(end_of(stream)) for stream in (running, queued)] == [Cancelled, Cancelled]


def test_preflight_reads_the_tokenizer_of_the_built_in_model_too() -> None:
    prepared = preflight.prepare(LocalModel())
    assert prepared.tokenizer is not None
    assert prepared.folder.path == catalog.BUILTIN


def test_what_cannot_be_cancelled_is_left(make_engine: Make, text_folder: Path) -> None:
    """An import or a tokenizer takes seconds: the person goes on at once, with the next load."""
    begun, go_on = threading.Event(), threading.Event()

    def prepare(spec: LocalModel) -> Any:
        if spec.quant == "8":
            begun.set()
            go_on.wait()
        return real(spec)

    engine = make_engine()
    real, engine._prepare = engine._prepare, prepare
    spec = LocalModel(str(text_folder), device="cpu", threads=1)
    assert isinstance(end_of(engine.submit(Load(spec))), Loaded)
    slow = engine.submit(Load(replace(spec, quant="8")))
    assert begun.wait(10)
    slow.cancel()
    try:
        assert end_of(slow) == Cancelled(model_kept=True)
        assert isinstance(end_of(engine.submit(Load(replace(spec, quant="4")))), Loaded)
    finally:
        go_on.set()


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"dtype": "int3"}, {"quant": "2"}, {"gpus": "99"}])
def test_a_setting_that_no_model_can_have_leaves_the_model_in_memory(
    make_engine: Make, text_folder: Path, wrong: dict[str, Any]
) -> None:
    engine = make_engine()
    spec = LocalModel(str(text_folder), device="cpu", threads=1)
    assert isinstance(end_of(engine.submit(Load(spec))), Loaded)
    failed = end_of(engine.submit(Load(replace(spec, **wrong))))
    assert isinstance(failed, Failed)
    assert failed.model_kept

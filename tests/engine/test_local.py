"""The background thread: order of events, stopping at any moment, failures as events, memory let go."""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from glmtui.engine.chat_model import ChatModel
from glmtui.engine.local import Worker
from glmtui.errors import UserError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.base import State
from glmtui.models.checkpoint import expected_shapes, new_network
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
from glmtui.protocol.requests import CountTokens, Generate, Load, Unload
from glmtui.protocol.sampling import Sampling

Script = Callable[..., ChatModel]
Progress = Callable[[str, int, int], None]
GOLDEN = Path(__file__).parents[1] / "golden"
FINAL = (Loaded, Unloaded, Done, Cancelled, TokenCount, Failed)
TEXT = "你好，我是一个小模型。" * 4
QUESTION = (ChatMessage.of("user", "你好"),)


def until_end(worker: Worker, request_id: int) -> list[Event]:
    """Collect the events of one request up to its last."""
    events: list[Event] = []
    while True:
        event = worker.events.get(timeout=30)
        assert event.request_id == request_id
        events.append(event)
        if isinstance(event, FINAL):
            return events


def ask(worker: Worker, **options: object) -> Generate:
    request = Generate(QUESTION, **options)
    worker.submit(request)
    return request


@pytest.fixture
def make_worker() -> Iterator[Callable[..., Worker]]:
    """Make workers, started; every thread has ended after the test."""
    workers: list[Worker] = []

    def make(load: Callable[[Load, Progress], ChatModel] | None = None) -> Worker:
        worker = Worker(load)
        worker.start()
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.close()
        assert worker.join(10)


@pytest.fixture
def ready(make_worker: Callable[..., Worker]) -> Callable[[ChatModel], Worker]:
    """Make a worker that has loaded a model."""

    def make(model: ChatModel) -> Worker:
        worker = make_worker(lambda _request, _progress: model)
        load = Load()
        worker.submit(load)
        assert isinstance(until_end(worker, load.request_id)[-1], Loaded)
        return worker

    return make


def test_load_reports_bytes_and_generates(make_worker: Callable[..., Worker], text_folder: Path) -> None:
    worker = make_worker()
    load = Load(str(text_folder), device="cpu", threads=1)
    worker.submit(load)
    *progress, loaded = until_end(worker, load.request_id)
    assert isinstance(loaded, Loaded)
    assert loaded.info.name == "tiny"
    assert progress
    assert all(isinstance(event, LoadProgress) and 0 < event.done <= event.total for event in progress)
    request = ask(worker, sampling=Sampling(temperature=0, max_new_tokens=10))
    events = until_end(worker, request.request_id)
    started, done = events[0], events[-1]
    assert isinstance(started, Started)
    assert isinstance(done, Done)
    assert started.prompt_tokens == done.stats.prompt_tokens
    assert started.limit == 256


def test_events_of_an_answer_join_to_its_text(ready: Callable[[ChatModel], Worker], script: Script) -> None:
    model = script(TEXT)
    worker = ready(model)
    request = ask(worker)
    events = until_end(worker, request.request_id)
    assert isinstance(events[0], Started)
    tokens = [event for event in events if isinstance(event, Tokens)]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.reason == "stop"
    assert "".join(event.text for event in tokens) == done.text == TEXT
    assert sum(event.count for event in tokens) == done.stats.answer_tokens == len(model.network.says)


def test_first_text_at_once_and_then_at_most_twenty_events_a_second(
    ready: Callable[[ChatModel], Worker], script: Script
) -> None:
    worker = ready(script(TEXT * 3, on_token=lambda: time.sleep(0.002), max_length=4096))
    began = time.perf_counter()
    request = ask(worker)
    tokens = [event for event in until_end(worker, request.request_id) if isinstance(event, Tokens)]
    seconds = time.perf_counter() - began
    assert len(tokens) >= 2
    assert len(tokens) <= 20 * seconds + 2
    assert tokens[0].count <= 3


def test_cancel_stops_at_the_next_token_and_keeps_the_text(
    ready: Callable[[ChatModel], Worker], script: Script
) -> None:
    said = threading.Semaphore(0)
    proceed = threading.Semaphore(6)

    def on_token() -> None:
        said.release()
        assert proceed.acquire(timeout=30)

    worker = ready(script(TEXT, on_token=on_token))
    request = ask(worker)
    for _ in range(7):
        assert said.acquire(timeout=30)
    worker.cancel(request.request_id)
    proceed.release(100)
    events = until_end(worker, request.request_id)
    cancelled = events[-1]
    assert isinstance(cancelled, Cancelled)
    assert cancelled.stats is not None
    assert cancelled.stats.answer_tokens == 6
    assert cancelled.text
    assert TEXT.startswith(cancelled.text)
    assert "".join(event.text for event in events if isinstance(event, Tokens)) == cancelled.text
    proceed.release(100)
    assert isinstance(until_end(worker, ask(worker).request_id)[-1], Done)


def test_cancel_between_pieces_of_the_prompt(ready: Callable[[ChatModel], Worker], script: Script) -> None:
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
    worker = ready(model)
    request = ask(worker)
    assert reading.wait(30)
    worker.cancel()
    events = until_end(worker, request.request_id)
    assert any(isinstance(event, PromptProgress) and event.fraction < 1 for event in events)
    assert isinstance(events[-1], Cancelled)
    assert events[-1].text == ""


def test_cancel_between_tensors_and_of_what_waits(make_worker: Callable[..., Worker]) -> None:
    reading = threading.Event()

    def load(_request: Load, progress: Progress) -> ChatModel:
        while True:
            reading.set()
            progress("read", 1, 2)
            time.sleep(0.001)

    worker = make_worker(load)
    first, second, third = Load(), Load(), Generate(QUESTION)
    for request in (first, second, third):
        worker.submit(request)
    assert reading.wait(30)
    worker.cancel(second.request_id)
    worker.cancel(first.request_id)
    assert isinstance(until_end(worker, first.request_id)[-1], Cancelled)
    assert until_end(worker, second.request_id) == [Cancelled(second.request_id, None, "")]
    assert isinstance(until_end(worker, third.request_id)[-1], Failed)


def test_cancelling_what_has_ended_does_nothing(ready: Callable[[ChatModel], Worker], script: Script) -> None:
    worker = ready(script(TEXT))
    request = ask(worker)
    until_end(worker, request.request_id)
    worker.cancel(request.request_id)
    worker.cancel(999_999)
    assert isinstance(until_end(worker, ask(worker).request_id)[-1], Done)


def test_without_a_model_it_says_what_to_do(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker()
    for request in (Generate(QUESTION), CountTokens(QUESTION)):
        worker.submit(request)
        (failed,) = until_end(worker, request.request_id)
        assert isinstance(failed, Failed)
        assert "/model" in failed.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError("no such thing"), "no such thing"),
        (MemoryError(), "Not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9"), "Not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "Not enough memory"),
        (PermissionError(13, "Permission denied", "/some/file"), "/some/file: Permission denied"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError"),
    ],
)
def test_every_exception_becomes_a_message_and_the_thread_lives_on(
    make_worker: Callable[..., Worker],
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: Exception,
    expected: str,
) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    model, errors = script(TEXT), [error]

    def load(_request: Load, _progress: Progress) -> ChatModel:
        if errors:
            raise errors.pop()
        return model

    worker = make_worker(load)
    first, second = Load(), Load()
    worker.submit(first)
    worker.submit(second)
    (failed,) = until_end(worker, first.request_id)
    assert isinstance(failed, Failed)
    assert expected in failed.message
    log = tmp_path / "state" / "glmtui.log"
    if isinstance(error, ZeroDivisionError):
        assert str(log) in failed.message
        assert "in load" in log.read_text()
    else:
        assert not log.exists()
    assert isinstance(until_end(worker, second.request_id)[-1], Loaded)


def test_a_folder_without_tokenizer_fails_before_it_is_read(make_worker: Callable[..., Worker]) -> None:
    worker = make_worker()
    load = Load(str(GOLDEN / "chatglm-fp16-sharded"), device="cpu")
    worker.submit(load)
    (failed,) = until_end(worker, load.request_id)
    assert isinstance(failed, Failed)
    assert "ice_text.model" in failed.message


def test_a_pointer_instead_of_weights_says_what_to_run(
    make_worker: Callable[..., Worker], text_folder: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "ice_text.model"):
        (tmp_path / name).write_bytes((text_folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    worker = make_worker()
    load = Load(str(tmp_path), device="cpu")
    worker.submit(load)
    (failed,) = until_end(worker, load.request_id)
    assert isinstance(failed, Failed)
    assert "git lfs pull" in failed.message
    assert str(tmp_path / "model.safetensors") in failed.message


def test_unload_and_change_let_the_old_model_go(
    make_worker: Callable[..., Worker], text_folder: Path
) -> None:
    seen: list[weakref.ref[ChatModel]] = []
    alive_at_load: list[int] = []

    def load(request: Load, _progress: Progress) -> ChatModel:
        import glmtui

        alive_at_load.append(sum(model() is not None for model in seen))
        model = glmtui.load(request.source, device="cpu", threads=1)
        seen.append(weakref.ref(model))
        return model

    worker = make_worker(load)
    for _ in range(2):
        request = Load(str(text_folder))
        worker.submit(request)
        until_end(worker, request.request_id)
        until_end(worker, ask(worker, sampling=Sampling(max_new_tokens=2)).request_id)
    assert alive_at_load == [0, 0]
    unload = Unload()
    worker.submit(unload)
    assert until_end(worker, unload.request_id) == [Unloaded(unload.request_id)]
    gc.collect()
    assert [model() for model in seen] == [None, None]


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is comparable on Linux only")
def test_unload_gives_memory_back_to_the_system(
    make_worker: Callable[..., Worker], text_folder: Path, tmp_path: Path
) -> None:
    """Tensors of a few megabytes, as the C library likes to keep them."""
    config = json.loads((text_folder / "config.json").read_text())
    config |= {"hidden_size": 512, "inner_hidden_size": 2048, "num_layers": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "ice_text.model").write_bytes((text_folder / "ice_text.model").read_bytes())
    shapes = expected_shapes(new_network(replace(ModelFolder.open(text_folder), config=config)))
    save_file(
        {name: torch.zeros(shape).half() for name, shape in shapes.items()}, tmp_path / "model.safetensors"
    )
    worker = make_worker()
    load, unload = Load(str(tmp_path), device="cpu"), Unload()
    worker.submit(load)
    loaded = until_end(worker, load.request_id)[-1]
    assert isinstance(loaded, Loaded)
    resident = psutil.Process().memory_info().rss
    worker.submit(unload)
    until_end(worker, unload.request_id)
    assert resident - psutil.Process().memory_info().rss > 0.8 * loaded.info.memory_bytes


def test_count_tokens(ready: Callable[[ChatModel], Worker], script: Script) -> None:
    model = script(TEXT)
    worker = ready(model)
    request = CountTokens(QUESTION)
    worker.submit(request)
    assert until_end(worker, request.request_id) == [
        TokenCount(request.request_id, len(model.tokenizer.encode("你好")))
    ]


def test_submit_cancel_and_close_never_wait(ready: Callable[[ChatModel], Worker], script: Script) -> None:
    proceed = threading.Event()
    started = threading.Event()

    def on_token() -> None:
        started.set()
        assert proceed.wait(30)

    worker = ready(script(TEXT, on_token=on_token))
    request = ask(worker)
    assert started.wait(30)
    began = time.perf_counter()
    ask(worker)
    worker.cancel(request.request_id)
    worker.close()
    assert time.perf_counter() - began < 0.1
    assert not worker.join(0)
    proceed.set()
    assert worker.join(10)
    ends = [worker.events.get_nowait() for _ in range(worker.events.qsize())]
    assert [type(event) for event in ends if isinstance(event, FINAL)] == [Cancelled, Cancelled]

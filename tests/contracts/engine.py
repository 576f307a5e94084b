"""What every engine keeps to: derive a test class from `EngineContract` and give it the engine."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import pytest

from glmtui.protocol.engine import Engine, Stream
from glmtui.protocol.events import (
    Cancelled,
    Done,
    End,
    Event,
    Failed,
    Loaded,
    LoadProgress,
    ModelList,
    Prefilled,
    PromptProgress,
    Started,
    TokenCount,
    Tokens,
    Unloaded,
)
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import Capabilities, LocalModel, ModelSpec
from glmtui.protocol.requests import (
    Complete,
    CountTokens,
    Generate,
    ListModels,
    Load,
    Prefill,
    Request,
    Unload,
)
from glmtui.protocol.sampling import Sampling

QUESTION = (ChatMessage.of("user", "你好"),)
GREEDY = Sampling(temperature=0)
ASK = Generate(QUESTION, GREEDY)
COUNT = CountTokens(QUESTION)
SECONDS = 60.0


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def until_end(stream: Stream) -> list[Event]:
    """Return what is still to come, without joining more than `drain` does."""
    events: list[Event] = []
    wait_for(lambda: bool(events.extend(stream.drain())) or stream.ended)
    return events


def until_text(stream: Stream) -> list[Event]:
    """Return what comes up to the first text of the answer."""
    events: list[Event] = []
    wait_for(
        lambda: (
            bool(events.extend(stream.drain()))
            or any(isinstance(event, Tokens) and event.text for event in events)
        )
    )
    return events


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Tokens) and not event.thought)


class EngineContract(ABC):
    """The tests; an engine's own class says how the engine is made, and how it can be held."""

    spec: ModelSpec = LocalModel()
    """The model that is loaded."""

    @pytest.fixture
    @abstractmethod
    def engine(self) -> Engine:
        """Make an engine without a model; it is closed after the test."""

    @abstractmethod
    def hold(self, engine: Engine) -> None:
        """Let answers stand still after their first text, until `release`."""

    @abstractmethod
    def release(self, engine: Engine) -> None:
        """Let held answers, and those to come, go on."""

    @abstractmethod
    def failing(self, engine: Engine, *, keeps: bool) -> ModelSpec:
        """Return what fails to load, before or after the former model was let go."""

    @abstractmethod
    def answer(self, engine: Engine) -> str:
        """Return what `ASK` is answered with."""

    @pytest.fixture
    def ready(self, engine: Engine) -> Engine:
        """An engine with a model."""
        assert isinstance(until_end(engine.submit(Load(self.spec)))[-1], Loaded)
        return engine

    def test_says_what_it_can_do(self, engine: Engine) -> None:
        assert isinstance(engine.capabilities, Capabilities)

    @pytest.mark.parametrize(
        ("request_", "progress", "end"),
        [
            (None, LoadProgress, Loaded),
            (ASK, Started | PromptProgress | Tokens, Done),
            (Complete("你好", GREEDY), Started | PromptProgress | Tokens, Done),
            (COUNT, (), TokenCount),
            (Prefill(QUESTION, GREEDY), PromptProgress, Prefilled),
            (Unload(), (), Unloaded),
            (ListModels(device="cpu"), (), ModelList),
        ],
        ids=["load", "generate", "complete", "count", "prefill", "unload", "list"],
    )
    def test_one_end_of_the_right_kind_and_nothing_after_it(
        self, ready: Engine, request_: Request | None, progress: type, end: type
    ) -> None:
        stream = ready.submit(request_ or Load(self.spec))
        *before, last = until_end(stream)
        assert isinstance(last, end)
        assert all(isinstance(event, progress) for event in before)
        until_end(ready.submit(COUNT))
        assert stream.drain() == []
        assert list(stream) == []

    def test_iterating_ends(self, ready: Engine) -> None:
        events = list(ready.submit(ASK))
        assert isinstance(events[0], Started)
        assert [event for event in events if isinstance(event, End)] == events[-1:]

    def test_an_answer_is_its_text_and_tokens(self, ready: Engine) -> None:
        events = until_end(ready.submit(ASK))
        done = events[-1]
        assert isinstance(done, Done)
        assert text_of(events) == self.answer(ready) != ""
        assert (
            sum(event.count for event in events if isinstance(event, Tokens)) == done.stats.answer_tokens > 0
        )
        assert done.stats.prompt_tokens > 0

    @pytest.mark.parametrize("length", [1, 3])
    def test_a_stop_string_ends_the_answer_before_it(self, ready: Engine, length: int) -> None:
        answer = self.answer(ready)
        stop = answer[2 : 2 + length]
        events = until_end(ready.submit(Generate(QUESTION, GREEDY, stop=("no such text", stop))))
        done = events[-1]
        assert isinstance(done, Done)
        assert done.reason == "stop"
        assert text_of(events) == answer[: answer.index(stop)]
        assert text_of(until_end(ready.submit(ASK))) == answer

    def test_a_bare_text_is_counted(self, ready: Engine) -> None:
        count = until_end(ready.submit(CountTokens(text="你好")))[-1]
        assert isinstance(count, TokenCount)
        assert count.tokens > 0
        assert not ready.capabilities.count_tokens or count.tokens == len(count.ids)

    def test_wakes_who_waits_for_events(self, ready: Engine) -> None:
        stream, woken = ready.submit(ASK), threading.Event()
        stream.notify(woken.set)
        while not stream.ended:
            assert woken.wait(SECONDS)
            woken.clear()
            stream.drain()

    def test_requests_to_the_model_are_done_in_order(self, ready: Engine) -> None:
        self.hold(ready)
        requests = (ASK, Load(self.spec), COUNT, ASK, Unload(), COUNT, Load(self.spec), COUNT)
        streams = [ready.submit(request) for request in requests]
        until_text(streams[0])
        assert [stream.drain() for stream in streams[1:]] == [[]] * 7
        self.release(ready)
        last = until_end(streams[-1])
        assert isinstance(last[-1], TokenCount)
        ends = [stream.drain()[-1] for stream in streams[:-1]]
        assert [type(end) for end in ends] == [Done, Loaded, TokenCount, Done, Unloaded, Failed, Loaded]

    def test_drain_never_waits(self, ready: Engine) -> None:
        self.hold(ready)
        stream = ready.submit(ASK)
        until_text(stream)
        began = time.monotonic()
        assert stream.drain() == []
        assert time.monotonic() - began < 0.5
        assert not stream.ended
        self.release(ready)
        until_end(stream)

    def test_the_list_of_models_comes_next_to_an_answer(self, ready: Engine) -> None:
        self.hold(ready)
        stream = ready.submit(ASK)
        until_text(stream)
        assert isinstance(until_end(ready.submit(ListModels(device="cpu")))[-1], ModelList)
        assert not stream.ended
        self.release(ready)
        assert isinstance(until_end(stream)[-1], Done)

    def test_cancelling_what_is_queued_leaves_the_others_alone(self, ready: Engine) -> None:
        self.hold(ready)
        running = [ready.submit(ASK) for _slot in range(ready.capabilities.slots)]
        count, queued, after = (ready.submit(request) for request in (COUNT, ASK, ASK))
        events = [until_text(stream) for stream in running]
        count.cancel()
        queued.cancel()
        self.release(ready)
        assert until_end(count) == until_end(queued) == [Cancelled()]
        for stream, told in zip(running, events, strict=True):
            told += until_end(stream)
            assert isinstance(told[-1], Done)
            assert text_of(told) == self.answer(ready)
        assert text_of(until_end(after)) == self.answer(ready)

    def test_cancelling_what_runs_keeps_its_text_and_leaves_the_others_alone(self, ready: Engine) -> None:
        self.hold(ready)
        running, count, queued = (ready.submit(request) for request in (ASK, COUNT, ASK))
        events = until_text(running)
        running.cancel()
        events += until_end(running)
        cancelled = events[-1]
        assert isinstance(cancelled, Cancelled)
        assert cancelled.stats is not None
        assert sum(e.count for e in events if isinstance(e, Tokens)) == cancelled.stats.answer_tokens > 0
        assert self.answer(ready).startswith(text_of(events))
        self.release(ready)
        assert isinstance(until_end(count)[-1], TokenCount)
        assert isinstance(until_end(queued)[-1], Done)

    def test_as_many_answers_are_begun_as_there_are_slots(self, ready: Engine) -> None:
        slots = ready.capabilities.slots
        self.hold(ready)
        streams = [ready.submit(ASK) for _each in range(slots + 2)]
        events = [until_text(stream) for stream in streams[:slots]]
        assert [stream.drain() for stream in streams[slots:]] == [[], []]
        self.release(ready)
        told = [until_end(stream) for stream in streams]
        for i, before in enumerate(events):
            told[i] = before + told[i]
        assert [text_of(each) for each in told] == [self.answer(ready)] * len(streams)

    @pytest.mark.parametrize("seed", [None, 1], ids=["greedy", "sampled"])
    def test_answers_next_to_each_other_are_those_of_each_alone(
        self, ready: Engine, seed: int | None
    ) -> None:
        sampling = GREEDY if seed is None else Sampling(seed=seed)
        asked = [
            Generate((ChatMessage.of("user", text),), replace(sampling, max_new_tokens=most))
            for text, most in (("你好", 12), ("How do I load a model? " * 9, 3), ("再说一遍", 7), ("1", 20))
        ]
        alone = [text_of(until_end(ready.submit(request))) for request in asked]
        streams = [ready.submit(request) for request in [*asked, *reversed(asked)]]
        together = [text_of(until_end(stream)) for stream in streams]
        assert together == [*alone, *reversed(alone)]

    def test_cancelling_one_of_several_answers_leaves_the_others_alone(self, ready: Engine) -> None:
        self.hold(ready)
        streams = [ready.submit(ASK) for _slot in range(ready.capabilities.slots + 1)]
        events = [until_text(stream) for stream in streams[:-1]]
        streams[0].cancel()
        self.release(ready)
        told = [before + until_end(stream) for before, stream in zip([*events, []], streams, strict=True)]
        assert isinstance(told[0][-1], Cancelled)
        assert self.answer(ready).startswith(text_of(told[0]))
        assert [text_of(each) for each in told[1:]] == [self.answer(ready)] * (len(streams) - 1)

    def test_a_load_waits_for_all_answers_before_it(self, ready: Engine) -> None:
        self.hold(ready)
        running = [ready.submit(ASK) for _slot in range(ready.capabilities.slots)]
        load, after = ready.submit(Load(self.spec)), ready.submit(ASK)
        events = [until_text(stream) for stream in running]
        assert load.drain() == after.drain() == []
        self.release(ready)
        assert isinstance(until_end(load)[-1], Loaded)
        assert all(stream.drain()[-1:] and stream.ended for stream in running)
        assert text_of(until_end(after)) == self.answer(ready)
        assert all(events)

    def test_cancelling_what_has_ended_changes_nothing(self, ready: Engine) -> None:
        stream = ready.submit(ASK)
        until_end(stream)
        stream.cancel()
        assert text_of(until_end(ready.submit(ASK))) == self.answer(ready)
        assert stream.drain() == []

    def test_a_load_cancelled_before_it_began_leaves_the_model(self, ready: Engine) -> None:
        self.hold(ready)
        running, load = ready.submit(ASK), ready.submit(Load(self.spec))
        until_text(running)
        load.cancel()
        self.release(ready)
        assert until_end(load) == [Cancelled(model_kept=True)]
        assert isinstance(until_end(running)[-1], Done)
        assert isinstance(until_end(ready.submit(COUNT))[-1], TokenCount)

    @pytest.mark.parametrize("keeps", [True, False])
    def test_a_load_that_fails_says_whether_the_model_is_kept(self, ready: Engine, keeps: bool) -> None:
        failed = until_end(ready.submit(Load(self.failing(ready, keeps=keeps))))[-1]
        assert isinstance(failed, Failed)
        assert failed.model_kept is keeps
        assert failed.code
        assert failed.phrase
        assert isinstance(until_end(ready.submit(COUNT))[-1], TokenCount if keeps else Failed)
        assert isinstance(until_end(ready.submit(Load(self.spec)))[-1], Loaded)

    @pytest.mark.parametrize("request_", [ASK, COUNT], ids=["generate", "count"])
    def test_without_a_model(self, engine: Engine, request_: Request) -> None:
        (failed,) = until_end(engine.submit(request_))
        assert isinstance(failed, Failed)
        assert failed.code == "no_model"

    def test_close_ends_everything(self, ready: Engine) -> None:
        self.hold(ready)
        running = [ready.submit(ASK) for _slot in range(ready.capabilities.slots)]
        queued = ready.submit(ASK)
        for stream in running:
            until_text(stream)
        ready.close()
        assert all(isinstance(until_end(stream)[-1], Cancelled) for stream in running)
        assert until_end(queued) == [Cancelled()]
        assert until_end(ready.submit(COUNT)) == [Cancelled()]
        assert ready.join(SECONDS)

    def test_iterating_waits_in_another_thread(self, ready: Engine) -> None:
        self.hold(ready)
        stream = ready.submit(ASK)
        events: list[Event] = []
        reader = threading.Thread(target=lambda: events.extend(stream), daemon=True)
        reader.start()
        wait_for(lambda: any(isinstance(event, Tokens) for event in events))
        stream.cancel()
        reader.join(SECONDS)
        assert not reader.is_alive()
        assert isinstance(events[-1], Cancelled)

"""A prompt that is read before it is asked for: exact, without a trace, and out of everybody's way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import write_tiny_model, write_tiny_model2

import glmtui
from glmtui.engine import batching, chat_model
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.local import LocalEngine
from glmtui.engine.prefix_cache import PrefixCache
from glmtui.protocol.cancellation import OperationCancelled
from glmtui.protocol.engine import Stream
from glmtui.protocol.events import Cancelled, Done, Loaded, Prefilled, PromptProgress, TokenCount, Tokens
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import LocalModel
from glmtui.protocol.requests import CountTokens, Generate, Load, Prefill
from glmtui.protocol.sampling import Sampling

GREEDY = Sampling(temperature=0, max_new_tokens=6)


@pytest.fixture(params=["ChatGLM", "ChatGLM2"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return (write_tiny_model if request.param == "ChatGLM" else write_tiny_model2)(tmp_path / "model")


@pytest.fixture
def model(folder: Path) -> ChatModel:
    return glmtui.load(folder, device="cpu")


def asked(text: str, *before: ChatMessage) -> tuple[ChatMessage, ...]:
    return (*before, ChatMessage.of("user", text))


def go_on(_fraction: float) -> None:
    pass


def give_up(_fraction: float) -> None:
    raise OperationCancelled


def answer(model: ChatModel, messages: tuple[ChatMessage, ...]) -> tuple[str, list[float]]:
    """Return the answer, and the steps in which its prompt was read."""
    steps: list[float] = []
    made = model.stream(messages, GREEDY, check=steps.append)
    text = "".join(piece.text for piece in made)
    return text, [step for step in steps if step < 1]


def cached(model: ChatModel) -> list[int]:
    """Return how many tokens every cache of the model holds."""
    prefixes: PrefixCache[object] = model._prefixes
    return [entry.cache.length for entry in prefixes._entries]


def test_the_answer_is_the_same_and_only_a_token_is_left_to_read(model: ChatModel) -> None:
    messages = asked("你好，请介绍一下你自己。")
    expected, _steps = answer(model, messages)
    model.forget_prefixes()
    tokens = model.count_tokens(messages)
    assert model.prefill(messages, GREEDY, go_on) == tokens - 1 == sum(cached(model))
    made = model.stream(messages, GREEDY)
    assert "".join(piece.text for piece in made) == expected
    assert cached(model) == [tokens - 1 + made.answer_tokens]  # what was read is the answer's own


def test_given_up_at_once_leaves_nothing(model: ChatModel) -> None:
    with pytest.raises(OperationCancelled):
        model.prefill(asked("你好"), GREEDY, give_up)
    assert cached(model) == []


def test_another_draft_leaves_no_trace_of_the_one_before(model: ChatModel) -> None:
    expected, _steps = answer(model, asked("再说一遍吧"))
    model.forget_prefixes()
    for text in ("你", "你好，请介绍一下你自己。", "再说"):
        model.prefill(asked(text), GREEDY, go_on)
        assert len(cached(model)) == 1
    assert answer(model, asked("再说一遍吧"))[0] == expected
    assert len(cached(model)) == 1


def test_what_was_read_for_nothing_goes_when_another_conversation_goes_on(model: ChatModel) -> None:
    first = asked("你好")
    text, _steps = answer(model, first)
    before = cached(model)
    model.prefill((*first, ChatMessage.of("assistant", text), *asked("然后呢？")), GREEDY, go_on)
    other = asked("另一个问题")
    answer(model, other)
    kept = cached(model)
    assert len(kept) == 2
    assert kept[0] in (before[0], 0) or kept[0] <= before[0]


def test_a_history_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_model, "SLICE", 8)
    model = glmtui.load(write_tiny_model2(tmp_path / "model"), device="cpu")
    messages = asked("你好，请介绍一下你自己。" * 3)
    seen: list[float] = []

    def check(fraction: float) -> None:
        seen.append(fraction)
        if fraction > 0.5:
            raise OperationCancelled

    with pytest.raises(OperationCancelled):
        model.prefill(messages, GREEDY, check)
    assert seen == sorted(seen)
    held = sum(cached(model))
    assert 0 < held < model.count_tokens(messages) - 1
    assert held % 8 == 0
    model.prefill(messages, GREEDY, seen.append)  # and is not read again
    assert seen[-1] > 0.5
    expected, _steps = answer(glmtui.load(tmp_path / "model", device="cpu"), messages)
    assert answer(model, messages)[0] == expected


# --- in the engine ---


@pytest.fixture
def engine(folder: Path) -> Iterator[LocalEngine]:
    made = LocalEngine()
    assert isinstance(list(made.submit(Load(LocalModel(str(folder), device="cpu"))))[-1], Loaded)
    yield made
    made.close()
    assert made.join(60)


class Held:
    """Lets the reading of prompts stand still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import threading

        self.begun, self.goes_on = threading.Event(), threading.Event()
        prefill = ChatModel.prefill

        def held(model: ChatModel, messages: object, sampling: object, check: object) -> int:
            def wait(fraction: float) -> None:
                self.begun.set()
                while not self.goes_on.wait(0.002):
                    check(fraction)  # type: ignore[operator]

            wait(0.0)
            return prefill(model, messages, sampling, check)  # type: ignore[arg-type]

        monkeypatch.setattr(ChatModel, "prefill", held)


def end_of(stream: Stream) -> object:
    return list(stream)[-1]


def test_it_ends_with_what_is_read(engine: LocalEngine) -> None:
    messages = asked("你好")
    *before, end = list(engine.submit(Prefill(messages, GREEDY)))
    assert isinstance(end, Prefilled)
    assert all(isinstance(event, PromptProgress) for event in before)
    count = end_of(engine.submit(CountTokens(messages)))
    assert isinstance(count, TokenCount)
    assert end.tokens == count.tokens - 1


@pytest.mark.parametrize("other", [CountTokens(asked("你")), Generate(asked("你"), GREEDY)])
def test_whatever_else_is_asked_for_comes_first(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, other: CountTokens | Generate
) -> None:
    held = Held(monkeypatch)
    ahead = engine.submit(Prefill(asked("你好"), GREEDY))
    assert held.begun.wait(60)
    assert isinstance(end_of(engine.submit(other)), Done | TokenCount)
    assert isinstance(end_of(ahead), Cancelled)


def test_the_same_prompt_waits_for_it(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    messages = asked("你好")
    ahead = engine.submit(Prefill(messages, GREEDY))
    assert held.begun.wait(60)
    stream = engine.submit(Generate(messages, GREEDY))
    held.goes_on.set()
    assert isinstance(end_of(ahead), Prefilled)
    events = list(stream)
    assert isinstance(events[-1], Done)
    assert any(isinstance(event, Tokens) for event in events)
    assert not any(isinstance(event, PromptProgress) and event.fraction > 0 for event in events)


def test_answers_go_on_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "LONGEST_GAP", 0.0)
    engine = LocalEngine(slots=3)
    try:
        assert isinstance(end_of(engine.submit(Load(LocalModel(str(folder), device="cpu")))), Loaded)
        sampling = Sampling(temperature=0, max_new_tokens=400)
        answers = [engine.submit(Generate(asked(text), sampling)) for text in ("再说一遍吧", "另一个问题")]
        for answer in answers:
            assert any(isinstance(event, Tokens) for event in answer)  # it has begun
        held = Held(monkeypatch)
        ahead = engine.submit(Prefill(asked("你好"), GREEDY))
        assert held.begun.wait(60)
        ended = [end_of(answer) for answer in answers]
        assert all(isinstance(end, Done) for end in ended)
        assert not ahead.ended
        held.goes_on.set()
        assert isinstance(end_of(ahead), Prefilled)
    finally:
        engine.close()
        assert engine.join(60)


def test_one_that_waits_for_its_turn_gives_way_too(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    first = engine.submit(Prefill(asked("你好"), GREEDY))
    assert held.begun.wait(60)
    second = engine.submit(Prefill(asked("你好吗"), GREEDY))
    assert isinstance(end_of(first), Cancelled)
    assert isinstance(end_of(engine.submit(CountTokens(asked("你")))), TokenCount)
    assert isinstance(end_of(second), Cancelled)

"""Conversations in, text out: the published interface, streaming, limits, what is kept between answers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import write_tiny_model2

import glmtui
from glmtui.engine.chat_model import Answer, ChatModel
from glmtui.errors import BadValueError, TooLongError, UnavailableError
from glmtui.protocol.cancellation import OperationCancelled
from glmtui.protocol.messages import ChatMessage, Text, Thought
from glmtui.protocol.requests import Tool
from glmtui.protocol.sampling import Sampling

Script = Callable[..., ChatModel]
TEXT = "你好,我是一个小模型。\n  1 2 3 🙂 🀄!"
SHOWN = "你好，我是一个小模型。\n  1 2 3 🙂 🀄!"
QUESTION = (ChatMessage.of("user", "你好"),)


def text_of(answer: Answer) -> str:
    return "".join(piece.text for piece in answer)


def test_chat_returns_answer_and_history_and_leaves_the_callers_alone(script: Script) -> None:
    model = script(TEXT)
    history: list[tuple[str, str]] = []
    response, longer = model.chat("你好", history)
    assert response == SHOWN
    assert longer == [("你好", SHOWN)]
    assert history == []
    assert model.chat("再说", longer)[1] == [("你好", SHOWN), ("再说", SHOWN)]


def test_stream_chat_grows_and_never_takes_back(script: Script) -> None:
    steps = [response for response, _history in script(TEXT).stream_chat("你好")]
    assert len(steps) > 5
    assert all(later.startswith(earlier) for earlier, later in pairwise(steps))
    assert steps[-1] == SHOWN
    assert not any("�" in step for step in steps)


def test_answer_says_why_it_ended_and_how_long_it_took(script: Script) -> None:
    answer = script(TEXT).stream(QUESTION)
    assert text_of(answer) == answer.text == SHOWN
    assert answer.parts == (Text(SHOWN),)
    assert answer.reason == "stop"
    stats = answer.stats
    assert stats.answer_tokens == answer.answer_tokens == len(script(TEXT).tokenizer.encode_text(TEXT))
    assert stats.prompt_tokens == answer.prompt_tokens
    assert stats.prompt_seconds > 0
    assert stats.tokens_per_second > 0


def test_max_new_tokens_and_max_length_end_the_answer(script: Script) -> None:
    model = script(TEXT * 20)
    answer = model.stream(QUESTION, Sampling(max_new_tokens=5))
    list(answer)
    assert (answer.reason, answer.answer_tokens) == ("length", 5)
    answer = model.stream(QUESTION, Sampling(max_length=30))
    list(answer)
    assert (answer.reason, answer.prompt_tokens + answer.answer_tokens) == ("length", 30)
    answer = model.stream(QUESTION, Sampling(max_length=10_000))
    list(answer)
    assert answer.limit == answer.prompt_tokens + answer.answer_tokens == 256  # what the model was made for


def test_oldest_rounds_are_left_out_whole_and_counted(script: Script) -> None:
    model = script(TEXT)
    turns = [ChatMessage.of(role, f"{role} {i}") for i in range(40) for role in ("user", "assistant")]
    answer = model.stream([*turns, ChatMessage.of("user", "最后")])
    assert 0 < answer.dropped_rounds < 40
    assert answer.prompt_tokens <= 256 * 3 // 4
    assert text_of(answer) == SHOWN
    prompt = model.tokenizer.decode(model.network.prompts[0])
    assert f"user {answer.dropped_rounds - 1}\n" not in prompt
    assert f"user {answer.dropped_rounds}\n" in prompt


def test_a_long_last_message_may_take_the_answers_room_but_not_all(script: Script) -> None:
    model = script(TEXT)
    long = "1 " * 115
    tokens, limit = model.count_tokens([ChatMessage.of("user", long)]), model.limit(model.default_sampling)
    assert limit * 3 // 4 < tokens < limit == 256
    assert model.stream([ChatMessage.of("user", long)]).prompt_tokens == tokens
    with pytest.raises(TooLongError, match="255"):
        model.stream([ChatMessage.of("user", long * 2)])


def test_cancelling_keeps_what_came(script: Script) -> None:
    steps = 0

    def check(_fraction: float) -> None:
        nonlocal steps
        steps += 1
        if steps > 30:
            raise OperationCancelled

    answer = script(TEXT).stream(QUESTION, check=check)
    text = text_of(answer)
    assert answer.reason == "cancelled"
    assert 0 < len(text) < len(SHOWN)
    assert SHOWN.startswith(text)


def test_continuing_keeps_the_white_space_between(script: Script) -> None:
    for before, new, expected in [("How do", " I load", " I load"), ("你好", ", 我", "， 我")]:
        model = script(new)
        if not new.startswith(" "):  # the tokenizer puts a space before every text; a model would not
            model.network.says = model.network.says[1:]
        turns = (*QUESTION, ChatMessage.of("assistant", before))
        answer = model.stream(turns, continue_answer=True)
        assert text_of(answer) == expected
        assert model.tokenizer.decode(model.network.prompts[0]).endswith(before)


def test_a_thought_is_told_from_the_answer(script: Script) -> None:
    answer = script("<think>\n想\n\n</think>\n\n你好 </think>").stream(QUESTION)
    pieces = list(answer)
    assert "".join(piece.text for piece in pieces if piece.thought) == "想"
    assert answer.text == "你好 </think>"
    assert answer.parts == (Thought("想"), Text("你好 </think>"))


def test_python_gets_the_thought_in_the_response(script: Script) -> None:
    model = script("<think>想</think>你好")
    response, history = model.chat("你好")
    assert response == "<think>\n想\n</think>\n\n你好"
    model.chat("再说", history)
    prompt = model.tokenizer.decode(max(model.network.prompts, key=len))
    assert "你好" in prompt
    assert "想" not in prompt
    steps = [response for response, _history in model.stream_chat("你好")]
    assert all(later.startswith(earlier) for earlier, later in pairwise(steps))


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        ((Thought("想"),), ("一想", "你好")),  # goes on in the thought
        ((Thought("想"), Text("")), ("", "一想</think>你好")),
        ((Thought("想"), Text("好")), ("", "一想</think>你好")),
        ((), ("", "一想</think>你好")),
    ],
)
def test_an_answer_goes_on_where_it_was(
    script: Script, begun: tuple[Text | Thought, ...], told: tuple[str, str]
) -> None:
    model = script("一想</think>你好")
    model.network.says = model.network.says[1:]  # the space that the tokenizer puts before every text
    answer = model.stream((*QUESTION, ChatMessage("assistant", begun)), continue_answer=True)
    pieces = list(answer)
    assert tuple("".join(p.text for p in pieces if p.thought is kind) for kind in (True, False)) == told
    prompt = model.tokenizer.decode(model.network.prompts[0])
    assert ("<think>" in prompt) is bool(begun)
    assert ("</think>" in prompt) is (len(begun) == 2)


def test_asking_again_reads_nothing_of_the_prompt_again(text_folder: Path) -> None:
    """ChatGLM-6B sees its context in both directions: it serves the same question again, and no other."""
    model = glmtui.load(str(text_folder), device="cpu", threads=1)
    sampling = Sampling(temperature=0, max_new_tokens=8)
    first = model.stream(QUESTION, sampling)
    text = text_of(first)
    again = model.stream(QUESTION, sampling)
    assert again.generation.cache is not None
    assert again.generation.cache.length == first.prompt_tokens - 1
    assert text_of(again) == text
    other = (ChatMessage.of("user", "How do I load a model?"),)
    fresh = glmtui.load(str(text_folder), device="cpu", threads=1)
    assert text_of(model.stream(other, sampling)) == text_of(fresh.stream(other, sampling))


def test_a_causal_model_reads_only_what_is_new(tmp_path: Path) -> None:
    """The keys and values of earlier rounds stay, token for token as they were generated."""
    model = glmtui.load(str(write_tiny_model2(tmp_path / "tiny2")), device="cpu", threads=1)
    sampling = Sampling(temperature=0, max_new_tokens=8)
    turns: tuple[ChatMessage, ...] = ()
    read: list[int] = []
    for question in ("你好", "load a model", "1 2 3"):
        turns = (*turns, ChatMessage.of("user", question))
        answer = model.stream(turns, sampling)
        cache = answer.generation.cache
        read.append(answer.prompt_tokens - (cache.length if cache else 0))
        text = text_of(answer)
        tokens = answer._ids
        assert list(model.generate(answer.generation.prompt, max_new_tokens=8)) == tokens
        turns = (*turns, ChatMessage.of("assistant", text))
    added = model.format.follow(2, [ChatMessage.of("user", "1 2 3")])
    assert read[0] == model.stream((ChatMessage.of("user", "你好"),)).prompt_tokens
    assert read[2] == len(added) + 1  # and the last token, which was said but never read


def test_cached_decoding_equals_reading_everything_again(text_folder: Path) -> None:
    model = glmtui.load(str(text_folder), device="cpu", threads=1)
    prompt = model.tokenizer.encode("你好")
    tokens = list(model.generate(prompt, max_new_tokens=12))
    for i, token in enumerate(tokens):
        assert int(model.logits(prompt + tokens[:i])[-1].argmax()) == token


def test_seed_repeats_an_answer(text_folder: Path) -> None:
    model = glmtui.load(str(text_folder), device="cpu", threads=1)
    ids = model.tokenizer.encode("你好")
    draw = [list(model.generate(ids, max_new_tokens=20, temperature=50.0, seed=seed)) for seed in (1, 1, 2)]
    assert draw[0] == draw[1] != draw[2]


@pytest.mark.parametrize("ids", [[], [-1], [10**6], [[5, 6]], torch.tensor([[5, 6]]), torch.tensor(5)])
def test_what_is_no_prompt_is_refused(text_folder: Path, ids: Any) -> None:
    model = glmtui.load(str(text_folder), device="cpu", threads=1)
    with pytest.raises(BadValueError):
        model.logits(ids)
    with pytest.raises(BadValueError):
        model.generate(ids, max_new_tokens=3)


def test_load_tokenizer_writes_prompts(text_folder: Path) -> None:
    tokenizer = glmtui.load_tokenizer(text_folder)
    ids = tokenizer.encode_chat("再说", [("你好", "好")])
    assert "[Round 1]" in tokenizer.decode(ids)
    assert tokenizer.encode("你好") == tokenizer.encode_chat("你好")
    model = glmtui.load(str(text_folder), device="cpu", threads=1)
    assert model.tokenizer.encode_chat("你好") == tokenizer.encode_chat("你好")


def test_a_stop_string_ends_the_answer_and_what_follows_is_right(script: Script) -> None:
    model = script("一二三四五")
    answer = model.stream(QUESTION, stop=("三",))
    assert text_of(answer) == "一二"
    assert (answer.reason, answer.text) == ("stop", "一二")
    assert answer.answer_tokens == len(answer._ids)
    again = model.stream((*QUESTION, ChatMessage.of("assistant", "一二"), ChatMessage.of("user", "再说")))
    assert text_of(again) == "一二三四五"


def test_a_text_is_gone_on_with_as_it_stands(script: Script) -> None:
    model = script("一二三")
    answer = model.complete("你好")
    assert answer.generation.prompt == model.tokenizer.encode("你好")
    assert text_of(answer).strip() == "一二三"
    with pytest.raises(TooLongError):
        model.complete("你好 " * 300)


def test_a_prompt_that_is_too_long_can_be_refused(script: Script) -> None:
    model = script("一")
    messages = tuple(ChatMessage.of(role, "你好 " * 20) for role in ("user", "assistant") * 6)[:-1]
    assert model.stream(messages).dropped_rounds > 0
    with pytest.raises(TooLongError):
        model.stream(messages, leave_out_rounds=False)
    assert model.stream(messages[:1], leave_out_rounds=False).dropped_rounds == 0


def test_tools_are_refused_where_the_model_calls_none(script: Script) -> None:
    model = script("一")
    assert not model.calls_tools
    with pytest.raises(UnavailableError):
        model.stream((ChatMessage.of("user", "?"),), tools=(Tool("look"),))

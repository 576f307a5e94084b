"""Models behind servers: the contract of engines, and all that servers do otherwise than one would think."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from contracts.engine import ASK, QUESTION, EngineContract, text_of, until_end, until_text
from engine.test_local_contract import LATE, fail_late
from openai_server import DONE, OpenAIServer, chunk, error, openai_server, spoken, usage

from glmtui.engine import local, remote_model
from glmtui.engine.local import LocalEngine
from glmtui.protocol.engine import Engine
from glmtui.protocol.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Loaded,
    ModelList,
    Started,
    Tokens,
    ToolCalled,
)
from glmtui.protocol.messages import ChatMessage, Thought, ToolCall
from glmtui.protocol.models import ModelSpec, RemoteModel
from glmtui.protocol.requests import Generate, ListModels, Load
from glmtui.protocol.sampling import Sampling
from glmtui.settings import engines


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server() as state:
        yield state


@pytest.fixture
def spec(server: OpenAIServer) -> RemoteModel:
    return RemoteModel(f"{server.url}#tiny", server.url, "tiny")


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine()
    yield engine
    engine.close()
    assert engine.join(60)


def loaded(engine: Engine, spec: RemoteModel) -> Loaded:
    end = until_end(engine.submit(Load(spec)))[-1]
    assert isinstance(end, Loaded), end
    return end


def answered(engine: Engine, request: Generate = ASK) -> list[Event]:
    return until_end(engine.submit(request))


def thought_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Tokens) and event.thought)


class TestRemoteModel(EngineContract):
    @pytest.fixture
    def engine(
        self, server: OpenAIServer, spec: RemoteModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[LocalEngine]:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
        self.server, self.spec = server, spec
        engine = LocalEngine(lambda spec: fail_late if spec == LATE else local._prepare(spec))
        yield engine
        engine.close()
        assert engine.join(60)

    def hold(self, engine: Engine) -> None:
        self.server.gate.clear()

    def release(self, engine: Engine) -> None:
        self.server.gate.set()

    def failing(self, engine: Engine, *, keeps: bool) -> ModelSpec:
        if keeps:
            return RemoteModel(f"{self.server.url}#none", self.server.url, "none")
        return LATE

    def answer(self, engine: Engine) -> str:
        return "Hello, world!"


# --- what is told of the model ---


def test_the_model_is_described_by_its_server(engine: LocalEngine, spec: RemoteModel) -> None:
    info = loaded(engine, spec).info
    assert (info.name, info.max_length, info.device) == ("tiny", 256, "")
    assert info.place == spec.server == info.server
    assert not info.note


def test_the_context_of_llama_server(engine: LocalEngine, spec: RemoteModel, server: OpenAIServer) -> None:
    server.models = [{"id": "tiny", "owned_by": "llamacpp", "meta": {"n_ctx": 512}}]
    assert loaded(engine, spec).info.max_length == 512


def test_an_unknown_context_is_told(engine: LocalEngine, spec: RemoteModel, server: OpenAIServer) -> None:
    server.models = [{"id": "tiny"}]
    assert loaded(engine, spec).info.note


def test_of_one_model_the_name_may_be_left_out(engine: LocalEngine, server: OpenAIServer) -> None:
    assert loaded(engine, RemoteModel(server.url, server.url)).info.name == "tiny"


@pytest.mark.parametrize("name", ["", "other"])
def test_the_names_of_a_servers_models_are_told(engine: LocalEngine, server: OpenAIServer, name: str) -> None:
    server.models = [{"id": "one"}, {"id": "two"}, {"no": "id"}, 3]  # type: ignore[list-item]
    failed = until_end(engine.submit(Load(RemoteModel("x", server.url, name))))[-1]
    assert isinstance(failed, Failed)
    assert "one, two" in str(failed.phrase)


def test_the_list_has_what_the_server_has(
    engine: LocalEngine,
    spec: RemoteModel,
    server: OpenAIServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    server.models.append({"id": "large"})
    loaded(engine, spec)
    found = until_end(engine.submit(ListModels(device="cpu")))[-1]
    assert isinstance(found, ModelList)
    there = [(entry.name, entry.source) for entry in found.entries if entry.place == "server"]
    assert there == [("tiny", spec.source), ("large", f"{server.url}#large")]


def test_others_of_a_named_server_are_named_by_it(server: OpenAIServer) -> None:
    server.models.append({"id": "large"})
    named = RemoteModel("work", server.url, "tiny", "file:/key")
    siblings = remote_model.load(replace(named, key="")).siblings
    assert [entry.source for entry in siblings] == ["work", "work#large"]
    found = engines.find("work#large", {"work": named})
    assert found == replace(named, source="work#large", model="large"), "with its key"


def test_what_the_server_says_of_its_model_counts(server: OpenAIServer) -> None:
    server.models = [
        {"id": "tiny", "supports_system": False, "sampling": {"temperature": 0.95, "top_p": 0.7, "x": None}}
    ]
    info = remote_model.load(RemoteModel(server.url, server.url)).info
    assert (info.sampling.temperature, info.sampling.top_p, info.supports_system) == (0.95, 0.7, False)
    server.models = [{"id": "tiny", "supports_system": "no", "sampling": {"temperature": "hot", "top_p": 7}}]
    info = remote_model.load(RemoteModel(server.url, server.url)).info
    assert (info.sampling.temperature, info.sampling.top_p, info.supports_system) == (0.8, 0.8, True)


def test_a_server_without_a_model_is_told(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    server.models = []
    failed = until_end(engine.submit(Load(spec)))[-1]
    assert isinstance(failed, Failed)
    assert "loading" in str(failed.phrase)


def test_https_where_http_is_spoken_is_told(engine: LocalEngine, server: OpenAIServer) -> None:
    url = server.url.replace("http://", "https://")
    failed = until_end(engine.submit(Load(RemoteModel(url, url, "tiny"))))[-1]
    assert isinstance(failed, Failed)
    assert str(failed.phrase.fields["reason"]) == "it speaks http, not https"


def test_a_password_in_an_address_is_not_said_again(engine: LocalEngine) -> None:
    url = "http://me:secret@127.0.0.1:9/v1"
    failed = until_end(engine.submit(Load(RemoteModel(url, url, "tiny"))))[-1]
    assert isinstance(failed, Failed)
    assert "secret" not in str(failed.phrase)


# --- what goes wrong before an answer ---


def failure(engine: LocalEngine, spec: RemoteModel) -> Failed:
    end = until_end(engine.submit(Load(spec)))[-1]
    assert isinstance(end, Failed), end
    return end


def test_nobody_is_there(engine: LocalEngine) -> None:
    failed = failure(engine, RemoteModel("x", "http://127.0.0.1:9/v1", "tiny"))
    assert failed.code == "server_failed"
    assert "127.0.0.1:9" in str(failed.phrase)


@pytest.mark.parametrize(
    "address",
    ["http://", "http://[::1/v1", "http://host:99999/v1", "http://user:secret@host/v1", "http://h/v1?key=1"],
)
def test_what_is_no_address(engine: LocalEngine, address: str) -> None:
    failed = failure(engine, RemoteModel("x", address))
    assert failed.code == "bad_value"


def test_a_wrong_key(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "secret"
    assert "env:NAME" in str(failure(engine, spec).phrase), "none was sent"
    monkeypatch.setenv("SOME_KEY", "other")
    assert "refuses" in str(failure(engine, replace(spec, key="env:SOME_KEY")).phrase)


@pytest.mark.parametrize("key", ["schlüssel", "one\ntwo"])
def test_what_is_no_key_is_not_called_absent(
    engine: LocalEngine, spec: RemoteModel, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    assert failure(engine, replace(spec, key="env:SOME_KEY")).code == "bad_value"


def test_an_answer_without_anything_is_told(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    for lines, told in (
        (['data: {"choices": null}', DONE], True),
        (spoken(), True),
        (spoken("Hel", finish="content_filter"), True),
        ([chunk({"reasoning": "well"}), *spoken()], False),
        (spoken("Hello"), False),
    ):
        server.lines = lines
        end = answered(engine)[-1]
        assert isinstance(end, Done)
        assert bool(end.note) is told


def test_what_comes_in_one_piece_has_no_speed(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    server.lines = spoken("Hello, world!")
    end = answered(engine)[-1]
    assert isinstance(end, Done)
    assert end.stats.tokens_per_second == 0


@pytest.mark.parametrize("place", ["env", "file"])
def test_the_key_is_found(
    engine: LocalEngine, server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    server.key = "secret"
    (tmp_path / "key").write_text("secret\n")
    monkeypatch.setenv("SOME_KEY", "secret")
    where = {"env": "env:SOME_KEY", "file": f"file:{tmp_path / 'key'}"}[place]
    spec = RemoteModel("x", server.url, "tiny", where, headers={"X-Team": "a"})
    loaded(engine, spec)
    assert text_of(answered(engine)) == "Hello, world!"
    assert [each.get("X-Team") for each in server.headers] == ["a", "a"]
    assert "secret" not in repr(spec)


@pytest.mark.parametrize("where", ["env:NOT_SET_AT_ALL", "file:/no/such/file", "file:/dev/null", "my-key"])
def test_a_key_that_is_nowhere(engine: LocalEngine, server: OpenAIServer, where: str) -> None:
    assert failure(engine, RemoteModel("x", server.url, "tiny", where)).code in ("not_found", "bad_value")
    assert not server.headers


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_key_in_what_is_no_regular_file_is_not_waited_for(
    engine: LocalEngine, server: OpenAIServer, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "key")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("key", "endless"):
        assert (
            failure(engine, RemoteModel("x", server.url, "tiny", f"file:{tmp_path / name}")).code
            == "not_found"
        )
    assert not server.headers


def test_a_redirect_is_not_followed(engine: LocalEngine, spec: RemoteModel, server: OpenAIServer) -> None:
    loaded(engine, spec)
    server.replies = [(307, {"Location": "http://elsewhere.example/v1"}, b"")]
    failed = answered(engine)[-1]
    assert isinstance(failed, Failed)
    assert "elsewhere.example" in str(failed.phrase)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"data": 3}', b"[" * 100_000, b'{"detail": "Not Found"}', b"\xff\xfe"]
)
def test_it_is_another_kind_of_server(engine: LocalEngine, body: bytes) -> None:
    from openai_server import Handler

    with openai_server() as other:
        kept, Handler.do_GET = Handler.do_GET, lambda self: self._reply(200, {}, body)  # type: ignore[method-assign]
        try:
            assert failure(engine, RemoteModel("x", other.url, "tiny")).code == "server_failed"
        finally:
            Handler.do_GET = kept  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (error(404, "The model `tiny` does not exist."), "not_found"),
        ((404, {}, b'{"detail":"Not Found"}'), "server_failed"),
        (error(400, "temperature is wrong"), "unavailable"),
        ((502, {}, b"<html>Bad gateway</html>"), "server_failed"),
        ((401, {}, b'{"error":"Unauthorized"}'), "server_failed"),
    ],
)
def test_a_question_that_is_refused(
    engine: LocalEngine,
    spec: RemoteModel,
    server: OpenAIServer,
    reply: tuple[int, dict[str, str], bytes],
    code: str,
) -> None:
    loaded(engine, spec)
    server.replies = [reply]
    failed = answered(engine)[-1]
    assert isinstance(failed, Failed)
    assert failed.code == code
    assert text_of(answered(engine)) == "Hello, world!"


def test_a_server_that_is_busy_is_asked_again(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    server.replies = [(429, {"Retry-After": "0"}, b"{}"), (503, {"Retry-After": "0"}, b"{}")]
    assert text_of(answered(engine)) == "Hello, world!"
    assert len(server.asked) == 3


def test_a_time_to_wait_that_is_none_is_passed_over(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_model, "INTERVAL", 0.001)
    loaded(engine, spec)
    server.replies = [(429, {"Retry-After": "²"}, b"{}")]
    assert text_of(answered(engine)) == "Hello, world!"


def test_a_server_that_stays_busy(engine: LocalEngine, spec: RemoteModel, server: OpenAIServer) -> None:
    loaded(engine, spec)
    server.refuse = lambda _body: (429, {"Retry-After": "0"}, b'{"error":{"message":"full"}}')
    assert isinstance(answered(engine)[-1], Failed)


def test_waiting_for_a_busy_server_can_be_cancelled(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    server.refuse = lambda _body: (429, {"Retry-After": "30"}, b"{}")
    stream = engine.submit(ASK)
    while not server.asked:
        time.sleep(0.01)
    stream.cancel()
    began = time.monotonic()
    assert isinstance(until_end(stream)[-1], Cancelled)
    assert time.monotonic() - began < 2


# --- what is asked ---


@pytest.mark.parametrize(
    ("question", "least", "most"), [("你好", 800, 1000), ("word " * 600, 500, 512)], ids=["short", "long"]
)
def test_an_answer_may_have_what_its_prompt_leaves(
    engine: LocalEngine, server: OpenAIServer, question: str, least: int, most: int
) -> None:
    """Half of all at least: how many tokens a prompt has is a guess."""
    loaded(engine, RemoteModel("x", server.url, "tiny", context=1000))
    answered(engine, Generate((ChatMessage.of("user", question),), Sampling(max_new_tokens=5000)))
    assert least <= server.asked[-1]["max_tokens"] <= most


def test_what_is_sent(engine: LocalEngine, server: OpenAIServer) -> None:
    loaded(engine, RemoteModel("x", server.url, "tiny", body={"reasoning_effort": "low"}))
    messages = (
        ChatMessage.of("system", "Be short."),
        ChatMessage.of("user", "你好"),
        ChatMessage("assistant", (Thought("hm"), *ChatMessage.of("assistant", "Hi").parts)),
        ChatMessage.of("user", "And?"),
    )
    answered(
        engine, Generate(messages, Sampling(temperature=0.5, top_p=0, top_k=0, seed=7, max_new_tokens=9))
    )
    (body,) = server.asked
    assert [(each["role"], each["content"]) for each in body["messages"]] == [
        ("system", "Be short."),
        ("user", "你好"),
        ("assistant", "Hi"),
        ("user", "And?"),
    ]
    assert body["model"] == "tiny"
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.5, 7, 9)
    assert 0 < body["top_p"] < 0.01
    assert body["reasoning_effort"] == "low"
    assert not {"top_k", "repetition_penalty"} & set(body)


def test_an_answer_is_continued_where_the_server_can(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    request = Generate((*QUESTION, ChatMessage.of("assistant", "Hel")), continue_answer=True)
    assert isinstance(answered(engine, request)[-1], Done)
    assert server.asked[-1]["continue_final_message"] is True
    server.models = [{"id": "tiny", "owned_by": "library"}]
    loaded(engine, spec)
    assert not engine.capabilities.continue_answer
    assert isinstance(answered(engine, request)[-1], Failed)
    assert len(server.asked) == 1


# --- what comes ---


@pytest.mark.parametrize(
    "lines",
    [
        ["data: {}", *spoken("Hello, ", "world!")],
        [line for line in spoken("Hello, ", "world!") if line != DONE],
        [chunk({"content": "Hello, "}), chunk({"content": "world!"}, "stop"), DONE],
        [
            chunk({"role": "assistant", "content": None}),
            chunk({"content": "Hello, world!"}),
            chunk({}, ""),
            DONE,
        ],
        [chunk({"content": "Hello, world!"}, "weird")],
        [chunk({"content": "Hello, world!"}), chunk(None, **usage(7, 3))],
        [chunk({"content": [{"type": "text", "text": "Hello, "}, 3, {"text": "world!"}]}), DONE],
        [chunk({"content": "Hello, world!"}), chunk(None, **usage(10**400, 10**400)), DONE],
        [chunk({"content": "Hello, w\ud83d"}), chunk({"content": "\ude00orld\ud800!"}), DONE],
        [": comment", chunk({"content": "Hello, world!"}).replace("data: ", "data:"), DONE, "data: {"],
        [chunk({"content": "Hello, world!"}), chunk(None), chunk({"content": 3, "x": []}), DONE],
        [chunk({"content": "Hello, world!"}), 'data: {"choices":[3],"usage":{"prompt_tokens":"x"}}', DONE],
    ],
)
def test_answers_as_servers_send_them(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer, lines: list[str]
) -> None:
    loaded(engine, spec)
    server.lines = lines
    events = answered(engine)
    assert isinstance(events[-1], Done), events[-1]
    assert text_of(events).replace("😀", "").replace("�", "") == "Hello, world!"


def test_an_answer_in_one_piece(engine: LocalEngine, spec: RemoteModel, server: OpenAIServer) -> None:
    loaded(engine, spec)
    whole = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "length"}]}
    server.replies = [(200, {}, json.dumps({**whole, **usage(3, 5)}).encode())]
    events = answered(engine)
    done = events[-1]
    assert isinstance(done, Done)
    assert (text_of(events), done.reason, done.stats.prompt_tokens, done.stats.answer_tokens) == (
        "Hello",
        "length",
        3,
        5,
    )


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_a_thought_comes_apart(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer, name: str
) -> None:
    loaded(engine, spec)
    server.lines = [chunk({name: "well"}), chunk({name: " then", "content": None}), *spoken("Hello")]
    events = answered(engine)
    assert (thought_of(events), text_of(events)) == ("well then", "Hello")


def test_a_thought_in_the_text(engine: LocalEngine, spec: RemoteModel, server: OpenAIServer) -> None:
    loaded(engine, spec)
    server.lines = spoken("<thi", "nk>well</think>", "\n\nHello")
    events = answered(engine)
    assert (thought_of(events), text_of(events)) == ("well", "Hello")


@pytest.mark.parametrize("how", ["cut", "ended", "error", "not json"])
def test_what_came_before_it_broke_off_is_kept(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer, how: str
) -> None:
    loaded(engine, spec)
    if how == "cut":
        server.cut_after = 3
    elif how == "ended":  # by a proxy that has waited long enough, say
        server.lines = spoken("Hello", ", ")[:3]
    else:
        bad = 'data: {"error": {"message": "engine died"}}' if how == "error" else "data: oops"
        server.lines = [*spoken("Hello", ", ")[:3], bad]
    events = answered(engine)
    assert isinstance(events[-1], Failed)
    assert text_of(events) == "Hello, "
    assert "reason" not in events[-1].phrase.fields or how != "ended"  # it gave none
    if how == "error":
        assert "engine died" in str(events[-1].phrase)


def test_a_cancel_closes_the_connection(engine: LocalEngine, spec: RemoteModel, server: OpenAIServer) -> None:
    loaded(engine, spec)
    server.gate.clear()
    stream = engine.submit(ASK)
    until_text(stream)
    stream.cancel()
    assert isinstance(until_end(stream)[-1], Cancelled)
    assert server.left.wait(5)


# --- conversations that are too long ---


def long_conversation(rounds: int) -> tuple[ChatMessage, ...]:
    said = [
        each
        for number in range(rounds)
        for each in (ChatMessage.of("user", f"{number} " * 20), ChatMessage.of("assistant", "yes " * 20))
    ]
    return (ChatMessage.of("system", "Be short."), *said, ChatMessage.of("user", "now"))


@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
def test_the_oldest_rounds_are_left_out_until_the_server_takes_it(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer, kind: str
) -> None:
    loaded(engine, spec)

    def refuse(body: dict[str, object]) -> tuple[int, dict[str, str], bytes] | None:
        size = len(json.dumps(body["messages"]))
        if size < 900:
            return None
        if kind == "llamacpp":
            return error(400, "too long", type="exceed_context_size_error", n_prompt_tokens=size, n_ctx=900)
        return error(400, "This model's maximum context length is 256 tokens")

    server.refuse = refuse
    events = answered(engine, Generate(long_conversation(12)))
    assert isinstance(events[0], Started)
    assert 0 < events[0].dropped_rounds < 12
    assert isinstance(events[-1], Done)
    kept = server.asked[-1]["messages"]
    assert kept[0]["role"] == "system"
    assert kept[-1]["content"] == "now"
    assert kept[1]["role"] == "user"


def test_a_message_that_is_too_long_by_itself(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    server.refuse = lambda _body: error(400, "exceeds", code="context_length_exceeded")
    failed = answered(engine, Generate(long_conversation(3)))[-1]
    assert isinstance(failed, Failed)
    assert failed.code == "too_long"


def test_a_prompt_that_the_server_cuts_silently_is_told(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    server.lines = spoken("Hello", prompt=50)
    question = Generate((ChatMessage.of("user", "word " * 50),))
    first = answered(engine, question)[-1]
    assert isinstance(first, Done)
    assert not first.note
    server.lines = spoken("Hello", prompt=2048)
    second = answered(engine, Generate((ChatMessage.of("user", "word " * 6000),)))[-1]
    assert isinstance(second, Done)
    assert second.note


def test_a_pasted_text_behind_a_short_question_is_no_sign_of_that(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    """Of a word's prompt most is what the server writes around it, which says nothing of long texts."""
    loaded(engine, spec)
    server.lines = spoken("Hello", prompt=13)
    answered(engine, Generate((ChatMessage.of("user", "hi"),)))
    server.lines = spoken("Hello", prompt=1200)
    done = answered(engine, Generate((ChatMessage.of("user", "word " * 1000),)))[-1]
    assert isinstance(done, Done)
    assert not done.note


def test_a_model_that_is_listed_twice_is_one(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    server.models *= 2
    assert loaded(engine, spec).info.name == "tiny"


def test_of_several_calls_the_first_is_made_also_where_all_have_one_index(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    calls = [
        [{"index": 0, "id": "a", "function": {"name": "first", "arguments": '{"x"'}}],
        [{"index": 0, "function": {"arguments": ": 1}"}}],
        [{"index": 0, "id": "b", "function": {"name": "second", "arguments": "{}"}}],
    ]
    server.lines = [*(chunk({"tool_calls": each}) for each in calls), chunk({}, "tool_calls"), DONE]
    called = [event.call for event in answered(engine) if isinstance(event, ToolCalled)]
    assert called == [ToolCall("a", "first", '{"x": 1}')]


def test_a_page_instead_of_an_answer_is_no_such_server(
    engine: LocalEngine, spec: RemoteModel, server: OpenAIServer
) -> None:
    loaded(engine, spec)
    server.replies = [(200, {"Content-Type": "text/html"}, b"<html>Please log in</html>")]
    failed = answered(engine)[-1]
    assert isinstance(failed, Failed)
    assert server.url in str(failed.phrase)


def test_an_answer_from_elsewhere_needs_no_torch(server: OpenAIServer) -> None:
    """Which takes seconds to import, and memory, where all is computed by another machine."""
    code = f"""
import sys
from glmtui.engine.local import LocalEngine
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import RemoteModel
from glmtui.protocol.requests import Generate, Load
engine = LocalEngine()
*_, loaded = engine.submit(Load(RemoteModel("x", {server.url!r}, "tiny")))
*_, done = engine.submit(Generate((ChatMessage.of("user", "x"),)))
print(type(loaded).__name__, type(done).__name__, *({{"torch", "transformers"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["Loaded", "Done"]

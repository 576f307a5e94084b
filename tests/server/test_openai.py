"""OpenAI's protocol as its clients need it: fields, streams, errors on every path."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import scripted_engine
from served import QUESTION, MakeServer, Served

from glmtui.protocol.events import TokenCount
from glmtui.protocol.messages import ChatMessage, Text, Thought, ToolCall, ToolResult
from glmtui.protocol.requests import Complete, CountTokens, Generate
from glmtui.protocol.sampling import Sampling
from glmtui.server import openai, schema

TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "天气", "parameters": {"type": "object"}},
}
CALL = 'get_weather\n{"city": "北京"}'
THINKING = "<think>\nwell\n</think>\n\nHello!"


def nested(depth: int) -> dict[str, object]:
    """Return an object in an object, and so on."""
    found: dict[str, object] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


def error_of(response: httpx2.Response) -> dict[str, Any]:
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"].endswith("_error")
    return error


def generated(served: Served) -> Generate:
    return served.scripted.generated[-1]


# --- answers ---


def test_a_complete_answer_has_all_that_clients_need(served: Served) -> None:
    body = served.chat(model="nano").json()
    (choice,) = body["choices"]
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert isinstance(body["created"], int)
    assert body["model"] == "nano"
    assert choice["index"] == 0
    assert choice["finish_reason"] == "stop"
    assert choice["message"] == {
        "role": "assistant", "content": "Hello!", "refusal": None, "annotations": [],
    }  # fmt: skip
    assert body["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def test_a_stream_is_role_text_reason_and_done(served: Served) -> None:
    *chunks, done = served.stream()
    assert done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta["content"] for delta in deltas[1:-1]) == "Hello!"
    assert deltas[-1] == {}
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert len({chunk["id"] for chunk in chunks}) == len({chunk["created"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert not any("usage" in chunk for chunk in chunks)


def test_usage_comes_last_where_it_is_asked_for(served: Served) -> None:
    *chunks, usage, _done = served.stream(stream_options={"include_usage": True})
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    assert all(chunk["choices"] for chunk in chunks)


def test_a_thought_is_apart(served: Served) -> None:
    served.ready(THINKING)
    message = served.chat().json()["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello!", "well")
    *chunks, _done = served.stream()
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "well"
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello!"


def test_a_tool_call_is_apart(served: Served) -> None:
    served.ready(CALL)
    (choice,) = served.chat(tools=[TOOL]).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"]) == {"city": "北京"}
    *chunks, _done = served.stream(tools=[TOOL])
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    (streamed,) = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert streamed["index"] == 0
    assert streamed["function"] == call["function"]
    assert not any(delta.get("content") for delta in deltas)
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert generated(served).tools[0].name == "get_weather"


def test_a_tool_that_may_not_be_called_is_not_offered(served: Served) -> None:
    served.ready(CALL)
    assert served.chat(tools=[TOOL], tool_choice="none").json()["choices"][0]["message"]["content"] == CALL
    assert generated(served).tools == ()


@pytest.mark.parametrize("stop", ["l", ["no such", "l"]])
def test_an_answer_ends_before_a_stop(served: Served, stop: object) -> None:
    (choice,) = served.chat(stop=stop).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("He", "stop")


def test_a_text_is_gone_on_with(served: Served) -> None:
    body = served.client.post("/v1/completions", json={"prompt": "你好，", "max_tokens": 5}).json()
    assert body["object"] == "text_completion"
    assert body["choices"] == [{"index": 0, "text": "Hello!", "logprobs": None, "finish_reason": "stop"}]
    request = served.scripted.requests[-1]
    assert isinstance(request, Complete)
    assert (request.text, request.sampling.max_new_tokens) == ("你好，", 5)
    *chunks, done = served.stream("/v1/completions", prompt=["a"])
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello!"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_models(served: Served) -> None:
    listed = served.client.get("/v1/models").json()
    assert listed["object"] == "list"
    (entry,) = listed["data"]
    assert entry == served.client.get("/v1/models/nano").json()
    assert (entry["id"], entry["object"], entry["max_model_len"]) == ("nano", "model", 2048)
    assert error_of(served.client.get("/v1/models/some/other"))["code"] == "model_not_found"
    served.info = None
    assert served.client.get("/v1/models").json()["data"] == []
    assert served.client.get("/v1/models/nano").status_code == 503


@pytest.mark.parametrize("body", [{"prompt": "你好"}, {"content": "你好"}, {"messages": QUESTION}])
def test_tokens_are_counted(served: Served, body: dict[str, object]) -> None:
    counted = served.client.post("/tokenize", json=body).json()
    assert counted == {"count": 2, "max_model_len": 2048, "tokens": [ord("你"), ord("好")]}
    assert isinstance(served.scripted.requests[-1], CountTokens)


def test_more_tokens_than_any_model_takes_are_not_listed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "MOST_IDS", 3)
    assert served.client.post("/tokenize", json={"prompt": "一二三"}).json()["count"] == 3
    refused = served.client.post("/tokenize", json={"prompt": "一二三四"})
    assert (refused.status_code, error_of(refused)["param"]) == (400, "prompt")


def test_tokens_that_another_server_has_are_not_listed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their number is a guess there, and no list of none."""
    monkeypatch.setattr(scripted_engine, "TokenCount", lambda count, _ids: TokenCount(count))
    refused = served.client.post("/tokenize", json={"prompt": "你好"})
    assert (refused.status_code, bool(error_of(refused)["message"])) == (501, True)
    assert served.client.post("/tokenize", json={"prompt": ""}).status_code == 200


# --- what is asked for ---


def test_sampling_is_passed_on_and_else_the_servers_own(served: Served) -> None:
    served.chat()
    assert generated(served).sampling == Sampling()
    served.chat(
        temperature=0, top_p=1, seed=-5, max_tokens=7, top_k=-1, repetition_penalty=1.1, max_length=99
    )
    assert generated(served).sampling == Sampling(
        max_length=99, max_new_tokens=7, temperature=0, top_p=1, top_k=0, repetition_penalty=1.1, seed=-5
    )
    served.chat(max_completion_tokens=3, max_tokens=9)
    assert generated(served).sampling.max_new_tokens == 3


def test_messages_of_all_kinds_are_read(served: Served) -> None:
    served.chat([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "name": "x", "content": [
            {"type": "text", "text": "你"}, {"type": "text", "text": "好"},
        ]},
        {"role": "assistant", "content": None, "reasoning_content": "well", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "1", "content": "晴"},
    ])  # fmt: skip
    assert generated(served).messages == (
        ChatMessage.of("system", "Be brief."),
        ChatMessage.of("user", "你好"),
        ChatMessage("assistant", (Thought("well"), ToolCall("1", "f", "{}"))),
        ChatMessage("tool", (ToolResult("1", "晴"),)),
    )
    assert not generated(served).continue_answer
    assert not generated(served).leave_out_rounds


def test_an_answer_that_has_begun_goes_on(served: Served) -> None:
    served.chat([*QUESTION, {"role": "assistant", "content": "He"}], truncation="auto")
    assert generated(served).continue_answer
    assert generated(served).messages[-1] == ChatMessage("assistant", (Text("He"),))
    assert generated(served).leave_out_rounds


def test_what_is_unknown_or_changes_nothing_is_passed_over(served: Served) -> None:
    usual: dict[str, object] = {
        "n": 1, "logprobs": False, "logit_bias": {}, "presence_penalty": 0.0, "frequency_penalty": 0,
        "stop": None, "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "user": "me",
        "stream": False, "max_tokens": None, "parallel_tool_calls": True, "modalities": ["text"],
    }  # fmt: skip
    assert served.chat(**usual, no_such_field={"a": [1]}).status_code == 200


def test_half_a_character_does_no_harm(served: Served) -> None:
    response = served.client.post(
        "/v1/chat/completions", content=b'{"messages": [{"role": "user", "content": "\\ud800x\\u0000"}]}'
    )
    assert response.status_code == 200
    assert generated(served).messages[0].text == "?x\x00"


# --- errors ---

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "你好"}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 9}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**400}, "max_tokens"),
        ({"temperature": -(10**400)}, "temperature"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"n": 2}, "n"),
        ({"n": "\ud800"}, "n"),
        ({"n": nested(400)}, "n"),
        ({"model": nested(400)}, "model"),
        ({"messages": [{"role": nested(400), "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "\ud800"}]}]}, "messages[0].content[0]"),
        ({"tools": [{"function": {"name": "f", "parameters": nested(400)}}]}, "tools[0].function.parameters"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": nested(400)}}},
            "response_format",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": {"enum": ["x" * (1 << 15)]}},
                }
            },
            "response_format",
        ),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": "required", "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ],
)
def test_what_cannot_be_done_is_named(served: Served, body: dict[str, object], param: str) -> None:
    written = json.dumps({"messages": QUESTION, **body})  # httpx cannot write half a surrogate pair
    response = served.client.post("/v1/chat/completions", content=written)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert "e+" not in error["message"], "numbers are in full"
    assert served.scripted.generated == []


@pytest.mark.parametrize("body", [{}, {"prompt": None}, {"prompt": [1, 2]}, {"prompt": ["a", "b"]}])
def test_a_prompt_is_one_text(served: Served, body: dict[str, object]) -> None:
    response = served.client.post("/v1/completions", json=body)
    assert (response.status_code, error_of(response)["param"]) == (400, "prompt")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"messages": NaN}', b'{"a":' + b"[" * 100_000, b"1" * 5000],
)
def test_what_is_no_json_object_is_an_error_everywhere(served: Served, content: bytes) -> None:
    for path in ("/", "/v1/chat/completions", "/v1/completions", "/tokenize"):
        response = served.client.post(path, content=content)
        assert (response.status_code, error_of(response)["code"]) == (400, "invalid_json")


def test_text_in_another_encoding_is_told(served: Served) -> None:
    response = served.client.post("/", content='{"prompt": "你好"}'.encode("gbk"))
    assert "UTF-8" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", "/page/../options.py", 404),
        ("GET", "/page/%2e%2e/options.py", 404),
        ("GET", "/page/vendor", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/", 405),
        ("POST", "/health", 405),
        ("OPTIONS", "/v1/models", 405),
        ("POST", "/v1/embeddings", 501),
    ],
)
def test_every_path_answers_in_the_same_shape(served: Served, method: str, path: str, status: int) -> None:
    response = served.client.request(method, path)
    assert response.status_code == status
    error_of(response)


def test_another_model_is_not_answered_for(served: Served) -> None:
    response = served.chat(model="gpt-4o")
    assert response.status_code == 404
    error = error_of(response)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "nano" in error["message"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "told", "param"),
    [
        ("too_long", 400, "context_length_exceeded", None),
        ("bad_value", 400, "bad_value", None),
        ("bad_schema", 400, "bad_schema", "response_format"),
        ("no_tools", 400, "no_tools", "tools"),
        ("unavailable", 400, "unavailable", None),
        ("server_failed", 502, "server_failed", None),
        ("no_model", 503, "no_model", None),
        ("out_of_memory", 503, "out_of_memory", None),
        ("unexpected", 500, "unexpected", None),
    ],
)
def test_what_the_engine_cannot_do(
    served: Served, streaming: bool, code: str, status: int, told: str, param: str | None
) -> None:
    def refuse(_request: Generate, _stream: object) -> None:
        served.scripted.fail, served.scripted.code = "It did not work.", code
        served.scripted._fail()

    served.scripted.answer = refuse  # type: ignore[method-assign,assignment]
    response = served.chat(stream=streaming)
    assert response.status_code == status
    error = error_of(response)
    assert (error["code"], error["param"]) == (told, param)
    assert error["message"].endswith("It did not work.")
    assert ("longer than the model's context length" in error["message"]) is (code == "too_long")


def test_an_answer_that_breaks_off_says_so(served: Served) -> None:
    served.scripted.fail = "The device is gone."
    *chunks, last = served.stream()
    assert chunks[-1]["choices"][0]["delta"] == {"content": "Hel"}
    assert last["error"]["message"] == "The device is gone."


def test_nothing_is_answered_without_a_model(served: Served) -> None:
    served.info = None
    for response in (served.chat(), served.client.post("/", json={"prompt": "x"})):
        assert (response.status_code, error_of(response)["code"]) == (503, "no_model")
        assert response.headers["retry-after"]


@pytest.mark.faults
def test_what_nobody_foresaw_is_told_without_details(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))

    def fail(*_arguments: object) -> None:
        raise LookupError("a secret")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "read_body", fail)
        response = served.chat()
    assert (response.status_code, error_of(response)["code"]) == (500, "unexpected")
    assert "secret" not in response.text
    with monkeypatch.context() as patch:
        patch.setattr(served.engine, "submit", fail)
        response = served.chat()
    assert (response.status_code, error_of(response)["code"]) == (500, "unexpected")
    assert served.chat().status_code == 200


def test_a_body_has_a_limit(serve: MakeServer) -> None:
    served = serve(limits={"body": 1000})
    text = "x" * 2000
    assert error_of(served.chat([{"role": "user", "content": text}]))["code"] == "body_too_large"
    response = served.client.post("/", content=(part for part in [b'{"prompt": "', text.encode(), b'"}']))
    assert (response.status_code, error_of(response)["code"]) == (413, "body_too_large")
    assert served.chat().status_code == 200


def test_a_schema_is_passed_on(served: Served) -> None:
    served.ready('{"a": 1}')
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for given, wanted in (
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, schema),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "text"}, None),
    ):
        assert served.chat(response_format=given).status_code == 200
        assert served.scripted.generated[-1].json_schema == wanted

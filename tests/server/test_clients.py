"""Clients that others wrote, against this server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import MakeServer, Served

openai = pytest.importorskip("openai", reason="needs OpenAI's client: pip install openai")

CHAT: list[Any] = [{"role": "user", "content": "你好"}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
        yield client


def test_answers(served: Served, client: Any) -> None:
    served.ready("<think>\nwell\n</think>\n\nHello!")
    answer = client.chat.completions.create(model="nano", messages=CHAT)
    assert answer.choices[0].message.content == "Hello!"
    assert answer.choices[0].message.reasoning_content == "well"
    assert answer.usage.total_tokens == 12
    options = {"include_usage": True}
    chunks = [
        *client.chat.completions.create(model="nano", messages=CHAT, stream=True, stream_options=options)
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello!"
    assert chunks[-1].usage.completion_tokens == 2
    assert client.completions.create(model="nano", prompt="x").choices[0].text.endswith("Hello!")
    assert [model.id for model in client.models.list()] == ["nano"]
    assert client.models.retrieve("nano").owned_by == "glmtui"


def test_tools(served: Served, client: Any) -> None:
    served.ready('f\n{"a": 1}')
    answer = client.chat.completions.create(model="nano", messages=CHAT, tools=TOOLS)
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"a": 1}
    with client.chat.completions.stream(model="nano", messages=CHAT, tools=TOOLS) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert streamed.finish_reason == "tool_calls"
    assert streamed.message.tool_calls[0].function.name == "f"
    told = [*CHAT, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "晴"}]
    client.chat.completions.create(model="nano", messages=told, tools=TOOLS)
    assert served.scripted.generated[-1].messages[-1].text == "晴"


def test_errors(served: Served, client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=CHAT)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="nano", messages=CHAT, temperature=-1)
    assert bad.value.param == "temperature"
    served.scripted.fail = "The device is gone."
    with pytest.raises(openai.APIError, match="The device is gone"):
        list(client.chat.completions.create(model="nano", messages=CHAT, stream=True))


def test_a_key(serve: MakeServer) -> None:
    served = serve(keys=("k",))
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.models.list()
        assert client.with_options(api_key="k").models.list().data[0].id == "nano"


def test_langchain(served: Served) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="needs langchain-openai")
    served.ready("<think>\nwell\n</think>\n\nHello!")
    model = langchain.ChatOpenAI(base_url=f"{served.url}/v1", api_key="x", model="nano", max_retries=0)
    answer = model.invoke("你好")
    assert answer.content == "Hello!"
    assert answer.usage_metadata["output_tokens"] == 2
    assert "".join(chunk.content for chunk in model.stream("你好")) == "Hello!"
    served.ready('f\n{"a": 1}')
    assert model.bind_tools(TOOLS).invoke("你好").tool_calls[0]["args"] == {"a": 1}


def test_litellm(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm", reason="needs litellm")
    served.ready("Hello!")
    where: dict[str, Any] = {"model": "openai/nano", "api_base": f"{served.url}/v1", "api_key": "x"}
    answer = litellm.completion(messages=CHAT, **where)
    assert answer.choices[0].message.content == "Hello!"
    chunks = litellm.completion(messages=CHAT, stream=True, **where)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello!"
    served.scripted.fail, served.scripted.code = "Too long.", "too_long"
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(messages=CHAT, num_retries=0, **where)


def test_llm(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    llm = pytest.importorskip("llm", reason="needs llm")
    served.ready("Hello!")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f'- model_id: here\n  model_name: nano\n  api_base: "{served.url}/v1"\n', "utf-8"
    )
    model = llm.get_model("here")
    model.key = "x"
    assert model.prompt("你好", stream=False).text() == "Hello!"
    assert "".join(model.prompt("你好")) == "Hello!"

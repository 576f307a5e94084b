"""What vLLM and llama-server really sent, replayed: `wire/` holds captured answers of theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts.engine import until_end
from openai_server import OpenAIServer, openai_server

from glmtui.engine.local import LocalEngine
from glmtui.protocol.events import Done, End, Event, Failed, Loaded, Tokens, ToolCalled
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import RemoteModel
from glmtui.protocol.requests import Generate, Load, Tool

WIRE = {path.stem: json.loads(path.read_text("utf-8")) for path in (Path(__file__).parent / "wire").iterdir()}
STREAMS = [
    pytest.param(capture, id=f"{name}-{key}")
    for name, captures in sorted(WIRE.items())
    for key, capture in captures.items()
    if "sse_lines" in capture
]
ASK = (ChatMessage.of("user", "你好"),)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server() as state:
        yield state


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    engine = LocalEngine()
    yield engine
    engine.close()
    assert engine.join(60)


def reply(capture: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    return capture["status"], {}, json.dumps(capture["json"]).encode()


def end_of(engine: LocalEngine, server: OpenAIServer, key: str = "") -> End:
    spec = RemoteModel(f"{server.url}#tiny", server.url, "tiny", key)
    return until_end(engine.submit(Load(spec)))[-1]  # type: ignore[return-value]


def asked(engine: LocalEngine, server: OpenAIServer, *tools: Tool) -> list[Event]:
    assert isinstance(end_of(engine, server), Loaded)
    return until_end(engine.submit(Generate(ASK, tools=tools)))


@pytest.mark.parametrize("name", [name for name, captures in WIRE.items() if "models" in captures])
def test_the_list_of_models(engine: LocalEngine, server: OpenAIServer, name: str) -> None:
    server.models = WIRE[name]["models"]["json"]["data"]
    end = end_of(engine, server)
    assert isinstance(end, Loaded)
    assert end.info.name == "tiny"
    assert end.info.max_length == 256


@pytest.mark.parametrize("capture", STREAMS)
def test_a_stream(engine: LocalEngine, server: OpenAIServer, capture: dict[str, Any]) -> None:
    """Everything that was said arrives once, text and thought apart, with the end and the counts."""
    lines = [line for line in capture["sse_lines"] if line.startswith("data:")]
    chunks = [json.loads(line[5:]) for line in lines if line != "data: [DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    said = "".join(delta.get("content") or "" for delta in deltas)
    thought = "".join(delta.get("reasoning") or "" for delta in deltas)
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
    usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
    (reason,) = {c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]}

    server.lines = lines
    tools = [Tool(each["function"]["name"]) for each in capture["request"]["body"].get("tools", ())]
    events = asked(engine, server, *tools)
    done = events[-1]
    assert isinstance(done, Done)
    assert done.reason == ("length" if reason == "length" else "stop")
    tokens = [event for event in events if isinstance(event, Tokens)]
    if said.startswith("<think>"):
        thought, said = said.removeprefix("<think>"), ""
    assert "".join(event.text for event in tokens if not event.thought) == said
    assert "".join(event.text for event in tokens if event.thought).strip() == thought.strip()
    called = [event.call for event in events if isinstance(event, ToolCalled)]
    assert [call.arguments for call in called] == ["".join(c.get("arguments", "") for c in calls)][
        : bool(calls)
    ]
    assert [call.name for call in called] == [call["name"] for call in calls if "name" in call]
    if usage:
        assert done.stats.prompt_tokens == usage["prompt_tokens"]
        assert done.stats.answer_tokens == usage["completion_tokens"]


@pytest.mark.parametrize("name", [name for name, captures in WIRE.items() if "models_noauth" in captures])
@pytest.mark.parametrize(
    ("how", "key", "told"),
    [("models_noauth", "", "wants a key"), ("models_badkey", "env:SOME_KEY", "refuses the key")],
)
def test_a_refused_key(
    engine: LocalEngine,
    server: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    how: str,
    key: str,
    told: str,
) -> None:
    monkeypatch.setenv("SOME_KEY", "wrong")
    monkeypatch.setattr(server, "list_reply", reply(WIRE[name][how]))
    end = end_of(engine, server, key)
    assert isinstance(end, Failed)
    assert told in str(end.phrase)


@pytest.mark.parametrize(
    ("name", "how", "code"),
    [
        ("llamacpp-b11434", "chat_too_long", "too_long"),
        ("vllm-0.32-with-reasoning-parser", "chat_too_long", "too_long"),
        ("vllm-0.32-with-reasoning-parser", "chat_bad_model", "not_found"),
        ("vllm-0.32-with-reasoning-parser", "chat_bad_temp", None),
        ("llamacpp-b11434", "not_found", None),
        ("vllm-0.32-with-reasoning-parser", "not_found", None),
    ],
)
def test_a_refused_question(
    engine: LocalEngine, server: OpenAIServer, name: str, how: str, code: str | None
) -> None:
    capture = WIRE[name][how]
    server.refuse = lambda _body: reply(capture)
    failed = asked(engine, server)[-1]
    assert isinstance(failed, Failed)
    assert code in (None, failed.code)
    assert str(failed.phrase)

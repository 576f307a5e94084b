"""The published api.py's protocol, falsy values included."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from served import Served

from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.sampling import Sampling


def test_the_published_example(served: Served) -> None:
    served.ready("你好👋！")
    response = served.client.post("/", json={"prompt": "你好", "history": []})
    assert response.status_code == 200
    body = response.json()
    assert list(body) == ["response", "history", "status", "time"]
    assert body["response"] == "你好👋！"
    assert body["history"] == [["你好", "你好👋！"]]
    assert body["status"] == 200
    assert datetime.strptime(body["time"], "%Y-%m-%d %H:%M:%S")
    assert "你好" in response.text, "not as escapes"


def test_history_goes_before_the_question(served: Served) -> None:
    history = [["一", "二"], ["三", ""]]
    body = served.client.post("/", json={"prompt": "四", "history": history}).json()
    assert body["history"] == [*history, ["四", "Hello!"]]
    said = served.scripted.generated[-1].messages
    assert [(message.role, message.text) for message in said] == [
        ("user", "一"), ("assistant", "二"), ("user", "三"), ("assistant", ""), ("user", "四"),
    ]  # fmt: skip


@pytest.mark.parametrize("nothing", [None, 0, 0.0, "", False, [], {}])
def test_a_false_value_is_the_default(served: Served, nothing: object) -> None:
    body = dict.fromkeys(("history", "max_length", "top_p", "temperature"), nothing)
    body["image"] = None
    assert served.client.post("/", json={"prompt": "x", **body}).status_code == 200
    request = served.scripted.generated[-1]
    assert request.sampling == Sampling(max_length=2048, top_p=0.7, temperature=0.95)
    assert request.messages == (ChatMessage.of("user", "x"),)
    assert request.leave_out_rounds


def test_values_are_taken(served: Served) -> None:
    served.client.post("/", json={"prompt": "x", "max_length": 50, "top_p": 0.5, "temperature": 0.01})
    assert served.scripted.generated[-1].sampling == Sampling(max_length=50, top_p=0.5, temperature=0.01)


def test_a_thought_is_part_of_the_response(served: Served) -> None:
    served.ready("<think>\nwell\n</think>\n\nHello!")
    assert (
        served.client.post("/", json={"prompt": "x"}).json()["response"]
        == "<think>\nwell\n</think>\n\nHello!"
    )


@pytest.mark.parametrize("kind", [None, "application/x-www-form-urlencoded", "text/plain"])
def test_any_content_type_will_do_outside_browsers(served: Served, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    response = served.client.post("/", content=json.dumps({"prompt": "x"}), headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "x", "history": "y"}, "history"),
        ({"prompt": "x", "history": [["a"]]}, "history"),
        ({"prompt": "x", "history": [["a", 1]]}, "history[0]"),
        ({"prompt": "x", "max_length": "long"}, "max_length"),
        ({"prompt": "x", "top_p": 2}, "top_p"),
        ({"prompt": "x", "temperature": -1}, "temperature"),
        ({"image": "AAAA", "text": "x", "history": []}, "image"),
    ],
)
def test_what_is_wrong_is_named(served: Served, body: dict[str, object], param: str) -> None:
    response = served.client.post("/", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)

"""Answers that are JSON of a schema, whatever the model would rather say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import glmtui
from glmtui.engine import grammar
from glmtui.engine.chat_model import Answer, ChatModel
from glmtui.errors import BadSchemaError, UnavailableError
from glmtui.protocol.messages import ChatMessage

pytest.importorskip("llguidance", reason="needs llguidance: pip install 'glmtui[json]'")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "languages": {"type": "array", "items": {"enum": ["中文", "English"]}, "maxItems": 2},
    },
    "required": ["name", "age", "languages"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def nano() -> ChatModel:
    return glmtui.load()


def asked(model: ChatModel, schema: Mapping[str, Any], **sampling: Any) -> Answer:
    how = replace(model.default_sampling, **{"max_new_tokens": 200, **sampling})
    answer = model.stream([ChatMessage.of("user", "你是谁？")], how, json_schema=schema)
    for _piece in answer:
        pass
    return answer


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
def test_the_answer_is_of_the_schema(nano: ChatModel, seed: int, temperature: float) -> None:
    answer = asked(nano, PERSON, seed=seed, temperature=temperature)
    value = json.loads(answer.text)
    assert answer.reason == "stop"
    assert list(value) == ["name", "age", "languages"]
    assert len(value["name"]) <= 12
    assert 0 <= value["age"] <= 150
    assert set(value["languages"]) <= {"中文", "English"}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [({"enum": ["yes", "no"]}, str), ({"type": "boolean"}, bool), ({"const": None}, type(None))],
)
def test_what_is_no_object(nano: ChatModel, schema: dict[str, Any], kind: type) -> None:
    assert isinstance(json.loads(asked(nano, schema).text), kind)


def test_an_answer_that_is_cut_is_the_beginning(nano: ChatModel) -> None:
    answer = asked(nano, PERSON, max_new_tokens=4)
    assert answer.reason == "length"
    assert answer.text.startswith('{"name')


def test_an_answer_without_a_schema_is_what_it_was(nano: ChatModel) -> None:
    messages = [ChatMessage.of("user", "你是谁？")]
    free = nano.stream(messages, replace(nano.default_sampling, temperature=0))
    assert "".join(piece.text for piece in free).startswith("我")


@pytest.mark.parametrize("schema", [{"type": "nope"}, {"$ref": "http://example.com/x"}, {"properties": 7}])
def test_a_schema_that_cannot_be_followed_is_refused(nano: ChatModel, schema: dict[str, Any]) -> None:
    with pytest.raises(BadSchemaError, match=r"followed: (?!at \d)"):
        asked(nano, schema)


def test_a_thought_is_free(nano: ChatModel) -> None:
    vocabulary = nano._vocabulary
    rules = grammar.Grammar(vocabulary, {"type": "boolean"}, after_thought=True)
    logits = nano.logits(nano.tokenizer.encode("你好"))[-1]
    for text in ("well", "</think>"):
        assert rules.limited(logits) is logits
        for token in vocabulary(text.encode()):
            rules.accept(token)
    allowed = rules.limited(logits).isfinite().nonzero().flatten().tolist()
    assert {vocabulary.tokens[token][:1] for token in allowed} <= {b" ", b"t", b"f"}


def test_the_bytes_of_tokens_are_what_they_say(nano: ChatModel) -> None:
    text = 'JSON {"键": "值 😊", "n": [1, 2.5e-3]}'
    ids = nano.tokenizer.raw.encode_text(text)
    said = nano.tokenizer.raw.token_bytes()
    assert b"".join(said[token] for token in ids).decode().removeprefix(" ") == text


def test_without_the_library_the_command_is_told(nano: ChatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(UnavailableError, match="pip install"):
        grammar.Vocabulary(nano.tokenizer.raw, [])

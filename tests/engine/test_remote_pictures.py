"""Pictures to models behind servers: as data URIs, and only where somebody looks at them."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import pytest
from contracts.engine import until_end
from openai_server import OpenAIServer, openai_server
from picture_files import GOOD, pil, png

from glmtui.engine.local import LocalEngine
from glmtui.protocol.events import Failed, Loaded
from glmtui.protocol.messages import ChatMessage, Image, Text
from glmtui.protocol.models import ModelInfo, RemoteModel
from glmtui.protocol.requests import Generate, Load


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


def load(engine: LocalEngine, server: OpenAIServer, **more: Any) -> ModelInfo:
    name = server.models[0]["id"]
    end = until_end(engine.submit(Load(RemoteModel(f"{server.url}#{name}", server.url, name, **more))))[-1]
    assert isinstance(end, Loaded), end
    assert engine.capabilities.images is end.info.sees_images
    return end.info


def asked(data: bytes, text: str = "What is it?") -> Generate:
    image = Image(hashlib.sha256(data).hexdigest(), "image/png", "cat.png")
    return Generate((ChatMessage("user", (image, Text(text))),), images={image.sha256: data})


def sent(engine: LocalEngine, server: OpenAIServer, data: bytes, text: str = "What is it?") -> list[Any]:
    until_end(engine.submit(asked(data, text)))
    content: list[Any] = server.asked[-1]["messages"][0]["content"]
    return content


def test_a_picture_goes_as_a_data_uri(engine: LocalEngine, server: OpenAIServer) -> None:
    load(engine, server, images=True)
    assert sent(engine, server, png()) == [
        {
            "type": "image_url",
            "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png()).decode()}"},
        },
        {"type": "text", "text": "What is it?"},
    ]
    assert len(sent(engine, server, png(), "")) == 1


@pytest.mark.parametrize("kind", ["turned", "bmp", "tiff"])
def test_what_servers_show_otherwise_goes_as_it_is_seen_here(
    engine: LocalEngine, server: OpenAIServer, kind: str
) -> None:
    load(engine, server, images=True)
    address = sent(engine, server, GOOD[kind])[0]["image_url"]["url"]
    head, _comma, data = address.partition(",")
    assert head == "data:image/png;base64"
    assert pil.open(io.BytesIO(base64.b64decode(data))).size == (64, 48)


def test_one_that_is_gone_is_said(engine: LocalEngine, server: OpenAIServer) -> None:
    load(engine, server, images=True)
    request = asked(png())
    end = until_end(engine.submit(Generate(request.messages)))[-1]
    assert isinstance(end, Failed)
    assert "cat.png" in str(end.phrase)


@pytest.mark.parametrize(
    ("entry", "sees"),
    [
        ({"id": "tiny"}, False),
        ({"id": "THUDM/glm-4v-9b"}, True),
        ({"id": "GLM-4.1V-9B-Thinking"}, True),
        ({"id": "glm-4.5v"}, True),
        ({"id": "visualglm-6b"}, True),
        ({"id": "glm-4-9b-chat"}, False),
        ({"id": "qwen2.5-vl:7b"}, True),
        ({"id": "tiny", "sees_images": True}, True),
        ({"id": "visualglm-6b", "sees_images": False}, False),
        ({"id": "tiny", "capabilities": ["completion", "multimodal"]}, True),
        ({"id": "tiny", "architecture": {"input_modalities": ["text", "image"]}}, True),
        ({"id": "glm-4.5v", "input_modalities": ["text", 3]}, False),
        ({"id": "tiny", "capabilities": 3, "architecture": []}, False),
    ],
)
def test_who_sees(engine: LocalEngine, server: OpenAIServer, entry: dict[str, Any], sees: bool) -> None:
    server.models = [entry]
    assert load(engine, server).sees_images is sees
    assert load(engine, server, images=not sees).sees_images is not sees


def test_pictures_do_not_confuse_what_is_known_of_tokens(engine: LocalEngine, server: OpenAIServer) -> None:
    load(engine, server, images=True)
    for _number in range(2):
        sent(engine, server, png())
    model = engine._model
    assert model is not None
    assert not model.counted  # type: ignore[union-attr]  # a remote one

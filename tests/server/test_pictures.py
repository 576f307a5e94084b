"""Pictures over HTTP: as data URIs, in VisualGLM's own protocol, refused where nobody looks at them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from picture_files import BAD, GOOD, png
from scripted_engine import NANO
from served import MakeServer, Served

from glmtui.protocol.messages import Image, Text
from glmtui.protocol.requests import CountTokens
from glmtui.protocol.sampling import Sampling

PICTURE = Image(hashlib.sha256(png()).hexdigest(), "image/png")
ENCODED = base64.b64encode(png()).decode()


@pytest.fixture
def seeing(served: Served) -> Served:
    served.ready("A gradient.")
    served.info = replace(NANO, name="visualglm-6b", sees_images=True)
    return served


def part(data: bytes = png(), kind: str = "image/png") -> dict[str, Any]:
    return {
        "type": "image_url",
        "image_url": {"url": f"data:{kind};base64,{base64.b64encode(data).decode()}"},
    }


def question(*parts: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": "What is it?"}]}]


def refused(served: Served, *parts: object) -> dict[str, Any]:
    response = served.chat(question(*parts))
    assert response.status_code == 400, response.text
    assert served.scripted.generated == []
    error: dict[str, Any] = response.json()["error"]
    return error


# --- /v1/chat/completions ---


def test_a_picture_reaches_the_model(seeing: Served) -> None:
    response = seeing.chat(question(part()))
    assert response.json()["choices"][0]["message"]["content"] == "A gradient."
    (request,) = seeing.scripted.generated
    assert request.messages[0].parts == (PICTURE, Text("What is it?"))
    assert request.images == {PICTURE.sha256: png()}


def test_the_other_ways_to_write_one(seeing: Served) -> None:
    address = part()["image_url"]["url"]
    for written in (
        {"type": "image_url", "image_url": address},
        {"type": "input_image", "image_url": address},
        {"type": "image_url", "image_url": {"url": address, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": address.replace("image/png", "")}},
        {"type": "image_url", "image_url": {"url": address.replace("base64", "charset=x;base64")}},
    ):
        assert seeing.chat(question(written)).status_code == 200, written
    assert {frozenset(request.images) for request in seeing.scripted.generated} == {
        frozenset([PICTURE.sha256])
    }


@pytest.mark.parametrize("kind", GOOD)
def test_right_pictures(seeing: Served, kind: str) -> None:
    assert seeing.chat(question(part(GOOD[kind]))).status_code == 200


@pytest.mark.parametrize("kind", [kind for kind in BAD if kind != "large"])
def test_wrong_ones_are_a_clear_400(seeing: Served, kind: str) -> None:
    error = refused(seeing, part(BAD[kind]))
    assert error["param"] == "messages[0].content[0].image_url.url"
    assert error["code"] == "invalid_image"
    assert "cannot be used" in error["message"]


@pytest.mark.parametrize(
    "url",
    ["https://example.org/cat.png", "http://169.254.169.254/x", "file:///etc/passwd", "data:,x", "", 3, None],
)
def test_nothing_is_fetched(seeing: Served, url: object) -> None:
    error = refused(seeing, {"type": "image_url", "image_url": {"url": url}})
    assert error["param"] == "messages[0].content[0].image_url.url"


def test_what_is_no_base64(seeing: Served) -> None:
    error = refused(seeing, {"type": "image_url", "image_url": "data:image/png;base64,=A*"})
    assert error["message"] == "messages[0].content[0].image_url is not base64."


def test_other_parts_are_refused_as_before(seeing: Served) -> None:
    assert "takes text and pictures" in refused(seeing, {"type": "input_audio"})["message"]
    response = seeing.chat([{"role": "system", "content": [part()]}, *question()])
    assert response.status_code == 400, "only a question has pictures"


def test_a_model_that_does_not_see(served: Served) -> None:
    error = refused(served, part())
    assert error["message"].startswith("The model that is loaded takes text alone")
    assert error["code"] == "unsupported_content"


def test_tokens_are_counted_with_them(seeing: Served) -> None:
    assert seeing.client.post("/tokenize", json={"messages": question(part())}).status_code == 200
    request = seeing.scripted.requests[-1]
    assert isinstance(request, CountTokens)
    assert request.images == {PICTURE.sha256: png()}


def test_the_list_of_models_tells_who_sees(seeing: Served) -> None:
    assert seeing.client.get("/v1/models").json()["data"][0]["sees_images"] is True


def test_there_is_more_room_for_pictures(serve: MakeServer) -> None:
    served = serve(limits={"body": 1000, "picture_body": 100_000})
    large = question({"type": "text", "text": "x" * 2000}, part())
    assert served.chat(large).status_code == 413
    served.info = replace(NANO, sees_images=True)
    assert served.chat(large).status_code == 200
    assert served.chat(question({"type": "text", "text": "x" * 200_000})).status_code == 413


# --- VisualGLM's own ---


def test_the_published_protocol(seeing: Served) -> None:
    body = {"image": ENCODED, "text": "描述这张图片。", "history": []}
    answer = seeing.client.post("/", json=body).json()
    assert list(answer) == ["result", "history", "status", "time"]
    assert answer["result"] == "A gradient."
    assert answer["history"] == [["描述这张图片。", "A gradient."]]
    (request,) = seeing.scripted.generated
    assert request.messages[0].parts == (PICTURE, Text("描述这张图片。"))
    assert request.images == {PICTURE.sha256: png()}
    assert request.sampling == Sampling(
        max_length=2048, top_p=0.4, top_k=100, temperature=0.8, repetition_penalty=1.2
    )


def test_the_picture_belongs_to_the_first_question(seeing: Served) -> None:
    body = {"image": f"data:image/png;base64,{ENCODED}", "text": "三", "history": [["一", "二"]], "top_k": 5}
    answer = seeing.client.post("/", json=body).json()
    assert answer["history"] == [["一", "二"], ["三", "A gradient."]]
    (request,) = seeing.scripted.generated
    assert [message.parts for message in request.messages] == [
        (PICTURE, Text("一")), (Text("二"),), (Text("三"),),
    ]  # fmt: skip
    assert request.sampling.top_k == 5


def test_text_alone_works_too(seeing: Served) -> None:
    for body in ({"text": "hi"}, {"text": "hi", "image": None}, {"prompt": "hi"}):
        answer = seeing.client.post("/", json=body).json()
        assert answer["history"] == [["hi", "A gradient."]]
        assert ("result" in answer) == ("text" in body)
    assert all(request.images == {} for request in seeing.scripted.generated)


@pytest.mark.parametrize("image", ["AAAA", "not base64", 3, base64.b64encode(BAD["bomb"]).decode()])
def test_wrong_pictures_there(seeing: Served, image: object) -> None:
    response = seeing.client.post("/", json={"image": image, "text": "x"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "image"

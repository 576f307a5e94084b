"""The published ``api.py``: one ``POST /`` with a question and its history, one JSON object as the answer.

Facts: a value that is missing or false means its default there, so that a temperature of 0 is 0.95; the
answer has ``response``, ``history``, ``status`` and ``time``, in this order.

VisualGLM-6B's has a picture in base64 as ``image``, the question as ``text`` and the answer as ``result``,
and defaults of its own. Its history names no pictures: the one that is sent belongs to the first question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glmtui.models.chat_formats import thoughts
from glmtui.models.chat_formats.formats import messages_of
from glmtui.protocol.messages import ChatMessage, Image, Text, Thought
from glmtui.protocol.requests import Generate
from glmtui.protocol.sampling import Sampling
from glmtui.server import schema
from glmtui.server.answering import JSON, Answer, Completed
from glmtui.server.dispatcher import Dispatcher
from glmtui.server.errors import bad_request
from glmtui.server.guard import CLIENT
from glmtui.server.options import Limits
from glmtui.server.pictures import Pictures
from glmtui.server.service import Service

DEFAULTS = {"max_length": 2048, "top_p": 0.7, "temperature": 0.95}
WITH_PICTURE = {"max_length": 2048, "top_p": 0.4, "temperature": 0.8, "top_k": 100}
REPETITION = 1.2
"""The penalty with a picture, which no request changes."""
Pairs = list[tuple[str, str]]


class SeedApi:
    """``POST /``.

    Args:
        service: the engine and its model.
        dispatcher: gives it requests.
        limits: of bodies.
    """

    def __init__(self, service: Service, dispatcher: Dispatcher, limits: Limits) -> None:
        self._service, self._dispatcher, self._limits = service, dispatcher, limits

    @property
    def routes(self) -> list[Route]:
        """Its path."""
        return [Route("/", self._chat, methods=["POST"])]

    async def _chat(self, request: Request) -> Response:
        loaded = self._service.info()
        sees = loaded is not None and loaded.sees_images
        body = await schema.read_body(request, self._limits, pictures=sees)
        _model = self._service.model
        with_picture = body.get("image") is not None or (sees and "text" in body)
        pictures = Pictures(seen=sees)
        image: tuple[Image, ...] = ()
        if body.get("image") or (with_picture and not sees):
            image = (await asyncio.to_thread(pictures.decoded, _base64(body["image"]), "image"),)
        question, answer_name = ("text", "result") if with_picture else ("prompt", "response")
        prompt = schema.text(body.get(question), question)
        history = await asyncio.to_thread(_pairs, body.get("history"))  # it may be long
        first, *others = await asyncio.to_thread(messages_of, prompt, history)
        messages = (ChatMessage(first.role, (*image, *first.parts)), *others)
        sampling = _sampling(body, self._service.sampling(), WITH_PICTURE if with_picture else DEFAULTS)
        generate = Generate(messages, sampling, images=pictures.files)
        job = self._dispatcher.submit(generate, request.scope[CLIENT])

        def write(answer: Answer) -> JSON:
            thought = (Thought(answer.thought),) if answer.thought else ()
            response = thoughts.written((*thought, Text(answer.text)))
            now = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
            return {
                answer_name: response,
                "history": [*history, (prompt, response)],
                "status": 200,
                "time": now,
            }

        return Completed(job, write)


def _base64(value: object) -> str:
    """Return a picture's file in base64, also of a data URI."""
    given = schema.text(value, "image")
    return given.partition(",")[2] if given.startswith("data:") else given


def _sampling(body: Mapping[str, Any], base: Sampling, defaults: Mapping[str, float]) -> Sampling:
    given = {name: body.get(name) or default for name, default in defaults.items()}
    length = schema.integer(given, "max_length", 1, 1 << 31)
    temperature = schema.number(given, "temperature", 0, 100)
    top_p = schema.number(given, "top_p", 0, 1)
    assert length is not None
    assert temperature is not None
    assert top_p is not None
    found = replace(base, max_length=length, temperature=temperature, top_p=top_p, max_new_tokens=None)
    if (top_k := schema.integer(given, "top_k", 0, 1_000_000)) is not None:
        return replace(found, top_k=top_k, repetition_penalty=REPETITION)
    return found


def _pairs(value: object) -> Pairs:
    if not value:
        return []
    if not isinstance(value, list):
        raise bad_request("history must be a list of [question, answer].", "history")
    pairs = []
    for place, each in enumerate(value):
        if not isinstance(each, list) or len(each) != 2:
            raise bad_request(f"history[{place}] must be [question, answer].", "history")
        question, answer = (schema.text(part, f"history[{place}]") for part in each)
        pairs.append((question, answer))
    return pairs

"""The published ``api.py``: one ``POST /`` with a question and its history, one JSON object as the answer.

Facts: a value that is missing or false means its default there, so that a temperature of 0 is 0.95; the
answer has ``response``, ``history``, ``status`` and ``time``, in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glmtui.models.chat_formats import thoughts
from glmtui.models.chat_formats.formats import messages_of
from glmtui.protocol.messages import Text, Thought
from glmtui.protocol.requests import Generate
from glmtui.protocol.sampling import Sampling
from glmtui.server import schema
from glmtui.server.answering import JSON, Answer, Completed
from glmtui.server.dispatcher import Dispatcher
from glmtui.server.errors import bad_request
from glmtui.server.guard import CLIENT
from glmtui.server.options import Limits
from glmtui.server.service import Service

DEFAULTS = {"max_length": 2048, "top_p": 0.7, "temperature": 0.95}
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
        body = await schema.read_body(request, self._limits)
        _model = self._service.model
        if "image" in body:
            raise bad_request("The model that is loaded does not see images.", "image", "unsupported_content")
        prompt, history = schema.text(body.get("prompt"), "prompt"), _pairs(body.get("history"))
        generate = Generate(tuple(messages_of(prompt, history)), _sampling(body, self._service.sampling()))
        job = self._dispatcher.submit(generate, request.scope[CLIENT])

        def write(answer: Answer) -> JSON:
            thought = (Thought(answer.thought),) if answer.thought else ()
            response = thoughts.written((*thought, Text(answer.text)))
            now = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
            return {
                "response": response,
                "history": [*history, (prompt, response)],
                "status": 200,
                "time": now,
            }

        return Completed(job, write)


def _sampling(body: Mapping[str, Any], base: Sampling) -> Sampling:
    given = {name: body.get(name) or default for name, default in DEFAULTS.items()}
    length = schema.integer(given, "max_length", 1, 1 << 31)
    temperature = schema.number(given, "temperature", 0, 100)
    top_p = schema.number(given, "top_p", 0, 1)
    assert length is not None
    assert temperature is not None
    assert top_p is not None
    return replace(base, max_length=length, temperature=temperature, top_p=top_p, max_new_tokens=None)


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

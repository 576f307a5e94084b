"""OpenAI's protocol: chat and text completions, models, tokens.

Facts: what clients need and what vLLM and llama-server send was captured; both leave ``reasoning`` apart, and
take ``max_tokens`` as well as ``max_completion_tokens``. ``truncation: "auto"`` (a name of OpenAI's later
protocol) lets the oldest rounds be left out of a prompt that is too long, which is an error otherwise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from glmtui.protocol.events import Tokens, ToolCalled
from glmtui.protocol.messages import ToolCall
from glmtui.protocol.models import ModelInfo
from glmtui.protocol.sampling import Sampling
from glmtui.server import schema
from glmtui.server.answering import JSON, Answer, Completed, Shape, Streamed
from glmtui.server.dispatcher import Dispatcher
from glmtui.server.errors import ApiError, bad_request
from glmtui.server.guard import CLIENT
from glmtui.server.options import Limits
from glmtui.server.pictures import Pictures
from glmtui.server.service import Service

MOST_IDS = 1 << 17
"""Ids that ``/tokenize`` lists: a prompt that no model takes would make an answer of many megabytes."""


class ChatShape(Shape):
    """An answer to messages."""

    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self) -> JSON:
        """Return the role, before anything is said."""
        return {"delta": {"role": "assistant", "content": ""}}

    def piece(self, event: Tokens | ToolCalled) -> JSON:
        """Return text, thought or call."""
        if isinstance(event, ToolCalled):
            return {"delta": {"tool_calls": [{"index": 0, **_call(event.call)}]}}
        return {"delta": {"reasoning_content" if event.thought else "content": event.text}}

    def closing(self, reason: str) -> JSON:
        """Return why it ended."""
        return {"delta": {}, "finish_reason": reason}

    def choice(self, answer: Answer) -> JSON:
        """Return the message."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if answer.calls and not answer.text else answer.text,
            "refusal": None,
            "annotations": [],
        }
        if answer.thought:
            message["reasoning_content"] = answer.thought
        if answer.calls:
            message["tool_calls"] = [_call(call) for call in answer.calls]
        return {"message": message}


class TextShape(Shape):
    """How a text goes on."""

    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def opening(self) -> None:
        """Return nothing: there is no role."""
        return

    def piece(self, event: Tokens | ToolCalled) -> JSON:
        """Return text."""
        return {"text": event.text if isinstance(event, Tokens) else ""}

    def closing(self, reason: str) -> JSON:
        """Return why it ended."""
        return {"text": "", "finish_reason": reason}

    def choice(self, answer: Answer) -> JSON:
        """Return all of it."""
        return {"text": answer.text}


class OpenAI:
    """The paths under ``/v1``, and ``/tokenize``.

    Args:
        service: the engine and its model.
        dispatcher: gives it requests.
        limits: of bodies.
    """

    def __init__(self, service: Service, dispatcher: Dispatcher, limits: Limits) -> None:
        self._service, self._dispatcher, self._limits = service, dispatcher, limits

    @property
    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            Route("/v1/chat/completions", self._answers(schema.chat, ChatShape), methods=["POST"]),
            Route("/v1/completions", self._answers(schema.completion, TextShape), methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._model, methods=["GET"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
        ]

    def _answers(
        self, read: Callable[[schema.Body, Sampling, Pictures], schema.Asked], shape: type[Shape]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers requests that `read` reads, in a `shape`."""

        async def answer(request: Request) -> Response:
            body, info, pictures = await self._read(request)
            asked = await asyncio.to_thread(read, body, self._service.sampling(), pictures)
            job = self._dispatcher.submit(asked.request, request.scope[CLIENT])
            written = shape(info.name)
            if asked.streaming:
                return Streamed(job, written, with_usage=asked.with_usage)
            return Completed(job, written.complete)

        return answer

    async def _tokenize(self, request: Request) -> Response:
        body, info, pictures = await self._read(request)
        counted = await asyncio.to_thread(schema.count, body, pictures)
        job = self._dispatcher.submit(counted, request.scope[CLIENT])

        def write(answer: Answer) -> JSON:
            assert answer.count is not None
            tokens, ids = answer.count.tokens, list(answer.count.ids)
            if tokens and not ids:
                raise ApiError(501, "The model is on another server, which alone knows its tokens.")
            if len(ids) > MOST_IDS:
                told = f"The text has {tokens} tokens; at most {MOST_IDS} are listed."
                raise bad_request(told, "prompt")
            return {"count": tokens, "max_model_len": info.max_length, "tokens": ids}

        return Completed(job, write)

    async def _read(self, request: Request) -> tuple[schema.Body, ModelInfo, Pictures]:
        """Return the body, the model it is for, and what takes its pictures."""
        loaded = self._service.info()
        pictures = loaded is not None and loaded.sees_images
        body = await schema.read_body(request, self._limits, pictures=pictures)
        info = self._service.named(body.get("model"))
        return body, info, Pictures(seen=info.sees_images)

    async def _models(self, _request: Request) -> Response:
        info, embedder = self._service.info(), self._service.embedder
        found = [] if info is None else [self._entry(info)]
        if found and embedder is not None:
            found.append(self._named(embedder.name))
        return JSONResponse({"object": "list", "data": found})

    async def _model(self, request: Request) -> Response:
        return JSONResponse(self._entry(self._service.named(request.path_params["name"])))

    def _named(self, name: str) -> JSON:
        return {"id": name, "object": "model", "created": self._service.since, "owned_by": "glmtui"}

    def _entry(self, info: ModelInfo) -> JSON:
        """Return a model as clients list it; what is not OpenAI's is vLLM's, and for the page."""
        sampling = self._service.sampling()
        return {
            **self._named(info.name),
            "max_model_len": min(info.max_length, sampling.max_length),
            "sampling": {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_length": sampling.max_length,
            },
            "supports_system": info.supports_system,
            "sees_images": info.sees_images,
        }


def _call(call: ToolCall) -> JSON:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

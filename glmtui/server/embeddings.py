"""``/v1/embeddings``: vectors of texts, where a model for them is there."""

from __future__ import annotations

import asyncio
import base64
import threading
from array import array
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from glmtui.server import schema
from glmtui.server.errors import SHUTTING_DOWN, ApiError, bad_request
from glmtui.server.options import Limits
from glmtui.server.service import Embedder, Service, check_name

MOST = 2048
"""Texts of one request, as OpenAI has it."""
AT_ONCE = 8
"""Texts between two looks at whether the client is still there; others get in between, too."""
WAITING = 16
"""Requests that may wait for their turn."""


class Embeddings:
    """The path.

    Args:
        service: has the model.
        limits: of bodies.
    """

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service, self._limits = service, limits
        self._turn = asyncio.Lock()
        self._requests = 0

    @property
    def routes(self) -> list[Route]:
        """Its path."""
        return [Route("/v1/embeddings", self._embed, methods=["POST"])]

    async def _embed(self, request: Request) -> Response:
        model = self._service.embedder
        if model is None:
            raise ApiError(501, "No embedding model is loaded.", param="model", code="not_implemented")
        body = await schema.read_body(request, self._limits)
        check_name(body.get("model"), model.name)
        texts, form = _texts(body.get("input")), body.get("encoding_format") or "float"
        if form not in ("float", "base64"):
            raise bad_request("encoding_format must be float or base64.", "encoding_format")
        if body.get("dimensions") is not None:
            raise bad_request("This model has vectors of one size alone.", "dimensions")
        if self._requests >= WAITING:
            raise ApiError(429, "Too many requests wait already.", code="queue_full", retry_after=2)
        self._requests += 1
        try:
            vectors, tokens = await self._vectors(request, texts)
        except asyncio.CancelledError:  # only the server's end does that
            raise ApiError(503, "The server is shutting down.", code=SHUTTING_DOWN, retry_after=5) from None
        finally:
            self._requests -= 1
        found = [
            {
                "object": "embedding",
                "index": index,
                "embedding": vector if form == "float" else _packed(vector),
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return JSONResponse({"object": "list", "data": found, "model": model.name, "usage": usage})

    async def _vectors(self, request: Request, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        assert self._service.embedder is not None
        vectors: list[list[float]] = []
        tokens = 0
        for begin in range(0, len(texts), AT_ONCE):
            if await request.is_disconnected():
                raise ApiError(400, "The client left.", code="disconnected")
            async with self._turn:
                more, read = await _embedded(self._service.embedder, texts[begin : begin + AT_ONCE])
            vectors += more
            tokens += read
        return vectors, tokens


async def _embedded(model: Embedder, texts: Sequence[str]) -> tuple[list[list[float]], int]:
    """Let a daemon do it: a thread of the loop's pool would keep the server from ending before it is done."""
    done: Future[tuple[list[list[float]], int]] = Future()

    def work() -> None:
        try:
            done.set_result(model.embed(texts))
        except Exception as error:  # noqa: BLE001 (whoever waits has it)
            done.set_exception(error)

    done.set_running_or_notify_cancel()
    threading.Thread(target=work, name="glmtui-embedding", daemon=True).start()
    return await asyncio.wrap_future(done)


def _texts(value: Any) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    if not 0 < len(texts) <= MOST or not all(isinstance(each, str) and each for each in texts):
        raise bad_request(f"input must be a text, or a list of up to {MOST}; none may be empty.", "input")
    return [schema.text(each, "input") for each in texts]


def _packed(vector: Sequence[float]) -> str:
    """Return it as OpenAI's own client asks for it: float32 in base64."""
    return base64.b64encode(array("f", vector).tobytes()).decode()

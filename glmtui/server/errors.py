"""Failures as OpenAI's clients read them, on every path: ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmtui import failures
from glmtui.errors import (
    BadSchemaError,
    BadValueError,
    NoModelError,
    NoToolsError,
    OutOfMemoryError,
    ServerFailedError,
    TooLongError,
    UnavailableError,
)
from glmtui.protocol.events import Failed

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    501: "not_implemented_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
TIMED_OUT, SHUTTING_DOWN = "timeout", "shutting_down"
"""Codes of `Failed` that the server makes itself."""
_STATUS = {
    BadValueError.code: 400,
    BadSchemaError.code: 400,
    TooLongError.code: 400,
    NoToolsError.code: 400,
    UnavailableError.code: 400,
    ServerFailedError.code: 502,
    NoModelError.code: 503,
    OutOfMemoryError.code: 503,
    SHUTTING_DOWN: 503,
    TIMED_OUT: 504,
}
"""Of the codes that an engine's `Failed` may have; others are 500."""
_CODES = {TooLongError.code: "context_length_exceeded"}
"""Where OpenAI has another word."""
REST_SECONDS = 0.2
"""For the rest of a body nobody wants."""
_PARAMS = {NoToolsError.code: "tools", BadSchemaError.code: "response_format"}
_LEADS = {TooLongError.code: "The prompt is longer than the model's context length. "}
"""Words that clients look for in the message."""


class ApiError(Exception):
    """What a client is told instead of an answer.

    Args:
        status: of HTTP.
        message: one sentence, in English.
        param: the field of the request that is at fault.
        code: for programs.
        retry_after: seconds after which it is worth to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.message = message.encode("utf-8", "replace").decode()  # it may quote half a surrogate pair
        self.retry_after = retry_after

    @classmethod
    def of(cls, failed: Failed) -> ApiError:
        """Return how a client is told of an engine's failure."""
        status = _STATUS.get(failed.code, 500)
        return cls(
            status,
            f"{_LEADS.get(failed.code, '')}{failed.phrase}",
            param=_PARAMS.get(failed.code),
            code=_CODES.get(failed.code, failed.code),
            retry_after=5 if status == 503 else None,
        )

    @property
    def body(self) -> Mapping[str, Any]:
        """What stands in the response, or in an event of a stream that had begun."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else _TYPES[400])
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return what the client gets, with the headers that say when or how to ask again."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the error of a request that cannot be done as it stands."""
    return ApiError(400, message, param=param, code=code)


async def on_api_error(_request: Request, error: Exception) -> JSONResponse:
    """Answer an `ApiError`."""
    assert isinstance(error, ApiError)
    return error.response()


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what Starlette raises itself: there is no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        found = ApiError(404, "There is nothing at this path.", code="not_found")
    elif error.status_code == 405:
        found = ApiError(405, f"{request.method} does not work at this path.", code="method_not_allowed")
    else:
        found = ApiError(error.status_code, error.detail)
    response = found.response()
    response.headers.update(error.headers or {})
    return response


class Unexpected:
    """Answers what nobody foresaw; the details are in the log of unexpected errors, not in the response.

    Starlette's own way closes the connection, and where some of the request was not read yet that loses the
    response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the app."""
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            failures.describe(error)
            if begun:
                raise
            name = type(error).__name__
            found = ApiError(500, f"Something unexpected went wrong ({name}).", code="unexpected")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_take_rest(receive), REST_SECONDS)
            await found.response()(scope, receive, send)


async def _take_rest(receive: Receive) -> None:
    """Read what is left of a body."""
    more = True
    while more:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)

"""``/conversations``: those of the page, kept in a library where that is allowed, else in the browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from glmtui.errors import NotFoundError, UserError
from glmtui.server import schema
from glmtui.server.errors import ApiError, bad_request
from glmtui.server.library import KeptMessage, Library, State
from glmtui.server.options import Limits
from glmtui.server.service import Service

Result = TypeVar("Result")
STATES: tuple[State, ...] = get_args(State)
_ID = re.compile(r"[0-9A-Za-z_.-]{1,100}")
"""Of conversations and messages; those of files that were edited by hand are seldom others."""


class Conversations:
    """The page's paths to a library.

    Args:
        service: tells which model answers, and has the library, if that is allowed.
        limits: of bodies.
    """

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service, self._limits = service, limits

    @property
    def routes(self) -> list[Route]:
        """Its paths."""
        one = "/conversations/{id}"
        return [
            Route("/conversations", self._list, methods=["GET"]),
            Route(one, self._read, methods=["GET"]),
            Route(one, self._write, methods=["POST"]),
            Route(one, self._remove, methods=["DELETE"]),
        ]

    async def _list(self, _request: Request) -> Response:
        library = self._service.library
        if library is None:
            return JSONResponse({"kept": False, "conversations": []})
        found = [
            {"id": each.id, "title": each.title, "updated": round(each.updated.timestamp() * 1000)}
            for each in await _done(library.titles)
        ]
        return JSONResponse({"kept": True, "conversations": found})

    async def _read(self, request: Request) -> Response:
        library, name = self._library, _id(request.path_params["id"], "id")
        return JSONResponse(
            {"id": name, "messages": [_shown(each) for each in await _done(library.read, name)]}
        )

    async def _write(self, request: Request) -> Response:
        library, name = self._library, _id(request.path_params["id"], "id")
        body = await schema.read_body(request, self._limits)
        messages = _messages(body.get("messages"))
        info = self._service.info()
        await _done(library.write, name, messages, "" if info is None else info.name)
        return Response(status_code=204)

    async def _remove(self, request: Request) -> Response:
        await _done(self._library.remove, _id(request.path_params["id"], "id"))
        return Response(status_code=204)

    @property
    def _library(self) -> Library:
        if self._service.library is None:
            raise ApiError(404, "This server keeps no conversations.", code="not_found")
        return self._service.library


async def _done(work: Callable[..., Result], *arguments: Any) -> Result:
    """Let a thread wait for the disk."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except NotFoundError as error:
        raise ApiError(404, str(error), code="not_found") from error
    except UserError as error:
        raise ApiError(500, str(error), code=error.code) from error


def _shown(message: KeptMessage) -> dict[str, str]:
    found = {"id": message.id, "role": message.role, "text": message.text, "state": message.state}
    more = {"thought": message.thought, "error": message.error}
    return {**found, **{name: value for name, value in more.items() if value}}


def _messages(value: object) -> list[KeptMessage]:
    if not isinstance(value, list) or not value:
        raise bad_request("messages must be a list with at least one message.", "messages")
    return [_message(each, f"messages[{place}]") for place, each in enumerate(value)]


def _message(value: object, name: str) -> KeptMessage:
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object.", name)
    role = value.get("role")
    if role not in ("user", "assistant"):
        raise bad_request(f"{name}.role must be user or assistant.", f"{name}.role")
    state = next((each for each in STATES if each == (value.get("state") or "done")), None)
    if state is None:
        raise bad_request(f"{name}.state must be one of: {', '.join(STATES)}.", f"{name}.state")
    return KeptMessage(
        _id(value.get("id"), f"{name}.id"),
        role,
        schema.text(value.get("text"), f"{name}.text"),
        schema.text(value.get("thought") or "", f"{name}.thought"),
        state,
        schema.text(value.get("error") or "", f"{name}.error"),
    )


def _id(value: object, name: str) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise bad_request(f"{name} must be a word of letters and digits.", name)
    return value

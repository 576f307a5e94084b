"""One answer over HTTP, complete or as server-sent events, given up as soon as its client has left."""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from uuid import uuid4

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from glmtui.protocol.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Started,
    Stats,
    TokenCount,
    Tokens,
    ToolCalled,
)
from glmtui.protocol.messages import ToolCall
from glmtui.server.dispatcher import Job
from glmtui.server.errors import ApiError
from glmtui.server.guard import TOKENS

EARLY = 5.0
"""Seconds in which a streamed answer that cannot be made is still an error of HTTP's own."""
PING = 15.0
"""Seconds without a word after which a comment keeps a connection alive."""
JSON = Mapping[str, Any]
Writer = Callable[["Answer"], JSON]
"""Makes the body of a complete answer."""


@dataclass
class Answer:
    """What has come of an answer so far."""

    text: str = ""
    thought: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    reason: str = ""
    """``stop``, ``length``, ``tool_calls``; empty until it is complete."""
    stats: Stats = field(default_factory=lambda: Stats(0, 0, 0.0, 0.0))
    count: TokenCount | None = None

    def add(self, event: Event) -> None:
        """Take in what was told.

        Raises:
            ApiError: it did not work.
        """
        match event:
            case Started():
                self.stats = Stats(event.prompt_tokens, 0, 0.0, 0.0)
            case Tokens():
                if event.thought:
                    self.thought += event.text
                else:
                    self.text += event.text
                self.stats = replace(self.stats, answer_tokens=self.stats.answer_tokens + event.count)
            case ToolCalled():
                self.calls.append(event.call)
            case Done():
                self.reason, self.stats = "tool_calls" if self.calls else event.reason, event.stats
            case TokenCount():
                self.reason, self.count = "stop", event
            case Failed():
                raise ApiError.of(event)
            case Cancelled():
                raise ApiError(503, "The answer was given up.", code="cancelled", retry_after=1)

    @property
    def usage(self) -> JSON:
        """Tokens of prompt and answer."""
        prompt, answer = self.stats.prompt_tokens, self.stats.answer_tokens
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}


class Shape(ABC):
    """How a protocol writes an answer."""

    prefix: ClassVar[str]
    """Of the answer's id."""
    kind: ClassVar[str]
    chunk_kind: ClassVar[str]

    def __init__(self, model: str) -> None:
        self._id = f"{self.prefix}-{uuid4().hex}"
        self._created = int(time.time())
        self._model = model

    @abstractmethod
    def opening(self) -> JSON | None:
        """Return the first choice of a stream, before any text."""

    @abstractmethod
    def piece(self, event: Tokens | ToolCalled) -> JSON:
        """Return the choice that tells `event`."""

    @abstractmethod
    def closing(self, reason: str) -> JSON:
        """Return the last choice of a stream."""

    @abstractmethod
    def choice(self, answer: Answer) -> JSON:
        """Return the choice of a complete answer."""

    def complete(self, answer: Answer) -> JSON:
        """Return the body of an answer that is not streamed."""
        choice = {"index": 0, **self.choice(answer), "logprobs": None, "finish_reason": answer.reason}
        return {**self._head(self.kind), "choices": [choice], "usage": answer.usage}

    def chunk(self, choice: JSON | None, usage: JSON | None = None) -> JSON:
        """Return an event of a stream."""
        usual = {"index": 0, "logprobs": None, "finish_reason": None}
        choices = [] if choice is None else [{**usual, **choice}]
        chunk = {**self._head(self.chunk_kind), "choices": choices}
        return chunk if usage is None else {**chunk, "usage": usage}

    def _head(self, kind: str) -> JSON:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}


class Answering(Response):
    """Waits for what becomes of `job` and writes it; if the client leaves, the job is given up at once."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._answer = Answer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond.

        Raises:
            ApiError: there is no answer, and nothing was written yet.
        """
        tasks = (
            asyncio.create_task(self.respond(scope, receive, send)),
            asyncio.create_task(client_left(receive)),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            self._job.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            stats = self._answer.stats
            scope[TOKENS] = (stats.prompt_tokens, stats.answer_tokens)

    @abstractmethod
    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the answer and write it."""

    async def _complete(self) -> Answer:
        while not self._answer.reason:
            event = await self._job.next()
            assert event is not None
            self._answer.add(event)
        return self._answer


class Completed(Answering):
    """A complete answer as JSON.

    Args:
        job: the request.
        write: makes the body.
    """

    def __init__(self, job: Job, write: Writer) -> None:
        super().__init__(job)
        self._write = write

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for all of it and write it."""
        answer = await self._complete()
        await JSONResponse(self._write(answer))(scope, receive, send)


class Streamed(Answering):
    """An answer as server-sent events.

    Args:
        job: the request.
        shape: writes the events.
        with_usage: a last one tells how many tokens there were.
    """

    def __init__(self, job: Job, shape: Shape, *, with_usage: bool) -> None:
        super().__init__(job)
        self._shape, self._with_usage = shape, with_usage

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the events as they come."""
        event = await self._job.next(EARLY)
        if isinstance(event, Failed | Cancelled):
            self._answer.add(event)  # raises while there can be another status than 200
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def tell(data: str) -> None:
            await send({"type": "http.response.body", "body": f"{data}\n\n".encode(), "more_body": True})

        async def chunk(choice: JSON | None, usage: JSON | None = None) -> None:
            await tell(_data(self._shape.chunk(choice, usage)))

        if (opening := self._shape.opening()) is not None:
            await chunk(opening)
        try:
            while True:
                if event is None:
                    await tell(": the answer is on its way")
                else:
                    self._answer.add(event)
                if isinstance(event, ToolCalled) or (isinstance(event, Tokens) and event.text):
                    await chunk(self._shape.piece(event))
                if self._answer.reason:
                    break
                event = await self._job.next(PING)
            await chunk(self._shape.closing(self._answer.reason))
            if self._with_usage:
                await chunk(None, self._answer.usage)
            await tell("data: [DONE]")
        except ApiError as error:
            await tell(_data(error.body))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def client_left(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        continue


def _data(value: JSON) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"

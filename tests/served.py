"""A server on a real socket, around an engine that does what the test says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
from scripted_engine import NANO, ScriptedEngine

from glmtui.protocol.engine import Engine, Stream
from glmtui.protocol.models import Capabilities, ModelInfo
from glmtui.protocol.requests import Load, Request
from glmtui.protocol.sampling import Sampling
from glmtui.server.library import Library
from glmtui.server.options import Limits, ServerOptions
from glmtui.server.server import Server, ServerThread
from glmtui.server.service import Embedder, Program, Service

SECONDS = 20.0
QUESTION = [{"role": "user", "content": "你好"}]
OPEN = Limits(requests_per_minute=1_000_000)


def wait_for(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.002)


class Swapped:
    """Passes everything on to the engine of the test that runs."""

    current: Engine

    @property
    def capabilities(self) -> Capabilities:
        return self.current.capabilities

    def submit(self, request: Request) -> Stream:
        return self.current.submit(request)

    def close(self) -> None:
        self.current.close()

    def join(self, timeout: float) -> bool:
        return self.current.join(timeout)


@dataclass
class Served:
    """A server, its engine, and a client of it."""

    thread: ServerThread
    engine: Swapped
    client: httpx2.Client
    lines: list[str] = field(default_factory=list)
    """What was logged."""
    info: ModelInfo | None = NANO
    busy: bool = False

    @property
    def url(self) -> str:
        return self.thread.server.url

    @property
    def scripted(self) -> ScriptedEngine:
        assert isinstance(self.engine.current, ScriptedEngine)
        return self.engine.current

    def ready(self, *answers: str, **options: bool) -> ScriptedEngine:
        """Let a new engine with a model answer from now on."""
        self.engine.current = engine = ScriptedEngine(*answers, **options)
        engine.submit(Load())
        self.info, self.busy = NANO, False
        return engine

    def chat(self, messages: object = QUESTION, **body: Any) -> httpx2.Response:
        return self.client.post("/v1/chat/completions", json={"messages": messages, **body})

    def stream(self, path: str = "/v1/chat/completions", **body: Any) -> list[Any]:
        """Return the events of a streamed answer; the last is ``[DONE]`` where it was said."""
        body = {"messages": QUESTION, "stream": True, **body}
        response = self.client.post(path, json=body)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return events_of(response.text)

    def health(self) -> str:
        return str(self.client.get("/health").json()["status"])

    @property
    def figures(self) -> dict[str, float]:
        """What ``/metrics`` tells, without histograms."""
        lines = self.client.get("/metrics").text.splitlines()
        pairs = (line.split() for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def events_of(text: str) -> list[Any]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


MakeServer = Callable[..., Served]


def make(
    limits: Limits = OPEN,
    *,
    library: Library | None = None,
    embedder: Embedder | None = None,
    program: Program | None = None,
    **options: Any,
) -> Served:
    engine = Swapped()
    client = httpx2.Client(timeout=SECONDS, trust_env=False)
    served = Served(None, engine, client)  # type: ignore[arg-type]  # the next line
    service = Service(engine, lambda: served.info, Sampling, lambda: served.busy, library, embedder)
    service.program = None if program is None else lambda _info: program
    server = Server(service, ServerOptions(port=0, limits=limits, **options), served.lines.append)
    served.thread = ServerThread(server)
    client.base_url = server.url
    served.ready()
    return served


def end(served: Served) -> None:
    served.client.close()
    served.thread.stop()
    assert served.thread.join(SECONDS)

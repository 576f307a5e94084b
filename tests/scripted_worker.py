"""A worker that does what the test says."""

from __future__ import annotations

import queue
from dataclasses import replace
from pathlib import Path

from glmtui.protocol.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Loaded,
    LoadProgress,
    ModelList,
    Started,
    Stats,
    TokenCount,
    Tokens,
)
from glmtui.protocol.models import ModelInfo
from glmtui.protocol.requests import CountTokens, Download, Generate, ListModels, Load, RemoveModel, Request

NANO = ModelInfo(
    name="nano",
    source=None,
    architecture="ChatGLM-6B",
    parameters=7_000_000,
    device="cpu",
    device_name="CPU",
    quant="none",
    dtype="float32",
    memory_bytes=14_000_000,
    max_length=2048,
    supports_system=False,
    builtin=True,
)


class ScriptedWorker:
    """Answers at once, or (`hold`) sends half of the answer and waits for `finish` or a cancel.

    With `hold_load` a model stays half loaded until `finish_load`.
    """

    def __init__(self, *answers: str, hold: bool = False, hold_load: bool = False) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.requests: list[Request] = []
        self.answers = list(answers) or ["Hello!"]
        self.hold = hold
        self.hold_load = hold_load
        self.dropped_rounds = 0
        self.fail: str | None = None
        """The next load or answer fails with this message."""
        self.absent: str | None = None
        self.keeps = False
        """More of a load that fails: what could be downloaded, and whether the model before it is kept."""
        self.info = NANO
        """What models are like but for name, source and quantisation."""
        self.closed = False
        self.cancelled: list[int | None] = []
        """What `cancel` was called with."""
        self.models = ModelList(0, (), "cpu", "CPU", 0, 0, "/cache")
        """What there is; a `ListModels` is answered with it."""
        self.download: Download | None = None
        """The one that runs; the test tells how it goes on."""
        self._open: Generate | None = None
        self._load: Load | None = None
        self._waiting: list[Generate] = []

    # --- what the app calls ---

    def start(self) -> None:
        pass

    def submit(self, request: Request) -> None:
        self.requests.append(request)
        if isinstance(request, Load):
            self._load = request
            self.events.put(LoadProgress(request.request_id, "read", 5_000_000_000, 10_000_000_000))
            if not self.hold_load:
                self.finish_load()
        elif isinstance(request, CountTokens):
            count = sum(len(turn.text) for turn in request.turns)
            self.events.put(TokenCount(request.request_id, count))
        elif isinstance(request, ListModels | RemoveModel):
            self.events.put(replace(self.models, request_id=request.request_id))
        elif isinstance(request, Download):
            self.download = request
        elif isinstance(request, Generate):
            self._open = request
            prompt = sum(len(turn.text) for turn in request.turns)
            self.events.put(Started(request.request_id, prompt, 2048, self.dropped_rounds))
            text = self._text
            self.events.put(Tokens(request.request_id, text[: len(text) // 2], 1))
            if not self.hold:
                self.finish()

    def cancel(self, request_id: int | None = None) -> None:
        self.cancelled.append(request_id)
        if self._open and request_id in (None, self._open.request_id):
            request, text = self._open, self._text
            self._open = None
            self.events.put(Cancelled(request.request_id, self._stats(1), text[: len(text) // 2]))
        if self.download and request_id == self.download.request_id:
            self.events.put(Cancelled(request_id, None, ""))
            self.download = None
        if self._load and request_id in (None, self._load.request_id):
            self.events.put(Cancelled(self._load.request_id, None, ""))
            self._load = None

    def close(self) -> None:
        self.closed = True

    # --- what the test calls ---

    @property
    def generated(self) -> list[Generate]:
        return [request for request in self.requests if isinstance(request, Generate)]

    @property
    def loads(self) -> list[Load]:
        return [request for request in self.requests if isinstance(request, Load)]

    def finish_load(self) -> None:
        assert self._load
        request, self._load = self._load, None
        if self.fail:
            self.events.put(Failed(request.request_id, self.fail, self.absent, model_kept=self.keeps))
            self.fail = None
            return
        quant = request.quant or "none"
        name = Path(request.source).name if request.source else NANO.name
        builtin = request.source is None
        info = replace(self.info, name=name, source=request.source, quant=quant, builtin=builtin)
        self.events.put(Loaded(request.request_id, info, 0.1))

    def finish(self) -> None:
        assert self._open
        request, text = self._open, self._text
        self._open = None
        if self.fail:
            self.events.put(Failed(request.request_id, self.fail))
            self.fail = None
            return
        self.events.put(Tokens(request.request_id, text[len(text) // 2 :], 1))
        self.events.put(Done(request.request_id, self._stats(2), "stop", text))
        if len(self.answers) > 1:
            self.answers.pop(0)

    @property
    def _text(self) -> str:
        return self.answers[0]

    def _stats(self, tokens: int) -> Stats:
        return Stats(prompt_tokens=10, answer_tokens=tokens, prompt_seconds=0.1, answer_seconds=0.1)

"""The one background thread: loads models and generates answers, told by requests, telling by events.

The thread is a daemon owned by the app: it never keeps the program from ending, and no widget's life
depends on it. torch is imported in it, by the first request, so that the first screen need not wait.
"""

from __future__ import annotations

import ctypes
import gc
import queue
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from glmtui.engine import failures
from glmtui.errors import ModelNotHereError, UserError
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.events import (
    Cancelled,
    Done,
    Event,
    Failed,
    Loaded,
    LoadProgress,
    PromptProgress,
    Started,
    TokenCount,
    Tokens,
    Unloaded,
)
from glmtui.protocol.phrases import _
from glmtui.protocol.requests import CountTokens, Generate, Load, ModelRequest, Request, Unload

if TYPE_CHECKING:
    from glmtui.engine.chat_model import ChatModel

THREAD_NAME = "glmtui-worker"
INTERVAL = 0.05
"""Seconds between two events of one kind while a request runs; what comes sooner is put together."""

Loader = Callable[[Load, Callable[[Literal["read", "quantize", "compile"], int, int], None]], "ChatModel"]


class Worker:
    """Runs requests one after another, in the order of `submit`.

    Args:
        load: builds a model for a `Load` request, calling its second argument after every tensor.
        check: raises `UserError` for a `Load` that cannot succeed, while the former model is still there.
    """

    def __init__(self, load: Loader | None = None, check: Callable[[Load], None] | None = None) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        """What happened, oldest first."""
        self._requests: queue.SimpleQueue[ModelRequest | None] = queue.SimpleQueue()
        self._stops: dict[int, CancelToken] = {}  # of every request to the model that waits or runs
        self._beside: dict[int, CancelToken] = {}  # of those that run beside it
        self._load_model = load or _load
        self._check = check or (_check if load is None else lambda _request: None)
        self._model: ChatModel | None = None
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Queue `request`; one that is not to the model in memory begins at once. Never waits."""
        if isinstance(request, Load | Unload | Generate | CountTokens):
            self._stops[request.request_id] = CancelToken()
            self._requests.put(request)
            return
        self._beside[request.request_id] = CancelToken()
        threading.Thread(
            target=self._attempt, args=(request, self._beside), name=f"{THREAD_NAME}-beside", daemon=True
        ).start()

    def cancel(self, request_id: int | None = None) -> None:
        """Stop one request, waiting or running; None stops all to the model, but no download. Never waits.

        A stopped request ends with `Cancelled`; one that has ended already is not affected.
        """
        for waiting, stop in {**self._stops, **(self._beside if request_id else {})}.items():
            if request_id in (None, waiting):
                stop.cancel()

    def close(self) -> None:
        """Stop everything and end the thread soon. Never waits."""
        self._requests.put(None)
        self.cancel()
        for stop in self._beside.copy().values():
            stop.cancel()

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the thread to end after `close`; return whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- in the thread ---

    def _run(self) -> None:
        while (request := self._requests.get()) is not None:
            self._attempt(request, self._stops)
        self._model = None

    def _attempt(self, request: Request, stops: dict[int, CancelToken]) -> None:
        stop = stops[request.request_id]
        failure = None
        try:
            stop.check()
            self._handle(request, stop)
        except OperationCancelled:
            self.events.put(Cancelled(request.request_id, None, ""))
        except Exception as error:  # noqa: BLE001 (becomes an event; the thread lives on)
            absent = error.source if isinstance(error, ModelNotHereError) else None
            failure = Failed(
                request.request_id, failures.explain(error), absent, model_kept=self._model is not None
            )
        del stops[request.request_id]
        if failure is not None:
            free_memory()  # here, as inside `except` the traceback still holds every frame's tensors
            self.events.put(failure)

    def _handle(self, request: Request, stop: CancelToken) -> None:
        if isinstance(request, Load):
            self._load(request, stop)
        elif isinstance(request, Unload):
            self._forget()
            self.events.put(Unloaded(request.request_id))
        elif isinstance(request, Generate):
            self._generate(request, stop)
        elif isinstance(request, CountTokens):
            self._count(request)
        else:
            from glmtui.engine import model_jobs as beside

            self.events.put(beside.handle(request, self.events, stop))

    def _load(self, request: Load, stop: CancelToken) -> None:
        started = perf_counter()
        self._check(request)
        self._forget()
        pace = _Pace()

        def progress(stage: Literal["read", "quantize", "compile"], done: int, total: int) -> None:
            stop.check()
            if pace.due() or done >= total:
                self.events.put(LoadProgress(request.request_id, stage, done, total))

        model = self._load_model(request, progress)
        stop.check()
        self._model = model
        self.events.put(Loaded(request.request_id, model.info, perf_counter() - started))

    def _generate(self, request: Generate, stop: CancelToken) -> None:
        pace = _Pace()

        def check(fraction: float) -> None:
            stop.check()
            if fraction < 1 and pace.due():
                self.events.put(PromptProgress(request.request_id, fraction))

        answer = self._loaded.stream(
            request.turns, request.sampling, continue_answer=request.continue_answer, check=check
        )
        self.events.put(
            Started(request.request_id, answer.prompt_tokens, answer.limit, answer.dropped_rounds)
        )
        tokens = _Tokens(request.request_id, self.events)
        try:
            for text in answer:
                tokens.add(text, answer.answer_tokens)
        finally:
            tokens.flush()  # also what came before an error
        if answer.reason == "stopped":
            self.events.put(Cancelled(request.request_id, answer.stats, answer.text))
        else:
            self.events.put(Done(request.request_id, answer.stats, answer.reason, answer.text))

    def _count(self, request: CountTokens) -> None:
        self.events.put(TokenCount(request.request_id, self._loaded.count_tokens(request.turns)))

    @property
    def _loaded(self) -> ChatModel:
        if self._model is None:
            raise UserError(
                _("No model is loaded. Choose one with /model, or --model when you start glmtui.")
            )
        return self._model

    def _forget(self) -> None:
        if self._model is not None:
            self._model = None
            free_memory()


class _Pace:
    """Lets something happen at most every `INTERVAL` seconds, the first time at once."""

    def __init__(self) -> None:
        self._next = 0.0

    def due(self) -> bool:
        now = perf_counter()
        if now < self._next:
            return False
        self._next = now + INTERVAL
        return True


class _Tokens:
    """Puts the tokens of an answer together into few events; the first text goes out at once."""

    def __init__(self, request_id: int, events: queue.SimpleQueue[Event]) -> None:
        self._request_id = request_id
        self._events = events
        self._pace = _Pace()
        self._text = ""
        self._count = self._told = 0

    def add(self, text: str, count: int) -> None:
        """Take on `text`, with which the answer has `count` tokens."""
        self._text += text
        self._count = count
        if self._text and self._pace.due():
            self.flush()

    def flush(self) -> None:
        if self._text or self._count > self._told:
            self._events.put(Tokens(self._request_id, self._text, self._count - self._told))
            self._text, self._told = "", self._count


def free_memory() -> None:
    """Give memory that is no longer used back to the system, as far as Python, C and the devices allow."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed; musl has none
        if trim is not None:
            trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _check(request: Load) -> None:
    from glmtui.engine import preflight as checks

    checks.check(request)


def _load(
    request: Load, progress: Callable[[Literal["read", "quantize", "compile"], int, int], None]
) -> ChatModel:
    from glmtui.engine import loader

    return loader.load(
        request.source,
        quant=request.quant,
        device=request.device,
        gpus=request.gpus,
        dtype=request.dtype,
        threads=request.threads,
        ptuning=request.ptuning,
        for_chat=True,
        progress=progress,
    )

"""The engine of this process, in a background thread: it runs models, or asks servers that do.

Its threads are daemons: they never keep the program from ending, and no widget's life depends on them. torch
is imported in them, by the first request that needs it, so that the first screen need not wait.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Literal, cast

from glmtui import failures
from glmtui.errors import ModelNotHereError, NoModelError
from glmtui.protocol.cancellation import OperationCancelled, run_cancellable
from glmtui.protocol.engine import Stream
from glmtui.protocol.events import (
    Cancelled,
    Done,
    End,
    Failed,
    Loaded,
    LoadProgress,
    Prefilled,
    PromptProgress,
    Started,
    Tokens,
    ToolCalled,
    Unloaded,
)
from glmtui.protocol.models import Capabilities, LocalModel, ModelSpec, RemoteModel
from glmtui.protocol.phrases import Option, _
from glmtui.protocol.requests import (
    Complete,
    CountTokens,
    Generate,
    Load,
    ModelRequest,
    Prefill,
    Request,
    Unload,
)

if TYPE_CHECKING:
    from glmtui.engine.batching import Batch, Member
    from glmtui.engine.chat_model import ChatModel
    from glmtui.engine.remote_model import RemoteChatModel
    from glmtui.models.chat_formats.thoughts import Piece

THREAD_NAME = "glmtui-engine"
INTERVAL = 0.05
"""Seconds between two events of one kind while a request runs; what comes sooner is put together."""

Progress = Callable[[Literal["read", "quantize", "compile"], int, int], None]
Loader = Callable[[Progress], "ChatModel | RemoteChatModel"]
"""Loads a model, calling its argument after every tensor with the stage and the bytes done and in all."""
Prepare = Callable[[ModelSpec], Loader]
"""Looks whether a model can be loaded, while the former one is still there. It raises `UserError` if not.

It runs in a thread of its own: to import torch, to read a tokenizer or to wait for a server cannot be
cancelled, only left alone.
"""


class LocalEngine:
    """Runs requests to the model in the order of `submit`, answers next to each other; other ones at once.

    No thread is started before the first request.

    Args:
        prepare: makes the models; None: from files or through servers, see `glmtui.engine.loader` and
            `glmtui.engine.remote_model`.
        slots: answers to make at once, as far as there is memory for their keys and values. Another
            server's model answers one at a time.
    """

    def __init__(self, prepare: Prepare | None = None, slots: int = 1) -> None:
        self._prepare = prepare or _prepare
        self._slots = slots
        self._model: ChatModel | RemoteChatModel | None = None
        self._spec: ModelSpec | None = None
        """Of the model in memory."""
        self._adapted = True
        """Whether the answers in the making use the prefix and the LoRA of `_spec`."""
        self._capabilities = Capabilities()
        self._batch: Batch | None = None  # the answers in the making, once there was one
        self._lock = threading.Lock()  # around what follows
        self._changed = threading.Condition(self._lock)  # there is more to do
        self._queue: deque[tuple[ModelRequest, Stream]] = deque()
        self._open: dict[Stream, Request] = {}  # those that have not ended
        self._ahead: dict[Stream, Prefill] = {}  # those of them that give way to others
        self._threads: set[threading.Thread] = set()  # those that run
        self._has_model_thread = self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked for, by the model that was loaded last."""
        return self._capabilities

    def submit(self, request: Request) -> Stream:
        """Take a request. See `glmtui.protocol.engine.Engine`."""
        stream = Stream()
        with self._lock:
            if self._closed:
                stream.put(Cancelled())
                return stream
            self._open[stream] = request
            if isinstance(request, ModelRequest):
                for ahead, prefill in self._ahead.items():
                    if not prefill.serves(request):
                        ahead.cancel()
                if isinstance(request, Prefill):
                    self._ahead[stream] = request
                self._queue.append((request, stream))
                self._changed.notify()
                if not self._has_model_thread:
                    self._has_model_thread = True
                    self._start(self._run)
            else:
                self._start(lambda: self._attempt(request, stream))
        return stream

    def close(self) -> None:
        """Cancel everything and take no more; what runs ends soon. Never waits."""
        with self._lock:
            self._closed = True
            for stream in self._open:
                stream.cancel()
            self._changed.notify()

    def join(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the threads to end after `close`; return whether they have."""
        end = monotonic() + timeout
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _start(self, work: Callable[[], None]) -> None:
        def run() -> None:
            work()
            with self._lock:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name=THREAD_NAME, daemon=True)
        self._threads.add(thread)
        thread.start()

    # --- in the threads ---

    def _run(self) -> None:
        try:
            while (queued := self._next()) is not None:
                if queued:
                    self._begin(*queued)
                elif self._batch:
                    self._batch.step()
                del queued  # its messages, while nothing is asked
        except BaseException as error:  # noqa: BLE001 (else whoever asked would wait for ever)
            self._give_up(_failed(error))
        else:
            self._model = None

    def _give_up(self, end: Failed) -> None:
        """End all requests to the model, whose thread is broken: the next one starts another."""
        with self._lock:
            ended = [stream for stream, request in self._open.items() if isinstance(request, ModelRequest)]
            for stream in ended:
                del self._open[stream]
            self._queue.clear()
            self._ahead.clear()
            self._model, self._spec, self._batch = None, None, None
            self._has_model_thread = False
        for stream in ended:
            stream.put(end)

    def _next(self) -> tuple[ModelRequest, Stream] | tuple[()] | None:
        """Wait for a request to begin, or return none where answers go on; None at the end."""
        with self._changed:
            while True:
                if self._queue and self._may_begin(*self._queue[0]):
                    return self._queue.popleft()
                if self._batch:
                    return ()
                if self._closed and not self._queue:
                    return None
                self._changed.wait()

    def _may_begin(self, request: ModelRequest, stream: Stream) -> bool:
        running = len(self._batch) if self._batch is not None else 0
        next_to_others = isinstance(request, Generate | Complete | CountTokens | Prefill)
        if isinstance(request, Generate | Complete | Prefill) and _uses_adapters(request) != self._adapted:
            next_to_others = False  # all answers in the making are the same model's
        most = self._capabilities.slots if next_to_others else 1
        return running < most or stream.token.cancelled  # what is cancelled has no more to do than to say so

    def _begin(self, request: ModelRequest, stream: Stream) -> None:
        if not isinstance(request, Generate | Complete):
            self._attempt(request, stream)
            return
        if self._batch is None:
            from glmtui.engine.batching import Batch

            self._batch = Batch()
        self._batch.begin(stream.token, partial(self._answer, request, stream))

    def _attempt(self, request: Request, stream: Stream) -> None:
        end: End
        try:
            stream.token.check()
            with stream.token.current():
                end = self._handle(request, stream)
        except OperationCancelled:
            end = Cancelled(model_kept=self._keeps_model(request))
        except BaseException as error:  # noqa: BLE001 (an event tells of it; Rust's panics are no Exceptions)
            end = _failed(error, model_kept=self._keeps_model(request))
        self._end(stream, end)

    def _answer(self, request: Generate | Complete, stream: Stream, member: Member) -> Iterator[None]:
        """Go on to the next token of an answer, until it has ended. Raises nothing."""
        end: End
        try:
            stream.token.check()
            end = yield from self._generate(request, stream, member)
        except OperationCancelled:
            end = Cancelled()
        except BaseException as error:  # noqa: BLE001 (as above)
            end = _failed(error)
        self._end(stream, end)

    def _end(self, stream: Stream, end: End) -> None:
        if isinstance(end, Failed):
            # here, as inside `except` the traceback still holds every frame's tensors
            try:
                free_memory()
            except Exception as error:  # noqa: BLE001 (of a device that has failed altogether, for one)
                failures.write_log(error)
        with self._lock:
            self._open.pop(stream, None)
            self._ahead.pop(stream, None)
        stream.put(end)

    def _keeps_model(self, request: Request) -> bool:
        return isinstance(request, Load) and self._model is not None

    def _handle(self, request: Request, stream: Stream) -> End:
        """Do what is no answer."""
        assert not isinstance(request, Generate | Complete)
        if isinstance(request, Load):
            return self._load(request, stream)
        if isinstance(request, Unload):
            self._forget()
            return Unloaded()
        if isinstance(request, CountTokens):
            return self._loaded.count(request)
        if isinstance(request, Prefill):
            return self._prefill(request, stream)
        from glmtui.engine import model_jobs

        return model_jobs.handle(request, stream, self._model.siblings if self._model is not None else ())

    def _load(self, request: Load, stream: Stream) -> Loaded:
        started = perf_counter()
        if (switched := self._switched(request.spec)) is not None:
            return Loaded(switched.info, perf_counter() - started)
        load = run_cancellable(lambda: self._prepare(request.spec), stream.token)
        self._forget()
        pace = _Pace()

        def progress(stage: Literal["read", "quantize", "compile"], done: int, total: int) -> None:
            stream.token.check()
            if pace.due() or done >= total:
                stream.put(LoadProgress(stage, done, total))

        model = load(progress)
        stream.token.check()
        self._model, self._spec = model, request.spec
        self._capabilities = model.capabilities
        if self._slots > 1 and not isinstance(request.spec, RemoteModel):
            from glmtui.engine.batching import slots_that_fit

            slots = slots_that_fit(cast("ChatModel", model), self._slots)
            self._capabilities = replace(self._capabilities, slots=slots)
        return Loaded(model.info, perf_counter() - started)

    def _prefill(self, request: Prefill, stream: Stream) -> Prefilled:
        self._adapt(request)
        return Prefilled(self._loaded.prefill(request.messages, request.sampling, self._reading(stream)))

    def _switched(self, spec: ModelSpec) -> ChatModel | None:
        """Return the model in memory with another prefix or LoRA, where `spec` asks for no more than that."""
        before = self._spec
        if self._model is None or not (isinstance(spec, LocalModel) and isinstance(before, LocalModel)):
            return None
        if spec == before or replace(spec, ptuning=before.ptuning, lora=before.lora) != before:
            return None
        from glmtui.engine.chat_model import ChatModel

        model = self._model
        if not isinstance(model, ChatModel) or not model.capabilities.adapters:
            return None
        model.adapt(spec.ptuning, spec.lora)
        self._spec = spec
        return model

    def _adapt(self, request: Generate | Complete | Prefill) -> None:
        """Put on the model what it was loaded with, or take it off where the request is not to use it."""
        spec, model = self._spec, self._loaded
        used = self._adapted = _uses_adapters(request)
        if not isinstance(spec, LocalModel) or not (spec.ptuning or spec.lora):
            return
        from glmtui.engine.chat_model import ChatModel

        if isinstance(model, ChatModel) and model.capabilities.adapters:
            model.adapt(spec.ptuning if used else None, spec.lora if used else None)

    def _generate(
        self, request: Generate | Complete, stream: Stream, member: Member
    ) -> Generator[None, None, Done | Cancelled]:
        self._adapt(request)
        check = self._reading(stream)
        model = self._loaded
        if isinstance(request, Complete):
            answer = model.complete(request.text, request.sampling, stop=request.stop, check=check)
        else:
            answer = model.stream(
                request.messages,
                request.sampling,
                continue_answer=request.continue_answer,
                stop=request.stop,
                tools=request.tools,
                json_schema=request.json_schema,
                leave_out_rounds=request.leave_out_rounds,
                images=request.images,
                check=check,
            )
        stream.put(Started(answer.prompt_tokens, answer.limit, answer.dropped_rounds))
        member.generation = getattr(answer, "generation", None)
        tokens = _Tokens(stream)
        try:
            for piece in answer:
                tokens.add(piece, answer.answer_tokens)
                yield
        finally:
            tokens.flush()  # also what came before an error
        if answer.reason == "cancelled":
            return Cancelled(answer.stats)
        if answer.call is not None:
            stream.put(ToolCalled(answer.call))
        return Done(answer.stats, answer.reason, answer.note)

    def _reading(self, stream: Stream) -> Callable[[float], None]:
        """Return what is told how much of a prompt is read, and raises when `stream` is cancelled.

        Meanwhile the answers in the making go on.
        """
        pace = _Pace()

        def check(fraction: float) -> None:
            stream.token.check()
            if fraction < 1:
                if pace.due():
                    stream.put(PromptProgress(fraction))
                if self._batch is not None:
                    self._batch.keep_up()

        return check

    @property
    def _loaded(self) -> ChatModel | RemoteChatModel:
        if self._model is None:
            raise NoModelError(
                _("No model is loaded. Choose one: {option}").format(option=Option("model", _("NAME")))
            )
        return self._model

    def _forget(self) -> None:
        if self._model is not None:
            self._model = None
            free_memory()


def _failed(error: BaseException, *, model_kept: bool = False) -> Failed:
    code, phrase = failures.describe(error)
    absent = error.source if isinstance(error, ModelNotHereError) else None
    return Failed(code, phrase, absent, model_kept=model_kept)


def _uses_adapters(request: Generate | Complete | Prefill) -> bool:
    return isinstance(request, Complete) or request.adapters


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

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pace = _Pace()
        self._text = ""
        self._thought = False
        self._count = self._told = 0

    def add(self, piece: Piece, count: int) -> None:
        """Take on `piece`, with which the answer has `count` tokens."""
        if piece.text and piece.thought != self._thought:
            self.flush()
            self._thought = piece.thought
        self._text += piece.text
        self._count = count
        if self._text and self._pace.due():
            self.flush()

    def flush(self) -> None:
        if self._text or self._count > self._told:
            self._stream.put(Tokens(self._text, self._count - self._told, self._thought))
            self._text, self._told = "", self._count


def free_memory() -> None:
    """Give memory that is no longer used back to the system, as far as Python, C and the devices allow."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):  # another thread imports it
        return
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed; musl has none
        if trim is not None:
            trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _prepare(spec: ModelSpec) -> Loader:
    if isinstance(spec, RemoteModel):
        from glmtui.engine import remote_model

        served = remote_model.load(spec)
        return lambda _progress: served
    from glmtui.engine import preflight

    prepared = preflight.prepare(spec)
    from glmtui.engine import loader

    loader.check(spec, prepared)
    return lambda progress: loader.load(spec, progress, prepared=prepared)

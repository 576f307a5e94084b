"""An engine that does what the test says, without a thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from glmtui.engine.answer_text import AnswerText
from glmtui.models.chat_formats.thoughts import Piece, ThoughtStream
from glmtui.protocol.engine import Stream
from glmtui.protocol.events import (
    Cancelled,
    Done,
    End,
    Event,
    Failed,
    Loaded,
    LoadProgress,
    ModelList,
    Prefilled,
    Started,
    Stats,
    TokenCount,
    Tokens,
    ToolCalled,
    Unloaded,
)
from glmtui.protocol.messages import ToolCall
from glmtui.protocol.models import Capabilities, LocalModel, ModelEntry, ModelInfo
from glmtui.protocol.phrases import verbatim
from glmtui.protocol.requests import (
    Complete,
    CountTokens,
    Download,
    Generate,
    Load,
    ModelRequest,
    Prefill,
    Request,
    Unload,
)

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


class Verbatim:
    """Decodes what is text already."""

    def push(self, text: str) -> str:
        return text

    def finish(self) -> str:
        return ""


class ScriptedStream(Stream):
    """A stream that tells its engine at once that it was cancelled."""

    def __init__(self, on_cancel: Callable[[ScriptedStream], None]) -> None:
        super().__init__()
        self._on_cancel = on_cancel

    def cancel(self) -> None:
        super().cancel()
        self._on_cancel(self)


class ScriptedEngine:
    """Answers at once, or (`hold`) sends half of the answer and waits for `finish` or a cancel.

    With `hold_load` a model stays half loaded until `finish_load`. What an answer says between ``<think>``
    and ``</think>`` is its thought.
    """

    def __init__(self, *answers: str, hold: bool = False, hold_load: bool = False) -> None:
        self.requests: list[Request] = []
        self.streams: list[ScriptedStream] = []
        """Of the `requests`, in the same order."""
        self.answers = list(answers) or ["Hello!"]
        self.hold = hold
        self.hold_load = hold_load
        self.hold_prefill = False
        """A prompt that is read ahead stays half read until something else is asked for, ..."""
        self.hold_prefill_for_good = False
        """... or even then, if that is the answer to it."""
        self.slow_to_cancel = False
        """An answer that is cancelled is still held: what is queued behind it does not begin."""
        self.dropped_rounds = 0
        self.fail: str | None = None
        """The next load or answer fails with this message, ..."""
        self.code = "failed"
        """... and this code."""
        self.absent: str | None = None
        self.keeps = False
        """More of a load that fails: what could be downloaded, and whether the model before it is kept."""
        self.info = NANO
        """What models are like but for name, source and quantisation."""
        self.calls_tools = False
        """Whether it takes tools; an answer like ``name\\n{…}`` calls one that is offered."""
        self.takes_tools = True
        """Whether that is true."""
        self.calls_unasked: tuple[str, ...] = ()
        """Tools that it calls although they are not offered."""
        self.calls_besides: ToolCall | None = None
        """What it calls next to what it says."""
        self.closed = False
        self.models = ModelList((ModelEntry(None, "nano", "builtin"),), "cpu", "CPU", 0, 0, "/cache")
        """What there is; a `ListModels` ends with it."""
        self.download: Download | None = None
        """The one that runs; the test says how it goes on (`tell`)."""
        self._downloading: ScriptedStream | None = None
        self._loaded = False
        self._queue: list[tuple[Request, ScriptedStream]] = []  # the first one is being done
        self._text = AnswerText(Verbatim())

    # --- what the session calls ---

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(tools=self.calls_tools)

    def submit(self, request: Request) -> Stream:
        stream = ScriptedStream(self._cancel)
        self.requests.append(request)
        self.streams.append(stream)
        if self.closed:
            stream.put(Cancelled())
        elif isinstance(request, ModelRequest):
            for ahead, other in list(self._queue):
                if isinstance(ahead, Prefill):
                    if not ahead.serves(request):
                        other.cancel()
                    elif not self.hold_prefill_for_good:
                        self._end(Prefilled(0))
            self._queue.append((request, stream))
            if len(self._queue) == 1:
                self._begin(request, stream)
        elif isinstance(request, Download):
            self.download, self._downloading = request, stream
        else:
            stream.put(self.models)
        return stream

    def close(self) -> None:
        self.closed = True
        for stream in reversed(self.streams):  # what is queued is not begun
            stream.cancel()

    def join(self, timeout: float) -> bool:
        return self.closed

    # --- what the test calls ---

    @property
    def generated(self) -> list[Generate]:
        return [request for request in self.requests if isinstance(request, Generate)]

    @property
    def loads(self) -> list[Load]:
        return [request for request in self.requests if isinstance(request, Load)]

    @property
    def cancelled(self) -> list[Request]:
        """The requests that were cancelled, also if they had ended."""
        asked = zip(self.requests, self.streams, strict=True)
        return [request for request, stream in asked if stream.token.cancelled]

    @property
    def answering(self) -> bool:
        """Whether an answer is held."""
        return isinstance(self._current, Generate | Complete)

    @property
    def loading(self) -> bool:
        """Whether a load is held."""
        return isinstance(self._current, Load)

    def tell(self, event: Event) -> None:
        """Tell of the download."""
        assert self._downloading
        self._downloading.put(event)
        if isinstance(event, End):
            self.download = self._downloading = None

    def finish_load(self) -> None:
        """Let the load come to its end."""
        request = self._current
        assert isinstance(request, Load)
        assert isinstance(request.spec, LocalModel)
        if self.fail:
            self._loaded = self._loaded and self.keeps
            self._fail(self.absent)
            return
        self._loaded = True
        spec = request.spec
        info = replace(self.info, name=spec.name, source=spec.source, quant=spec.quant or "none")
        self._end(Loaded(replace(info, builtin=spec.source is None), 0.1))

    def finish(self) -> None:
        """Let the answer come to its end."""
        assert self.answering
        if self.fail:
            self._fail()
            return
        text = self.answers[0]
        if len(self.answers) > 1:
            self.answers.pop(0)
        self._say([*self._text.push(text[len(text) // 2 :]), *self._text.finish(complete=True)])
        if self._text.call:
            self._queue[0][1].put(ToolCalled(self._text.call))
        self._end(Done(self._stats(2), "stop"))

    # --- how it is done ---

    @property
    def _current(self) -> Request | None:
        return self._queue[0][0] if self._queue else None

    def _begin(self, request: Request, stream: Stream) -> None:
        if isinstance(request, Load):
            stream.put(LoadProgress("read", 5_000_000_000, 10_000_000_000))
            if not self.hold_load:
                self.finish_load()
        elif isinstance(request, Unload):
            self._loaded = False
            self._end(Unloaded())
        elif not self._loaded:
            self._end(Failed("no_model", verbatim("No model is loaded.")))
        elif isinstance(request, CountTokens):
            text = "".join(m.text for m in request.messages) if request.text is None else request.text
            self._end(TokenCount(len(text), tuple(map(ord, text))))
        elif isinstance(request, Prefill):
            if not self.hold_prefill:
                self._end(Prefilled(sum(len(message.text) for message in request.messages)))
        elif isinstance(request, Generate) and request.tools and not self.takes_tools:
            self._end(Failed("refused", verbatim("No tools here.")))
        elif isinstance(request, Generate | Complete):
            self.answer(request, stream)

    def answer(self, request: Generate | Complete, stream: Stream) -> None:
        """Begin an answer."""
        if isinstance(request, Complete):
            prompt = len(request.text)
            self._text = AnswerText(Verbatim(), stop=request.stop)
        else:
            prompt = sum(len(message.text) for message in request.messages)
            begun = request.messages[-1].parts if request.continue_answer else ()
            tools = [*(tool.name for tool in request.tools), *self.calls_unasked]
            self._text = AnswerText(Verbatim(), thoughts=ThoughtStream(begun), stop=request.stop, tools=tools)
        stream.put(Started(prompt, 2048, self.dropped_rounds))
        text = self.answers[0]
        self._say(self._text.push(text[: len(text) // 2]))
        if self.calls_besides:
            stream.put(ToolCalled(self.calls_besides))
        if not self.hold:
            self.finish()

    def _say(self, pieces: list[Piece]) -> None:
        stream = self._queue[0][1]
        for number, piece in enumerate(pieces or [Piece("", thought=False)]):
            stream.put(Tokens(piece.text, int(number == 0), piece.thought))

    def _end(self, end: End) -> None:
        """End what is being done, and begin what comes next."""
        _request, stream = self._queue.pop(0)
        stream.put(end)
        if self._queue:
            self._begin(*self._queue[0])

    def _fail(self, absent: str | None = None) -> None:
        assert self.fail
        failed = Failed(self.code, verbatim(self.fail), absent, model_kept=self.loading and self._loaded)
        self.fail = None
        self._end(failed)

    def _cancel(self, stream: ScriptedStream) -> None:
        if self._queue and self._queue[0][1] is stream:
            if self.slow_to_cancel and self.answering:
                return
            if isinstance(self._current, Load):
                self._loaded = False
            self._end(Cancelled(self._stats(1) if self.answering else None))
        elif stream is self._downloading:
            self.tell(Cancelled())
        elif any(stream is queued for _request, queued in self._queue):
            cancelled = next(request for request, queued in self._queue if queued is stream)
            self._queue = [(request, queued) for request, queued in self._queue if queued is not stream]
            stream.put(Cancelled(model_kept=isinstance(cancelled, Load) and self._loaded))

    def _stats(self, tokens: int) -> Stats:
        return Stats(prompt_tokens=10, answer_tokens=tokens, prompt_seconds=0.1, answer_seconds=0.1)

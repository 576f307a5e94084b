"""A model behind a server, spoken to as `glmtui.engine.chat_model.ChatModel` is.

Tokens are counted by the server alone. What is asked before an answer is estimated here, by what the answers
so far have shown, rather than sent: what a person is still writing stays on this machine.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from time import monotonic, perf_counter
from types import MappingProxyType
from typing import Any, Literal

from glmtui.engine.openai_client import (
    RETRIES,
    CallDelta,
    Delta,
    OpenAIClient,
    ServedModel,
    ServerBusyError,
    ServerTooLongError,
)
from glmtui.errors import NotFoundError, TooLongError, UnavailableError
from glmtui.images import for_servers
from glmtui.models.chat_formats.thoughts import Piece, ThoughtStream
from glmtui.protocol.cancellation import OperationCancelled
from glmtui.protocol.events import Stats, TokenCount
from glmtui.protocol.messages import ChatMessage, Image, Part, Text, ToolCall, ToolResult
from glmtui.protocol.models import Capabilities, ModelEntry, ModelInfo, RemoteModel
from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.protocol.requests import CountTokens, Tool
from glmtui.protocol.sampling import Sampling
from glmtui.text.clean import one_line

BYTES_PER_TOKEN = 4.0
"""Of UTF-8, in English and in Chinese alike, before a server has counted."""
ASSUMED_CONTEXT = 4096
"""Tokens, where neither the server nor the settings say: what Ollama takes if nothing is set."""
CUT_SHARE = 0.7
"""A server that counted less of a prompt than this share of what was expected has cut it."""
UNSURE_SHARE = 0.5
"""The same before any prompt has shown how many tokens a text has there."""
CUT_TOKENS = 1000
"""Prompts shorter than this are not looked at: their estimate is too coarse."""
LEARN_TOKENS = 200
"""Prompts shorter than this show nothing of their text: most of them is what is written around it."""
FRAME_TOKENS = 64
"""What is written around a prompt, at most."""
CONTINUE = ("vllm", "sglang", "llamacpp", "glmtui")
"""Servers that go on with an answer that was cut off."""
INTERVAL = 0.1
SEES = re.compile(
    r"glm-?4(\.\d)?v|visualglm|cogvlm|llava|vision|[-_.](vl|omni)\b|gpt-4o|pixtral|gemma-?3", re.IGNORECASE
)
"""In the names of models that see pictures, where their servers say nothing of it."""
NO_IMAGES: Mapping[str, bytes] = MappingProxyType({})

Check = Callable[[float], None]


class RemoteChatModel:
    """A model that a server has.

    Args:
        client: the server.
        served: the model there.
        found: all that the server has.
    """

    def __init__(self, client: OpenAIClient, served: ServedModel, found: Sequence[ServedModel] = ()) -> None:
        self._client = client
        self._found = tuple(found)
        self._served = served
        spec = client.spec
        context = spec.context or served.context
        self.info = ModelInfo(
            one_line(served.name),
            spec.source,
            served.owner,
            context or ASSUMED_CONTEXT,
            supports_system=served.supports_system is not False,
            sampling=Sampling(
                max_length=context or ASSUMED_CONTEXT,
                temperature=0.8 if served.temperature is None else served.temperature,
                top_p=0.8 if served.top_p is None else served.top_p,
                top_k=0,
            ),
            note=NOTHING if context else _unknown_context(spec),
            server=spec.server,
            sees_images=next(
                known
                for known in (spec.images, served.sees_images, bool(SEES.search(served.name)))
                if known is not None
            ),
        )
        self._bytes_per_token = BYTES_PER_TOKEN
        self.counted = False
        """Whether the server has counted a prompt that was long enough to show what a text has there."""

    @property
    def capabilities(self) -> Capabilities:
        """What the server can be asked for."""
        return Capabilities(
            count_tokens=False,
            continue_answer=self._served.owner in CONTINUE,
            images=self.info.sees_images,
            tools=True,
        )

    @property
    def siblings(self) -> tuple[ModelEntry, ...]:
        """What the server has, as it said when the model was chosen."""
        spec = self._client.spec
        server = spec.source.partition("#")[
            0
        ]  # by the name in the settings, with which go its key and headers
        return tuple(
            ModelEntry(
                spec.source if each == self._served else f"{server}#{each.name}",
                one_line(each.name),
                "server",
                path=spec.base_url,
                format=spec.server,
                max_length=each.context or 0,
            )
            for each in self._found
        )

    def stream(
        self,
        messages: Sequence[ChatMessage],
        sampling: Sampling | None = None,
        *,
        continue_answer: bool = False,
        stop: Sequence[str] = (),
        tools: Sequence[Tool] = (),
        json_schema: Mapping[str, Any] | None = None,
        leave_out_rounds: bool = True,
        images: Mapping[str, bytes] = NO_IMAGES,
        check: Check | None = None,
    ) -> RemoteAnswer:
        """Return the answer to `messages`; the server has taken them when this returns.

        Where they are too long for it, the oldest rounds are left out, as many as it takes. The arguments are
        those of `glmtui.protocol.requests.Generate`.

        Raises:
            UserError: the server is not there, refuses, or the last message alone is too long for it.
            OperationCancelled: from `check`.
        """
        if continue_answer and not self.capabilities.continue_answer:
            raise UnavailableError(
                _("{server} cannot continue an answer. Ask again instead.").format(server=self.info.server)
            )
        sampling = sampling or self.info.sampling
        more: dict[str, object] = {"tools": [_offered(tool) for tool in tools]} if tools else {}
        if json_schema is not None:
            named = {"name": "answer", "schema": json_schema}
            more["response_format"] = {"type": "json_schema", "json_schema": named}
        if continue_answer:
            more |= {"continue_final_message": True, "add_generation_prompt": False}
        rounds, dropped = _rounds(messages), 0
        while True:
            sent = [*rounds[0], *(message for each in rounds[1 + dropped :] for message in each)]
            try:
                written = {"messages": [_written(message, images) for message in sent], **more}
                nbytes = size(sent)
                room = self._room(None if _shows(sent) else nbytes + len(json.dumps(more)), sampling)
                body = self._body(written, sampling, stop, room)
                deltas = self._asked("chat/completions", body, check or _go_on)
            except ServerTooLongError as error:
                left = len(rounds) - 1 - dropped
                if left < 2 or not leave_out_rounds:
                    raise TooLongError(
                        _("The last message alone is too long for {name}: {reason}").format(
                            name=self.info.name, reason=error.phrase
                        )
                    ) from error
                dropped += self._too_many(rounds[1 + dropped :], error)
            else:
                begun = messages[-1].parts if continue_answer else ()
                return RemoteAnswer(
                    self,
                    deltas,
                    nbytes,
                    self.limit(sampling),
                    dropped,
                    begun,
                    check,
                    learns=not (_shows(sent) or more),
                )

    def complete(
        self,
        text: str,
        sampling: Sampling | None = None,
        *,
        stop: Sequence[str] = (),
        check: Check | None = None,
    ) -> RemoteAnswer:
        """Return how the model goes on with `text`, which is in no conversation. Raises as `stream` does."""
        sampling = sampling or self.info.sampling
        nbytes = len(text.encode())
        body = self._body({"prompt": text}, sampling, stop, self._room(nbytes, sampling))
        deltas = self._asked("completions", body, check or _go_on)
        return RemoteAnswer(self, deltas, nbytes, self.limit(sampling), 0, (Text(""),), check)

    def prefill(self, _messages: Sequence[ChatMessage], _sampling: Sampling, _check: Check) -> int:
        """Read nothing ahead: that is the server's business."""
        return 0

    def count(self, request: CountTokens) -> TokenCount:
        """Estimate the tokens of a prompt or of a bare text."""
        nbytes = size(request.messages) if request.text is None else len(request.text.encode())
        return TokenCount(self.estimate(nbytes))

    def estimate(self, nbytes: int) -> int:
        """Estimate the tokens of a prompt of that size."""
        return round(nbytes / self._bytes_per_token)

    def limit(self, sampling: Sampling) -> int:
        """Prompt and answer together in tokens."""
        return min(sampling.max_length, self.info.max_length)

    def _room(self, nbytes: int | None, sampling: Sampling) -> int:
        """Return how many tokens an answer may be asked to have, which servers add to the prompt's.

        Half of all at least, and more behind a prompt of `nbytes` that is short, twice as long as it seems.
        """
        limit = self.limit(sampling)
        return max(limit // 2, 1 if nbytes is None else limit - 2 * self.estimate(nbytes) - FRAME_TOKENS, 1)

    def note_size(self, nbytes: int, tokens: int) -> bool:
        """Take in what the server counted; return whether it must have cut the prompt."""
        expected = self.estimate(nbytes)
        cut = expected > CUT_TOKENS and tokens < (CUT_SHARE if self.counted else UNSURE_SHARE) * expected
        if not cut and tokens >= LEARN_TOKENS:
            self._bytes_per_token, self.counted = nbytes / tokens, True
        return cut

    def _asked(self, path: str, body: Mapping[str, object], check: Check) -> Iterator[Delta]:
        """Ask; return what comes once the server has taken the question. One that is busy is asked again."""
        attempt = 0
        while True:
            deltas = self._client.ask(path, body, lambda: check(1.0))
            try:
                next(deltas)
            except ServerBusyError as busy:
                attempt += 1
                if attempt > RETRIES:
                    raise
                _wait(busy.seconds, check)
            else:
                return deltas

    def _body(
        self, prompt: Mapping[str, object], sampling: Sampling, stop: Sequence[str], room: int
    ) -> Mapping[str, object]:
        body: dict[str, object] = {
            "model": self._served.name,
            **prompt,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p or 1e-6,  # vLLM refuses 0
        }
        if sampling.max_new_tokens is not None:
            body["max_tokens"] = min(sampling.max_new_tokens, room)
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.top_k:  # these two are extensions, though widely known
            body["top_k"] = sampling.top_k
        if sampling.repetition_penalty != 1:
            body["repetition_penalty"] = body["repeat_penalty"] = sampling.repetition_penalty
        if stop:
            body["stop"] = list(stop)
        return body

    def _too_many(self, rounds: Sequence[Sequence[ChatMessage]], error: ServerTooLongError) -> int:
        """Return how many of the oldest rounds to leave out: one, or what the server's figures ask for."""
        if not error.tokens or not error.context:
            return 1
        sizes = [size(each) for each in rounds]
        excess = sum(sizes) * (1 - error.context / error.tokens)
        dropped = 0
        for each in sizes[:-1]:
            if dropped and excess <= 0:
                break
            excess -= each
            dropped += 1
        return dropped


class RemoteAnswer:
    """One answer as it comes: iterate for its pieces, once. As `glmtui.engine.chat_model.Answer`."""

    def __init__(
        self,
        model: RemoteChatModel,
        deltas: Iterator[Delta],
        nbytes: int,
        limit: int,
        dropped_rounds: int,
        begun: tuple[Part, ...],
        check: Check | None,
        *,
        learns: bool = True,
    ) -> None:
        self.limit = limit
        self.dropped_rounds = dropped_rounds
        self.reason: Literal["stop", "length", "cancelled"] = "cancelled"
        self.prompt_tokens = model.estimate(nbytes)
        self.answer_tokens = 0
        self.call: ToolCall | None = None
        """The function that the model wants to be called."""
        self._calls: list[tuple[int, ToolCall]] = []  # with the server's index
        self.note: Phrase = NOTHING
        """What the person should know, such as that the server cut the prompt."""
        self._model = model
        self._deltas = deltas
        self._nbytes = nbytes
        self._learns = learns
        """Whether what the server counts is of text alone, whose size is known."""
        self._check = check or _go_on
        self._thoughts = ThoughtStream(begun)
        self._began = perf_counter()
        self._first = self._last = 0.0

    def __iter__(self) -> Iterator[Piece]:
        finish, server = "", self._model.info.server
        try:
            for delta in self._deltas:
                self._check(1.0)
                if delta.text or delta.thought:
                    self._last = perf_counter()
                    self._first = self._first or self._last
                    self.answer_tokens += 1
                pieces = [Piece(delta.thought, thought=True)] if delta.thought else []
                yield from [*pieces, *self._thoughts.push(delta.text)] or [Piece("", thought=False)]
                finish = delta.finish or finish
                for part in delta.calls:
                    self._add_call(part)
                self._count(delta)
            self.reason = "length" if finish == "length" else "stop"
            self.call = min(self._calls, key=itemgetter(0), default=(0, None))[1]
            if finish == "content_filter":
                self.note = _("{server} ended the answer by its content filter.").format(server=server)
            elif not self._first and self.call is None and not self.note:
                self.note = _("{server} gave an empty answer.").format(server=server)
        except OperationCancelled:
            pass
        yield from self._thoughts.finish(complete=self.reason == "stop") or [Piece("", thought=False)]

    def _add_call(self, part: CallDelta) -> None:
        at, begun = next(
            ((at, call) for at, (index, call) in reversed([*enumerate(self._calls)]) if index == part.index),
            (len(self._calls), ToolCall("", "", "")),
        )
        if begun.id and part.id not in ("", begun.id):  # some give all calls the same index
            at, begun = len(self._calls), ToolCall("", "", "")
        self._calls[at : at + 1] = [
            (
                part.index,
                ToolCall(begun.id or part.id, begun.name or part.name, begun.arguments + part.arguments),
            )
        ]

    def _count(self, delta: Delta) -> None:
        if delta.answer_tokens is not None:
            self.answer_tokens = max(self.answer_tokens, delta.answer_tokens)
        if delta.prompt_tokens is not None:
            if self._learns and self._model.note_size(self._nbytes, delta.prompt_tokens):
                self.note = _cut(self._model.info.server, delta.prompt_tokens, self.prompt_tokens)
            self.prompt_tokens = delta.prompt_tokens

    @property
    def stats(self) -> Stats:
        """The measure of the answer so far; the prompt's time is that until the first text."""
        first = self._first or self._last or perf_counter()
        return Stats(
            self.prompt_tokens, self.answer_tokens, first - self._began, max(self._last - first, 0.0)
        )


def load(spec: RemoteModel) -> RemoteChatModel:
    """Ask the server for the model.

    Raises:
        UserError: it is not there, refuses the key, or has no such model.
    """
    client = OpenAIClient(spec)
    found = client.models()
    chosen = [each for each in found if each.name == spec.model] if spec.model else found
    if len(chosen) != 1:
        raise client.no_such_model(found)
    return RemoteChatModel(client, chosen[0], found)


def size(messages: Sequence[ChatMessage]) -> int:
    """Return the size of what is sent, in bytes of UTF-8."""
    return sum(len(message.text.encode()) for message in messages)


def _rounds(messages: Sequence[ChatMessage]) -> list[list[ChatMessage]]:
    """Part `messages` into what comes before the first question, and rounds that begin with one each."""
    rounds: list[list[ChatMessage]] = [[]]
    for message in messages:
        if message.role == "user":
            rounds.append([])
        rounds[-1].append(message)
    return rounds


def _shows(messages: Sequence[ChatMessage]) -> bool:
    """Whether there are pictures in `messages`."""
    return any(isinstance(part, Image) for message in messages for part in message.parts)


def _written(message: ChatMessage, images: Mapping[str, bytes]) -> Mapping[str, object]:
    """Write a message as the interface has it."""
    written: dict[str, object] = {"role": message.role, "content": message.text}
    shown = [part for part in message.parts if isinstance(part, Image)]
    if shown:
        addresses = [{"url": _data_uri(part, images)} for part in shown]
        written["content"] = [
            *({"type": "image_url", "image_url": address} for address in addresses),
            *([{"type": "text", "text": message.text}] if message.text else []),
        ]
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    if calls:
        written["tool_calls"] = [
            {"id": each.id, "type": "function", "function": {"name": each.name, "arguments": each.arguments}}
            for each in calls
        ]
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    if results:
        written["tool_call_id"] = results[0].call_id
    return written


def _data_uri(image: Image, images: Mapping[str, bytes]) -> str:
    """Return a picture's address that holds its file, in a format that servers take."""
    data = images.get(image.sha256)
    if data is None:
        raise NotFoundError(_("The attachment {name} is missing.").format(name=image.name or image.sha256))
    kind, data = for_servers(data, image.name)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _offered(tool: Tool) -> Mapping[str, object]:
    """Describe a tool as the interface has it."""
    return {"type": "function", "function": asdict(tool)}


def _wait(seconds: float, check: Check) -> None:
    import time

    end = monotonic() + seconds
    while monotonic() < end:
        check(1.0)
        time.sleep(INTERVAL)


def _go_on(_fraction: float) -> None:
    pass


def _unknown_context(spec: RemoteModel) -> Phrase:
    return _(
        "{server} does not say how long a conversation may be; {count} tokens are assumed. Set context in "
        "[engines.NAME] of the settings."
    ).format(server=spec.server, count=f"{ASSUMED_CONTEXT:,}")


def _cut(server: str, counted: int, expected: int) -> Phrase:
    return _(
        "{server} read only {counted} of about {expected} tokens: it cuts long conversations silently. "
        "Give it a longer context (Ollama: OLLAMA_CONTEXT_LENGTH)."
    ).format(server=server, counted=f"{counted:,}", expected=f"{expected:,}")

"""The wire to OpenAI-compatible servers: vLLM, SGLang, llama-server, Ollama, LM Studio, glmtui.

What they leave out or name otherwise was captured from vLLM 0.32 and llama-server b11434. A thread with an
event loop of its own reads the network: a cancel closes the connection at once, whatever the server does.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from glmtui.connections import is_outside, why_not, without_login
from glmtui.errors import (
    BadValueError,
    NotFoundError,
    ServerFailedError,
    TooLongError,
    UnavailableError,
    UserError,
)
from glmtui.protocol.models import RemoteModel
from glmtui.protocol.phrases import Phrase, _, listing
from glmtui.regular_files import read_regular, reason
from glmtui.text.clean import one_line
from glmtui.version import __version__

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response

T = TypeVar("T")
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 900.0
"""A server may load a model, or read a long prompt on a CPU, before it says anything."""
INTERVAL = 0.1
"""Seconds between two looks at whether the answer was cancelled."""
MOST = 4 << 20
"""Bytes of one reply that are read."""
MOST_KEY_BYTES = 8192
MOST_NAMES = 12
"""Models that an error names."""
BUSY = (429, 503)
RETRIES = 3
MOST_WAIT = 30.0
"""Seconds that a server may ask to be left alone before the next attempt."""

Check = Callable[[], None]
"""Called while waiting; it may raise `OperationCancelled`."""


@dataclass(frozen=True)
class ServedModel:
    """A model that a server has."""

    name: str
    owner: str
    """Which program serves it: ``vllm``, ``llamacpp``, ``glmtui`` …"""
    context: int | None
    """Prompt and answer together in tokens, where the server tells."""
    sees_images: bool | None = None
    """Whether it takes pictures, where the server tells."""
    supports_system: bool | None = None
    """Whether it has a system prompt, where the server tells, as `glmtui serve` does."""
    temperature: float | None = None
    top_p: float | None = None
    """How it is meant to answer, where the server tells."""


@dataclass(frozen=True)
class CallDelta:
    """A part of a call of a tool."""

    index: int
    """Which of several calls."""
    id: str
    name: str
    arguments: str
    """JSON, of which this is a piece."""


@dataclass(frozen=True)
class Delta:
    """What one event of a stream adds to the answer."""

    text: str = ""
    thought: str = ""
    finish: str = ""
    """Why the answer ends; empty while it does not."""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    calls: tuple[CallDelta, ...] = ()


class ServerTooLongError(TooLongError):
    """The server refuses the prompt for its length."""

    def __init__(self, phrase: Phrase, tokens: int | None, context: int | None) -> None:
        super().__init__(phrase)
        self.tokens = tokens
        """Of the prompt, where the server tells."""
        self.context = context


class OpenAIClient:
    """One server.

    Args:
        spec: its address, key and what is sent besides.

    Raises:
        UserError: the address is none, or the key is not where it should be.
    """

    def __init__(self, spec: RemoteModel) -> None:
        self.spec = spec
        try:
            address = urlsplit(spec.base_url)
            sound = bool(address.hostname and (address.port is None or address.port)) and not address.query
        except ValueError:
            sound = False
        if sound and "@" in address.netloc:
            raise BadValueError(
                _(
                    "No user and password go into the address of a server: {server}. Its key stands in "
                    "{variable}, or in [engines.NAME] of the settings."
                ).format(server=without_login(spec.base_url), variable="GLMTUI_API_KEY")
            )
        if not sound or "@" in spec.base_url or not spec.base_url.isprintable():
            raise BadValueError(
                _("{address} is no address of a server. Write it like http://127.0.0.1:8000/v1#NAME").format(
                    address=one_line(spec.base_url)[:200]
                )
            )
        self._headers = {"User-Agent": f"glmtui/{__version__}", **spec.headers}
        if key := read_key(spec.key):
            self._headers["Authorization"] = f"Bearer {key}"

    def models(self) -> list[ServedModel]:
        """Return what the server has.

        Raises:
            UserError: it cannot be reached, refuses the key, or is no such server.
        """

        async def ask() -> AsyncIterator[Mapping[str, Any]]:
            async with (
                self._client() as client,
                client.stream("GET", f"{self.spec.base_url}/models") as response,
            ):
                await self._refuse(response)
                yield _object(await _read(response), {})

        (reply,) = self._waiting(ask, lambda: None)
        entries = reply.get("data")
        if not isinstance(entries, list):
            raise self._no_such_server()
        found: dict[str, ServedModel] = {}  # some list a model once for every machine that has it
        for entry in entries:
            if isinstance(entry, dict) and isinstance(name := entry.get("id"), str):
                sampling = entry.get("sampling")
                meant = sampling if isinstance(sampling, dict) else {}
                served = ServedModel(
                    name,
                    _text(entry.get("owned_by")),
                    _context(entry),
                    _sees(entry),
                    _flag(entry.get("supports_system")),
                    _share(meant.get("temperature"), 2),
                    _share(meant.get("top_p"), 1),
                )
                found.setdefault(name, served)
        return [*found.values()]

    def ask(self, path: str, body: Mapping[str, object], check: Check) -> Iterator[Delta]:
        """Yield the answer as it comes; the first is empty and says that the prompt was taken.

        Args:
            path: ``chat/completions`` or ``completions``.
            body: the question, as the interface has it.
            check: see `Check`.

        Raises:
            ServerTooLongError: the prompt does not fit.
            UserError: the server is not there, refuses, or breaks off; what came before it stands.
            OperationCancelled: from `check`.
        """
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}, **self.spec.body}

        async def ask() -> AsyncIterator[Delta]:
            import httpx2

            async with (
                self._client() as client,
                client.sse(f"{self.spec.base_url}/{path}", method="POST", json=asked) as events,
            ):
                await self._refuse(events.response)
                yield Delta()
                if "event-stream" not in events.response.headers.get("content-type", ""):
                    reply = _object(await _read(events.response), {})
                    if not reply:
                        raise self._no_such_server()
                    yield _complete(self._checked(reply))
                    return
                finished, text, thought = False, _Surrogates(), _Surrogates()
                try:
                    async for event in events:
                        if event.data == "[DONE]":
                            return
                        if event.data:
                            delta = _delta(self._checked(_object(event.data.encode())))
                            finished = finished or bool(delta.finish) or delta.answer_tokens is not None
                            yield replace(
                                delta, text=text.add(delta.text), thought=thought.add(delta.thought)
                            )
                except httpx2.SSEError as error:
                    raise self._no_such_server() from error
                if not finished:  # something on the way closed the connection in good order
                    raise self._broke_off("")

        return self._waiting(ask, check)

    # --- waiting for the network ---

    def _client(self) -> AsyncClient:
        import httpx2

        timeout = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        outside = is_outside(self.spec.base_url)
        return httpx2.AsyncClient(  # a key goes to no address but the one chosen
            headers=self._headers, timeout=timeout, trust_env=outside, follow_redirects=False
        )

    def _waiting(self, items: Callable[[], AsyncIterator[T]], check: Check) -> Iterator[T]:
        """Yield what `items` does in a thread of its own, which ends with the reader."""
        results: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(1000)
        left = threading.Event()

        async def read() -> None:
            async for item in items():
                while not left.is_set():
                    with suppress(queue.Full):
                        results.put_nowait((item, None))
                        break
                    await asyncio.sleep(INTERVAL)

        async def run() -> None:
            reading = asyncio.ensure_future(read())
            while not reading.done():
                if left.is_set():
                    reading.cancel()
                await asyncio.wait([reading], timeout=INTERVAL)
            with suppress(queue.Full):  # then nobody reads
                error = None if reading.cancelled() else reading.exception()
                results.put((None, error), timeout=None if not left.is_set() else INTERVAL)

        threading.Thread(target=lambda: asyncio.run(run()), name="glmtui-network", daemon=True).start()
        try:
            while True:
                check()
                try:
                    item, error = results.get(timeout=INTERVAL)
                except queue.Empty:
                    continue
                if error is not None:
                    raise self._explained(error)
                if item is None:
                    return
                yield item
        finally:
            left.set()

    # --- what goes wrong ---

    def _explained(self, error: BaseException) -> BaseException:
        import httpx2

        server, reason = self.spec.server, why_not(error)
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return ServerFailedError(
                _(
                    "No connection to {server} ({reason}). Is the server running, and the address right?"
                ).format(server=server, reason=reason)
            )
        if isinstance(error, httpx2.TimeoutException):
            return ServerFailedError(_("{server} has said nothing for too long.").format(server=server))
        if isinstance(error, httpx2.HTTPError):
            return ServerFailedError(
                _("The connection to {server} was cut ({reason}).").format(server=server, reason=reason)
            )
        return error

    async def _refuse(self, response: Response) -> None:
        """Raise what the server's status says, if it is none of success."""
        status = response.status_code
        if status < 300:
            return
        server = self.spec.server
        if status < 400:
            where = one_line(response.headers.get("location", "?"))[:200]
            raise ServerFailedError(
                _("{server} sends on to {where}. Use that address instead.").format(
                    server=server, where=where
                )
            )
        reply = _object(await _read(response), {})
        reason = _reason(reply)
        if status in (401, 403) and not self.spec.key:
            raise ServerFailedError(
                _(
                    "{server} wants a key. Give one: GLMTUI_API_KEY with an address, "
                    'or key = "env:NAME" in [engines.NAME].'
                ).format(server=server)
            )
        if status in (401, 403):
            raise ServerFailedError(
                _(
                    "{server} refuses the key. Give the right one: GLMTUI_API_KEY, or key in [engines.NAME]."
                ).format(server=server)
            )
        if too_long := _too_long(reply, reason):
            raise ServerTooLongError(
                _("{server} says that the conversation is too long: {reason}").format(
                    server=server, reason=reason
                ),
                *too_long,
            )
        if status in BUSY:
            wait = response.headers.get("retry-after", "")
            raise ServerBusyError(
                _("{server} is busy: {reason}. Try again later.").format(
                    server=server, reason=reason or status
                ),
                float(wait) if wait.isascii() and wait.isdigit() else 1.0,
            )
        if status == 404 and "model" in reason.lower():
            raise NotFoundError(
                _("{server} has no model {name}: {reason}").format(
                    server=server, name=self.spec.model, reason=reason
                )
            )
        if status == 404:
            raise self._no_such_server()
        failure = ServerFailedError if status >= 500 else UnavailableError
        raise failure(
            _("{server} answered with status {status}: {reason}").format(
                server=server, status=status, reason=reason or "–"
            )
        )

    def _checked(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `event`, unless it tells of an error in the middle of an answer."""
        if event.get("error"):
            raise self._broke_off(_reason(event))
        return event

    def _broke_off(self, reason: str) -> UserError:
        return ServerFailedError(
            _("{server} broke off: {reason}").format(server=self.spec.server, reason=reason)
            if reason
            else _("{server} ended in the middle of the answer.").format(server=self.spec.server)
        )

    def _no_such_server(self) -> UserError:
        return ServerFailedError(
            _(
                "{address} is no OpenAI-compatible server. The address mostly ends in /v1, as in "
                "http://127.0.0.1:8000/v1."
            ).format(address=self.spec.base_url)
        )

    def no_such_model(self, found: list[ServedModel]) -> UserError:
        """Say that the server has no model of that name, or several, and which."""
        if not found:
            return NotFoundError(
                _("{server} has no model at the moment. Perhaps it is still loading one.").format(
                    server=self.spec.server
                )
            )
        names = listing([one_line(each.name) for each in found[:MOST_NAMES]])
        if not self.spec.model:
            return NotFoundError(
                _("{server} has several models; name one behind a #: {names}").format(
                    server=self.spec.server, names=names
                )
            )
        return NotFoundError(
            _("{server} has no model {name}. It has: {names}").format(
                server=self.spec.server, name=self.spec.model, names=names
            )
        )


class ServerBusyError(ServerFailedError):
    """The server asks to come again."""

    def __init__(self, phrase: Phrase, seconds: float) -> None:
        super().__init__(phrase)
        self.seconds = min(max(seconds, 0.0), MOST_WAIT)


def read_key(where: str) -> str:
    """Return the key that lies at ``env:NAME``, ``file:PATH`` or ``keyring:SERVICE``; empty for nowhere.

    Raises:
        UserError: it is not there.
    """
    kind, _colon, name = where.partition(":")
    key: str | None
    match kind:
        case "":
            return ""
        case "env":
            key = os.environ.get(name)
        case "file":
            try:
                key = read_regular(Path(name).expanduser(), MOST_KEY_BYTES).decode()
            except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: ``~nobody`` has no home
                raise NotFoundError(
                    _("The key cannot be read from {path}: {error}").format(path=name, error=reason(error))
                ) from error
        case "keyring":
            key = _from_keyring(name)
        case _:
            raise BadValueError(_("A key is named by where it lies: env:NAME, file:PATH or keyring:SERVICE."))
    key = (key or "").strip()
    if not key:
        raise NotFoundError(_("There is no key at {place}.").format(place=where))
    if not key.isascii() or not key.isprintable():
        raise BadValueError(
            _("The key at {place} cannot be one: a key is a single line of ASCII characters.").format(
                place=where
            )
        )
    return key


def _from_keyring(service: str) -> str | None:
    try:
        keyring, errors = import_module("keyring"), import_module("keyring.errors")
    except ImportError as error:
        raise UnavailableError(
            _("Keys of the system's keyring need: {command}").format(command="pip install keyring")
        ) from error
    try:
        key: str | None = keyring.get_password(service, "glmtui")
        return key
    except errors.KeyringError as error:
        raise NotFoundError(
            _("The keyring gives no key for {service}: {error}").format(service=service, error=error)
        ) from error


# --- reading what servers say ---


async def _read(response: Response) -> bytes:
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > MOST:
            break
    return bytes(data[:MOST])


def _object(data: bytes, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    if default is None:
        raise ServerFailedError(_("The server's answer cannot be read."))
    return default


class _Surrogates:
    """Puts the halves of a surrogate pair together, which may come in two events; one alone is none."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, text: str) -> str:
        """Return `text` as far as it can be written."""
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        complete = text.removesuffix(self._half) if self._half else text
        return complete.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _delta(event: Mapping[str, Any]) -> Delta:
    """Read one event; whatever is missing or null adds nothing."""
    choice = _choice(event)
    return _said(event, choice, _mapping(choice.get("delta")))


def _complete(reply: Mapping[str, Any]) -> Delta:
    """Read an answer that came in one piece."""
    choice = _choice(reply)
    return _said(reply, choice, _mapping(choice.get("message")))


def _said(event: Mapping[str, Any], choice: Mapping[str, Any], said: Mapping[str, Any]) -> Delta:
    usage = _mapping(event.get("usage"))
    return Delta(
        _content(said.get("content")) or _text(choice.get("text")),
        _text(said.get("reasoning")) or _text(said.get("reasoning_content")),
        _text(choice.get("finish_reason")),
        _number(usage.get("prompt_tokens")),
        _number(usage.get("completion_tokens")),
        tuple(_calls(said.get("tool_calls"))),
    )


def _calls(value: object) -> Iterator[CallDelta]:
    for at, call in enumerate(value if isinstance(value, list) else ()):
        call = _mapping(call)
        function, index = _mapping(call.get("function")), _number(call.get("index"))
        yield CallDelta(
            at if index is None else index,
            _text(call.get("id")),
            _text(function.get("name")),
            _text(function.get("arguments")),
        )


def _choice(event: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = event.get("choices")
    return _mapping(choices[0]) if isinstance(choices, list) and choices else {}


def _content(value: object) -> str:
    """Return a text, or those of a list of parts."""
    if isinstance(value, list):
        return "".join(_text(_mapping(part).get("text")) for part in value)
    return _text(value)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> int | None:
    """Return a count, where it is one that can be."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def _context(entry: Mapping[str, Any]) -> int | None:
    return _number(entry.get("max_model_len")) or _number(_mapping(entry.get("meta")).get("n_ctx"))


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _share(value: object, most: float) -> float | None:
    """Return a number from 0 to `most`; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return None
    return float(value)


def _sees(entry: Mapping[str, Any]) -> bool | None:
    """Whether a model takes pictures: glmtui says so in a word, others list what it can do or take."""
    if isinstance(told := entry.get("sees_images"), bool):
        return told
    architecture = _mapping(entry.get("architecture"))
    lists = (
        entry.get("capabilities"), entry.get("input_modalities"), architecture.get("input_modalities")
    )  # fmt: skip
    for each in lists:
        if isinstance(each, list):
            return bool({"image", "vision", "multimodal"} & {word for word in each if isinstance(word, str)})
    return None


def _reason(reply: Mapping[str, Any]) -> str:
    """What an error says: an object, a text, or FastAPI's ``detail``."""
    error = reply.get("error", reply.get("detail"))
    if isinstance(error, dict):
        error = error.get("message")
    return one_line(str(error))[:300] if error else ""


def _too_long(reply: Mapping[str, Any], reason: str) -> tuple[int | None, int | None] | None:
    """Whether the prompt did not fit: its tokens and the context, as far as they are told."""
    error = _mapping(reply.get("error"))
    if error.get("type") == "exceed_context_size_error":
        return _number(error.get("n_prompt_tokens")), _number(error.get("n_ctx"))
    if error.get("code") == "context_length_exceeded" or "maximum context length" in reason:
        return None, None
    return None

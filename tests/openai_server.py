"""A server that answers like an OpenAI-compatible one, or as badly as the test says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DONE = "data: [DONE]"


def chunk(delta: dict[str, object] | None, finish: object = None, **more: object) -> str:
    """Write one event of an answer; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return "data: " + json.dumps({"object": "chat.completion.chunk", "choices": choices, **more})


def usage(prompt: int, answer: int) -> dict[str, object]:
    return {"usage": {"prompt_tokens": prompt, "completion_tokens": answer}}


def spoken(*pieces: str, finish: str = "stop", prompt: int = 7) -> list[str]:
    """Return the lines of an answer as vLLM sends it."""
    lines = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]
    return [*lines, chunk({}, finish), chunk(None, **usage(prompt, len(pieces))), DONE]


def up_to(lines: Sequence[str], stops: Sequence[str]) -> list[str]:
    """Return `lines` without what comes from the first of `stops` on."""
    text, kept = "", []
    for line in lines:
        choices = json.loads(line[6:]).get("choices") if line.startswith('data: {"obj') else None
        piece = choices[0]["delta"].get("content") if choices else None
        if isinstance(piece, str):
            places = [at for stop in stops if (at := (text + piece).find(stop)) >= 0]
            if places:
                return [*kept, chunk({"content": (text + piece)[len(text) : min(places)]}, "stop"), DONE]
            text += piece
        kept.append(line)
    return kept


def bare(line: str) -> str:
    """Return an event of a conversation as one of a bare text."""
    if not line.startswith("data: {"):
        return line
    event = json.loads(line[6:])
    for choice in event["choices"]:
        choice["text"] = choice.pop("delta").get("content") or ""
    return "data: " + json.dumps(event)


class OpenAIServer:
    """What the server says; a test changes it."""

    def __init__(self) -> None:
        self.models: list[dict[str, Any]] = [{"id": "tiny", "owned_by": "vllm", "max_model_len": 256}]
        self.lines: list[str] = spoken("Hello", ", ", "world", "!")
        """Of every answer."""
        self.replies: list[tuple[int, dict[str, str], bytes]] = []
        """Status, headers and body of the next questions, instead of an answer."""
        self.list_reply: tuple[int, dict[str, str], bytes] | None = None
        """Instead of the list of models."""
        self.key = ""
        """What is demanded."""
        self.gate = threading.Event()
        """While it is cleared, answers stand still after their second text."""
        self.gate.set()
        self.cut_after: int | None = None
        """The connection breaks off behind this line."""
        self.refuse: Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes] | None] = lambda _body: None
        self.asked: list[dict[str, Any]] = []
        """The bodies of the questions."""
        self.headers: list[dict[str, str]] = []
        self.left = threading.Event()
        """Somebody closed the connection in the middle of an answer."""
        self.url = ""


def error(status: int, message: str, **more: object) -> tuple[int, dict[str, str], bytes]:
    return status, {}, json.dumps({"error": {"message": message, **more}}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: OpenAIServer

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.state.headers.append(dict(self.headers))
        if self._refused():
            return
        if self.path != "/v1/models":
            self._reply(*error(404, "File Not Found"))
            return
        listed = json.dumps({"object": "list", "data": self.state.models}).encode()
        self._reply(*(self.state.list_reply or (200, {}, listed)))

    def do_POST(self) -> None:
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        state.asked.append(body)
        state.headers.append(dict(self.headers))
        if self._refused():
            return
        if state.replies:
            self._reply(*state.replies.pop(0))
        elif (reply := state.refuse(body)) is not None:
            self._reply(*reply)
        elif self.path == "/v1/completions":
            self._answer([*map(bare, up_to(state.lines, body.get("stop", []))), DONE])
        else:
            self._answer(up_to(state.lines, body.get("stop", [])))

    def _refused(self) -> bool:
        if self.state.key and self.headers.get("Authorization") != f"Bearer {self.state.key}":
            self._reply(401, {}, b'{"error":"Unauthorized"}')
            return True
        return False

    def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, lines: Sequence[str]) -> None:
        state, texts = self.state, 0
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, line in enumerate(lines):
                if state.cut_after == number:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                while texts >= 2 and not state.gate.wait(0.02):
                    self._chunk(b": ping\n\n")
                self._chunk(f"{line}\n\n".encode())
                texts += '"content": "' in line and '"content": ""' not in line
            self._chunk(b"")
        except OSError:
            state.left.set()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        pass


@contextmanager
def openai_server() -> Iterator[OpenAIServer]:
    """Run such a server on a free port."""
    state = OpenAIServer()
    handler = type("Bound", (Handler,), {"state": state})
    server = Quiet(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.gate.set()
        server.shutdown()
        server.server_close()
        thread.join(10)

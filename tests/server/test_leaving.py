"""Slots and the queue: who leaves makes room, who comes too much waits or is told so, nobody holds memory."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx2
import pytest
from served import QUESTION, SECONDS, MakeServer, Served, events_of, wait_for

from glmtui.protocol.requests import Generate
from glmtui.server import answering
from glmtui.server.connection import Connection

FREE = 0.5
"""Seconds in which a client that leaves frees its slot."""


def connect(served: Served) -> socket.socket:
    host, _colon, port = served.url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def request_of(body: object, path: str = "/v1/chat/completions", head: str = "") -> bytes:
    data = json.dumps(body).encode()
    lines = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(data)}\r\n\r\n"
    return lines.encode() + data


def ask(served: Served, **body: Any) -> socket.socket:
    """Ask by a bare socket, which can be closed at any time."""
    sock = connect(served)
    sock.sendall(request_of({"messages": QUESTION, **body}))
    return sock


def running(served: Served, count: int) -> Callable[[], bool]:
    return lambda: served.figures["glmtui_requests_running"] == count


def waiting(served: Served, count: int) -> Callable[[], bool]:
    return lambda: served.figures["glmtui_requests_waiting"] == count


class Asking:
    """A request in a thread of its own."""

    def __init__(self, ask: Callable[[], httpx2.Response]) -> None:
        self.responses: list[httpx2.Response] = []
        self._thread = threading.Thread(target=lambda: self.responses.append(ask()), daemon=True)
        self._thread.start()

    @property
    def response(self) -> httpx2.Response:
        self._thread.join(SECONDS)
        (response,) = self.responses
        return response


# --- who leaves ---


@pytest.mark.parametrize("streaming", [False, True])
def test_who_leaves_frees_the_slot(served: Served, streaming: bool) -> None:
    engine = served.ready(hold=True)
    sock = ask(served, stream=streaming)
    wait_for(lambda: engine.answering)
    left = time.monotonic()
    sock.close()
    wait_for(running(served, 0))
    assert time.monotonic() - left < 4 * FREE, "the machine may be slow, the server is not"
    assert isinstance(engine.cancelled[-1], Generate)


def test_who_leaves_while_waiting_is_forgotten(serve: MakeServer) -> None:
    served = serve(limits={"slots": 1})
    engine = served.ready(hold=True)
    first, second = ask(served), None
    wait_for(lambda: engine.answering)
    second = ask(served, stream=True)
    wait_for(waiting(served, 1))
    second.close()
    wait_for(waiting(served, 0))
    engine.finish()
    first.close()
    assert len(engine.generated) == 1


def test_who_leaves_before_the_engine_began_leaves_the_slot_at_once(serve: MakeServer) -> None:
    served = serve(limits={"slots": 2})
    engine = served.ready(hold=True)
    engine.slow_to_cancel = True
    with closing(ask(served)):
        wait_for(lambda: engine.answering)
        queued = ask(served)
        wait_for(running(served, 2))
        queued.close()
        wait_for(running(served, 1))
        assert engine.answering
    engine.finish()


# --- who comes too much ---


def test_a_full_queue_is_told_with_the_time_to_come_again(serve: MakeServer) -> None:
    served = serve(limits={"slots": 1, "queue": 1})
    engine = served.ready(hold=True)
    answers = []
    for number in range(2):
        answers.append(Asking(served.chat))
        wait_for(running(served, 1))
        wait_for(waiting(served, number))
    response = served.chat()
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "queue_full"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert served.health() == "ok"
    assert served.figures["glmtui_requests_rejected_total"] == 1
    engine.hold = False
    engine.finish()
    assert [each.response.status_code for each in answers] == [200, 200]


def test_clients_take_turns(serve: MakeServer) -> None:
    served = serve(limits={"slots": 1, "queue": 3}, keys=("one", "other"))
    engine = served.ready(hold=True)

    def say(text: str, key: str) -> Asking:
        count = served.figures["glmtui_requests_waiting"] + served.figures["glmtui_requests_running"]
        body = {"messages": [{"role": "user", "content": text}]}
        headers = {"Authorization": f"Bearer {key}"}
        asking = Asking(lambda: served.client.post("/v1/chat/completions", json=body, headers=headers))
        wait_for(lambda: sum_of(served) == count + 1)
        return asking

    served.client.headers["Authorization"] = "Bearer one"
    askings = [say(text, "one") for text in "abcd"]
    askings.append(say("x", "other"))  # others cannot keep it out of a full queue
    assert served.chat().status_code == 429
    engine.hold = False
    engine.finish()
    assert [asking.response.status_code for asking in askings] == [200] * 5
    assert "".join(request.messages[0].text for request in engine.generated) == "abxcd"


def sum_of(served: Served) -> float:
    figures = served.figures
    return figures["glmtui_requests_waiting"] + figures["glmtui_requests_running"]


def test_the_app_comes_first(served: Served) -> None:
    served.busy = True
    asking = Asking(served.chat)
    wait_for(waiting(served, 1))
    assert served.health() == "ok"
    assert served.scripted.generated == []
    served.busy = False
    assert asking.response.status_code == 200


def test_who_waits_hears_something_now_and_then(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "EARLY", 0.05)
    monkeypatch.setattr(answering, "PING", 0.05)
    served.busy = True
    asking = Asking(lambda: served.chat(stream=True))
    wait_for(waiting(served, 1))
    time.sleep(0.3)
    served.busy = False
    text = asking.response.text
    assert text.count("\n\n: ") >= 2
    assert events_of(text)[-1] == "[DONE]"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_request_may_take_so_long(serve: MakeServer, streaming: bool) -> None:
    served = serve(limits={"request_seconds": 0.2})
    engine = served.ready(hold=True)
    response = served.chat(stream=streaming)
    if streaming:  # it had begun
        assert events_of(response.text)[-1]["error"]["code"] == "timeout"
    else:
        assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
    wait_for(lambda: not engine.answering)


# --- who is slow ---


def test_a_head_must_come_in_time(serve: MakeServer) -> None:
    served = serve(limits={"head_seconds": 0.3})
    for beginning in (b"", b"GET / HTTP/1.1\r\nHost: local"):
        with connect(served) as sock:
            sock.sendall(beginning)
            assert closed(sock)
    engine = served.ready(hold=True)
    with ask(served) as sock:  # an answer may take longer
        wait_for(lambda: engine.answering)
        time.sleep(0.4)
        engine.finish()
        assert sock.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_body_must_come_in_time(serve: MakeServer) -> None:
    served = serve(limits={"body_seconds": 0.2})
    with connect(served) as sock:
        sock.sendall(request_of({"prompt": "x" * 100}, "/")[:-50])
        assert sock.recv(100).startswith(b"HTTP/1.1 408")


def test_an_answer_must_be_taken_in_time(serve: MakeServer) -> None:
    served = serve(limits={"write_seconds": 0.3})
    served.ready("x" * 10_000_000)
    with connect(served) as sock:
        sock.sendall(request_of({"messages": QUESTION}))
        wait_for(lambda: served.lines)
        began = time.monotonic()
        wait_for(lambda: not served.thread.server.connections)
        assert time.monotonic() - began > 0.2


def test_only_so_many_are_connected(serve: MakeServer) -> None:
    served = serve(limits={"connections": 3})
    socks = [connect(served) for _ in range(8)]
    assert sum(closed(sock, 0.5) for sock in socks) >= 4
    for sock in socks:
        sock.close()


def test_what_is_no_http_is_told_in_the_same_shape(served: Served) -> None:
    with connect(served) as sock:
        sock.sendall(b"\x16\x03\x01 what?\r\n\r\n")
        head, _blank, body = sock.makefile("rb").read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert json.loads(body)["error"]["code"] == "invalid_http"


def closed(sock: socket.socket, seconds: float = SECONDS) -> bool:
    """Whether the server ends the connection, whatever it has written before."""
    sock.settimeout(seconds)
    try:
        while sock.recv(1 << 20):
            continue
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


# --- the end ---


def test_running_answers_are_told_of_the_end(serve: MakeServer) -> None:
    served = serve(limits={"slots": 1})
    engine = served.ready(hold=True)
    streamed = Asking(lambda: served.chat(stream=True))
    wait_for(lambda: engine.answering)
    queued = Asking(served.chat)
    wait_for(waiting(served, 1))
    began = time.monotonic()
    served.thread.stop()
    assert served.thread.join(SECONDS)
    assert time.monotonic() - began < 3
    assert events_of(streamed.response.text)[-1]["error"]["code"] == "shutting_down"
    assert queued.response.status_code == 503
    assert queued.response.json()["error"]["code"] == "shutting_down"


def test_a_server_can_end_before_it_began(serve: MakeServer) -> None:
    served = serve()
    served.thread.stop()
    served.thread.stop()
    assert served.thread.join(SECONDS)


def test_tokens_do_not_wait_for_each_other_in_the_network(served: Served) -> None:
    served.health()
    _app, running = served.thread.server._running or (None, None)
    assert running is not None
    (sock, *_others) = [
        each.transport.get_extra_info("socket")
        for each in running.server_state.connections
        if isinstance(each, Connection)
    ]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

"""The app in a tab of a browser: what it shows and is told, who may open it, and that it ends with the tab."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from served import MakeServer, Served, wait_for

from glmtui.server import terminals
from glmtui.server.service import Program

APP = r"""
import os, sys
def write(kind, payload):
    os.write(1, kind + len(payload).to_bytes(4, "big") + payload)
def read(count):
    data = b""
    while len(data) < count:
        more = os.read(0, count - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data
os.write(1, b"a warning\n__GANGLION__\n")
write(b"D", f"{os.environ['COLUMNS']}x{os.environ['ROWS']} {os.getpid()}".encode())
while True:
    head = read(5)
    payload = read(int.from_bytes(head[1:], "big"))
    if payload == b"quit":
        sys.exit(0)
    if payload == b"die":
        sys.exit("it broke")
    if payload == b"links":
        write(b"M", b'{"type": "open_url", "url": "javascript:x"}')
        write(b"M", b'{"type": "open_url", "url": "https://a.example/"}')
    write(b"D", head[:1] + payload)
"""
PROGRAM = Program((sys.executable, "-S", "-E", "-c", APP), os.environ)
SIZE = {"columns": 100, "rows": 30}


class Tab:
    """What a tab does."""

    def __init__(self, served: Served, response: httpx2.Response) -> None:
        self._served = served
        self._lines = (json.loads(line) for line in response.iter_lines())
        self.id = self.next()["id"]

    def next(self) -> Any:
        return next(self._lines)

    def tell(self, **body: Any) -> httpx2.Response:
        return self._served.client.post(f"/terminal/{self.id}", json=body)


@contextmanager
def opened(served: Served, **headers: str) -> Iterator[Tab]:
    with served.client.stream("POST", "/terminal", json=SIZE, headers=headers) as response:
        assert response.status_code == 200
        yield Tab(served, response)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def shown(serve: MakeServer) -> Served:
    return serve(program=PROGRAM, limits={"requests_per_minute": 3})


def test_a_tab_shows_the_app_and_tells_it_what_is_typed_however_often(shown: Served) -> None:
    with opened(shown) as tab:
        assert tab.next()["text"].startswith("100x30 ")
        for text in ("你好", "\x1b[A", *"abcdefgh"):
            assert tab.tell(text=text).status_code == 204
            assert tab.next() == {"text": f"D{text}"}
        assert tab.tell(columns=50, rows=20, focus=True).status_code == 204
        assert json.loads(tab.next()["text"][1:]) == {"type": "resize", "width": 50, "height": 20}
        assert json.loads(tab.next()["text"][1:]) == {"type": "focus"}
        assert tab.tell(text="links").status_code == 204
        assert tab.next() == {"open": "https://a.example/"}  # and the other address is none for a browser
        assert [line for line in shown.lines if "/terminal/" in line] == []


@pytest.mark.parametrize(
    ("last", "end"), [("quit", {"ended": 0, "said": ""}), ("die", {"ended": 1, "said": "it broke"})]
)
def test_an_app_that_ends_is_told_of(shown: Served, last: str, end: dict[str, object]) -> None:
    with opened(shown) as tab:
        tab.next()
        tab.tell(text=last)
        assert tab.next() == end
        with pytest.raises(StopIteration):
            tab.next()
        wait_for(lambda: tab.tell(text="x").status_code == 404)


def test_what_cannot_be_started_is_an_error(serve: MakeServer) -> None:
    served = serve(program=Program(("/no/such/program",), {}))
    response = served.client.post("/terminal", json=SIZE)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "unexpected")


@pytest.mark.skipif(sys.platform == "win32", reason="asks for a process by its number")
def test_an_app_ends_with_its_tab_and_makes_room(shown: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "MOST", 1)
    with opened(shown) as tab:
        pid = int(tab.next()["text"].split()[1])
        full = shown.client.post("/terminal", json=SIZE)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "tabs_full")
    wait_for(lambda: not alive(pid))
    wait_for(lambda: shown.client.post("/terminal", json={}).status_code != 429)


@pytest.mark.skipif(sys.platform == "win32", reason="asks for a process by its number")
def test_an_app_that_does_not_end_is_ended(serve: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "END_SECONDS", 0.05)
    served = serve(program=Program((*PROGRAM.arguments[:-1], APP.replace("sys.exit(0)", "pass", 1)), os.environ))
    with opened(served) as tab:
        pid = int(tab.next()["text"].split()[1])
    wait_for(lambda: not alive(pid))


@pytest.mark.skipif(sys.platform == "win32", reason="asks for a process by its number")
def test_the_server_ends_with_its_apps(shown: Served) -> None:
    with opened(shown) as tab:
        pid = int(tab.next()["text"].split()[1])
        began = time.monotonic()
        shown.thread.stop()
        assert shown.thread.join(10)
        assert time.monotonic() - began < 2
    assert not alive(pid)


@pytest.mark.parametrize(
    "body", [{}, {"columns": 1, "rows": 1}, {"columns": 10**9, "rows": 30}, {"columns": "a", "rows": 3}]
)
def test_a_size_that_is_none_opens_nothing(shown: Served, body: dict[str, object]) -> None:
    assert shown.client.post("/terminal", json=body).status_code == 400


def test_nobody_opens_it_from_elsewhere_or_without_the_key(serve: MakeServer) -> None:
    served = serve(program=PROGRAM, keys=("secret",))
    key = {"Authorization": "Bearer secret"}
    for path in ("/terminal", "/terminal/x"):
        post = served.client.post
        assert post(path, json=SIZE).status_code == 401
        assert post(path, json=SIZE, headers={**key, "Origin": "http://evil.example"}).status_code == 403
        assert post(path, json=SIZE, headers={**key, "Host": "evil.example"}).status_code == 403
        form = {**key, "Origin": served.url, "Content-Type": "text/plain"}
        assert post(path, content=b"{}", headers=form).status_code == 415
    assert served.client.get("/terminal").status_code == 200, "the page holds nothing but the program"
    with opened(served, **key) as tab:
        assert tab.tell(text="x").status_code == 401


def test_there_is_no_app_where_none_was_asked_for(served: Served) -> None:
    assert served.client.get("/terminal").status_code == 404
    assert served.client.post("/terminal", json=SIZE).status_code == 404

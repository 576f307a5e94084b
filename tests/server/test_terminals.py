"""The app in a tab of a browser: what it shows and is told, who may open it, that it ends with the tab."""

from __future__ import annotations

import json
import os
import re
import shutil
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

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no ptys")

APP = r"""
import os, signal, sys, tty
def size(*_):
    now = os.get_terminal_size(0)
    os.write(1, b"%dx%d %d" % (now.columns, now.lines, os.getpid()))
tty.setraw(0)
signal.signal(signal.SIGWINCH, size)
signal.signal(signal.SIGHUP, lambda *_: sys.exit(0))
size()
while True:
    data = os.read(0, 1024)
    if data == b"quit":
        sys.exit(3)
    os.write(1, b"<" + data + b">")
"""
PROGRAM = Program((sys.executable, "-S", "-E", "-c", APP), os.environ)
SIZE = {"columns": 100, "rows": 30}
WIDTH = """(row, text) => {
  const walker = document.createTreeWalker(row, NodeFilter.SHOW_TEXT), places = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode())
    for (let at = 0; at < node.length; at++) places.push([node, at]);
  const first = row.textContent.indexOf(text), range = document.createRange();
  const ends = [places[first], places[first + text.length - 1]].map(([node, at]) => {
    range.setStart(node, at);
    range.setEnd(node, at + 1);
    return range.getBoundingClientRect();
  });
  return ends[1].right - ends[0].left;
}"""
"""How wide a text of a row is drawn."""


class Tab:
    """What a tab does."""

    def __init__(self, served: Served, response: httpx2.Response) -> None:
        self._served = served
        self.lines = (json.loads(line) for line in response.iter_lines())
        self.id = next(self.lines)["id"]

    def until(self, end: str) -> str:
        """Return what the screen shows up to `end`."""
        text = ""
        while end not in text:
            text += next(self.lines)["text"]
        return text

    def pid(self) -> int:
        return int(next(self.lines)["text"].split()[1])

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
        assert tab.until(" ").startswith("100x30 ")
        for text in ("你好", "\x1b[A", *"abcdefgh"):
            assert tab.tell(text=text).status_code == 204
            assert tab.until(">").endswith(f"<{text}>")
        assert tab.tell(columns=50, rows=20).status_code == 204
        assert tab.until(" ").startswith("50x20 ")
        assert [line for line in shown.lines if "/terminal/" in line] == []


def test_what_is_pasted_is_taken_as_a_whole(shown: Served) -> None:
    with opened(shown) as tab:
        tab.until(" ")
        sent = "abc" * 30_000
        assert tab.tell(text=sent).status_code == 204
        shown_text = ""
        while len(shown_text) < len(sent):
            shown_text += re.sub("[<>]", "", next(tab.lines)["text"])
        assert shown_text == sent


def test_an_app_that_ends_is_told_of(shown: Served) -> None:
    with opened(shown) as tab:
        tab.until(" ")
        tab.tell(text="quit")
        lines = [*tab.lines]
        assert lines[-1] == {"ended": 3}
        wait_for(lambda: tab.tell(text="x").status_code == 404)


def test_what_cannot_be_started_is_an_error(serve: MakeServer) -> None:
    served = serve(program=Program(("/no/such/program",), {}))
    response = served.client.post("/terminal", json=SIZE)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "unexpected")


def test_an_app_ends_with_its_tab_and_makes_room(shown: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "MOST", 1)
    with opened(shown) as tab:
        pid = tab.pid()
        full = shown.client.post("/terminal", json=SIZE)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "tabs_full")
    wait_for(lambda: not alive(pid))
    wait_for(lambda: shown.client.post("/terminal", json={}).status_code != 429)


def test_an_app_that_does_not_end_is_ended(serve: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "END_SECONDS", 0.05)
    served = serve(program=Program((*PROGRAM.arguments[:-1], APP.replace("sys.exit(0)", "0")), os.environ))
    with opened(served) as tab:
        pid = tab.pid()
    wait_for(lambda: not alive(pid))


def test_the_server_ends_with_its_apps(shown: Served) -> None:
    with opened(shown) as tab:
        pid = tab.pid()
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


@pytest.mark.slow
def test_a_browser_draws_it_and_asks_nobody_else(serve: MakeServer) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    served = serve(program=PROGRAM, keys=("secret",))
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(locale="en-US")
        complaints: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(f"{served.url}/terminal#key=secret")
        tab.wait_for_selector("body[data-state=open]")
        tab.keyboard.insert_text("你好")
        tab.locator(".xterm-rows", has_text="<你好>").wait_for()
        assert tab.url == f"{served.url}/terminal"
        tab.keyboard.insert_text("，。，。")
        row = tab.locator(".xterm-rows > div", has_text="<，。，。>")
        row.wait_for()
        assert row.evaluate(WIDTH, "<，。，。>") == pytest.approx(2.5 * row.evaluate(WIDTH, "你好"), abs=2)
        tab.keyboard.insert_text("quit")
        tab.locator("#ended[open]", has_text="ended").wait_for()
        tab.click("#open")
        tab.wait_for_selector("body[data-state=open]")
        assert all(url.startswith(served.url) for url in asked)
        assert complaints == []
        browser.close()


def test_there_is_no_app_where_none_was_asked_for(served: Served) -> None:
    assert served.client.get("/terminal").status_code == 404
    assert served.client.post("/terminal", json=SIZE).status_code == 404

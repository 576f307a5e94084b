"""Health tells the truth, and never waits for the engine; figures are in Prometheus' format."""

from __future__ import annotations

import re

import pytest
from served import QUESTION, Served, wait_for

from glmtui.protocol.engine import Stream
from glmtui.protocol.requests import CountTokens, Request
from glmtui.server import health


def test_an_idle_engine_is_asked(served: Served) -> None:
    assert served.health() == "ok"
    assert isinstance(served.scripted.requests[-1], CountTokens)


def test_without_a_model(served: Served) -> None:
    served.info = None
    response = served.client.get("/health")
    assert (response.status_code, response.json()) == (503, {"status": "no_model"})


def test_an_engine_that_does_not_answer_is_stuck(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    real = served.scripted.submit
    dead = Stream()

    def submit(request: Request) -> Stream:
        return dead if isinstance(request, CountTokens) else real(request)

    monkeypatch.setattr(served.scripted, "submit", submit)
    assert served.health() == "ok", "not known yet"
    monkeypatch.setattr(health, "PROBE_STUCK", 0.0)
    assert served.health() == "stuck"
    assert served.client.get("/health").status_code == 503
    served.busy = True
    assert served.health() == "ok", "it works for somebody else"
    served.busy = False
    from glmtui.protocol.events import TokenCount

    dead.put(TokenCount(1))
    assert served.health() == "ok", "it has answered"


def test_an_answer_without_a_sign_of_life_is_stuck(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = served.ready(hold=True)
    with served.client.stream("POST", "/v1/chat/completions", json={"messages": QUESTION, "stream": True}):
        wait_for(lambda: engine.answering)
        assert served.health() == "ok"
        monkeypatch.setattr(health, "STUCK", 0.0)
        assert served.health() == "stuck"
        engine.finish()
    wait_for(lambda: served.health() == "ok")


def test_figures(served: Served) -> None:
    before = served.figures
    served.chat()
    after = served.figures
    grew = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grew["glmtui_requests_done_total"] == 1
    assert grew["glmtui_prompt_tokens_total"] == 2
    assert grew["glmtui_generated_tokens_total"] == 2
    assert grew["glmtui_time_to_first_token_seconds_count"] == 1
    assert grew['glmtui_request_seconds_bucket{le="+Inf"}'] == 1
    response = served.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    line = re.compile(r'# (HELP|TYPE) \w+ .+|\w+(\{le="[^"]+"\})? [\d.]+')
    assert all(line.fullmatch(each) for each in response.text.splitlines())

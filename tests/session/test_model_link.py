"""Events on their way from the worker to the screen, and what they measure."""

from __future__ import annotations

import pytest
from scripted_worker import ScriptedWorker

from glmtui.protocol.events import Loaded, LoadProgress, PromptProgress, Tokens
from glmtui.protocol.requests import Load
from glmtui.session.model_link import ModelLink, SpeedMeter, coalesce


def test_text_of_one_answer_is_joined_and_nothing_is_lost() -> None:
    events = [Tokens(1, "你", 1), Tokens(1, "", 1), Tokens(1, "好", 2), Tokens(2, "x", 1), Tokens(1, "!", 1)]
    assert coalesce(events) == [Tokens(1, "你好", 4), Tokens(2, "x", 1), Tokens(1, "!", 1)]


def test_only_the_latest_progress_counts() -> None:
    events = [
        LoadProgress(1, "read", 1, 9),
        LoadProgress(1, "read", 9, 9),
        PromptProgress(2, 0.1),
        PromptProgress(2, 0.9),
    ]
    assert coalesce(events) == [LoadProgress(1, "read", 9, 9), PromptProgress(2, 0.9)]


def test_speed_is_that_of_the_last_seconds() -> None:
    now = 0.0
    meter = SpeedMeter(lambda: now)
    assert meter.rate is None
    for second in range(10):
        now = float(second)
        meter.add(5 if second < 5 else 20)
    assert meter.rate == pytest.approx(20)
    assert meter.tokens == 125


def test_no_worker_is_made_before_it_is_needed() -> None:
    made: list[ScriptedWorker] = []

    def make() -> ScriptedWorker:
        made.append(ScriptedWorker())
        return made[-1]

    link = ModelLink(make)
    link.cancel()
    assert link.take_events() == []
    link.close()
    assert made == []
    request = Load()
    link.load(request, "nano")
    assert link.loading
    loaded = [event for event in link.take_events() if isinstance(event, Loaded)]
    link.loaded(loaded[0])
    assert not link.loading
    assert link.status.activity == "ready"

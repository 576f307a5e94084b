"""The line at the bottom."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_engine import NANO, ScriptedEngine, ScriptedStream
from tui.app_support import running, visible_text
from tui_helpers import wait_until

from glmtui.engine.usage import Usage
from glmtui.protocol.engine import Stream
from glmtui.protocol.events import LoadProgress
from glmtui.protocol.requests import Request
from glmtui.session.events import SessionState
from glmtui.tui.status.line import StatusLine


async def test_memory_of_the_process_and_the_device() -> None:
    async with running(size=(160, 36)) as (pilot, app, _engine):
        line = app.chat.status_line
        await wait_until(pilot, lambda: "memory" in visible_text(line))
        gpu = replace(NANO, name="chatglm-6b", builtin=False, device="cuda")
        line.show(SessionState("ready", info=gpu, used=1000, limit=2048, tokens_per_second=31.25))
        line.show_usage(Usage(2_500_000_000, 6_200_000_000))
        await pilot.pause()
        text = visible_text(line)
        assert "chatglm-6b · CUDA" in text
        for figure in ("memory 2.5 GB", "CUDA 6.2 GB", "31.2 tokens/s", "context 1,000 / 2"):
            assert figure in text


@pytest.mark.parametrize(("width", "shown"), [(60, False), (160, True)])
async def test_what_matters_least_gives_way_in_a_small_window(width: int, shown: bool) -> None:
    async with running(size=(width, 24)) as (pilot, app, _engine):
        app.chat.status_line.show_usage(Usage(2_500_000_000, 6_200_000_000))
        await pilot.pause()
        text = visible_text(app.chat.status_line)
        assert ("memory" in text) == shown
        assert "context" in text


async def test_bytes_and_time_left_of_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(ScriptedEngine(hold_load=True), size=(140, 36)) as (pilot, app, _engine):
        monkeypatch.setattr(app.chat.status_line, "_clock", lambda: app.session.state.since + 12)
        await wait_until(pilot, lambda: "50%  5.0 GB / 10.0 GB" in visible_text(app.chat.status_line))
        app.session._update(begun=2_500_000_000)
        wanted = "50%  5.0 GB / 10.0 GB  0:24 left"
        await wait_until(pilot, lambda: wanted in visible_text(app.chat.status_line))


async def test_before_the_first_bytes_of_a_load_a_bar_says_that_something_goes_on() -> None:
    class Importing(ScriptedEngine):
        """Says nothing of a load yet."""

        def submit(self, request: Request) -> Stream:
            self.requests.append(request)
            self.streams.append(ScriptedStream(lambda _stream: None))
            return self.streams[-1]

    async with running(Importing(hold_load=True)) as (pilot, app, engine):
        line = app.chat.status_line
        await wait_until(pilot, lambda: f"Preparing nano  {'━' * 16}" in visible_text(line))
        assert "%" not in visible_text(line), "nobody knows yet"
        assert "Loading" not in visible_text(line)
        drawn = line.render().spans
        await wait_until(pilot, lambda: line.render().spans != drawn)
        engine.streams[0].put(LoadProgress("read", 1, 4))
        await wait_until(pilot, lambda: f"Loading nano  {'━' * 16}  25%" in visible_text(line))


def test_a_bar_is_never_longer_than_it_is() -> None:
    line = StatusLine()
    line.show(SessionState("ready", info=NANO, used=5000, limit=2048))
    assert any(part.plain == "━" * 10 for _priority, part in line._right())

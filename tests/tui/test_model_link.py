"""Events on their way from the worker to the screen, and what they measure."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tui.app_support import ScriptedWorker

from glmtui.engine.events import Load, Loaded, LoadProgress, PromptProgress, Tokens
from glmtui.tui.model_link import ModelLink, SpeedMeter, coalesce


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


PROBE = """
import asyncio, sys
from pathlib import Path
import glmtui.tui.app
class Probe(glmtui.tui.app.GlmTui):
    CSS_PATH = str(Path(glmtui.tui.app.__file__).with_name("app.tcss"))
    def on_ready(self):
        print(*sys.modules)
        self.exit()
async def main():
    async with Probe().run_test():
        pass
asyncio.run(main())
"""


def test_the_first_paint_needs_no_torch(tmp_path: object) -> None:
    script = f"{tmp_path}/probe.py"
    with open(script, "w", encoding="utf-8") as file:
        file.write(PROBE)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    assert "glmtui.tui.app" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "sentencepiece", "tomlkit", "pyperclip"}

"""Teaching the model, and comparing, on the screen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted_run import ScriptedRun, story
from textual.widgets import Input
from tui.app_support import ScriptedEngine, running, send, settled, visible_text
from tui_helpers import screen_text, wait_until

from glmtui.errors import BadFileError
from glmtui.protocol.phrases import verbatim
from glmtui.tui.screens.choice import ChoiceScreen
from glmtui.tui.screens.compare import CompareScreen
from glmtui.tui.screens.prompt import PromptScreen
from glmtui.tui.screens.tune import TuneScreen


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "facts.jsonl"
    rows = [{"prompt": f"问题 {number}", "response": "答案"} for number in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "?"}]), "utf-8")
    return file


async def test_data_and_method_are_chosen_checked_and_learned_from(data: Path) -> None:
    async with running() as (pilot, app, _engine):
        app.session.tuning.make_job = run = ScriptedRun(list(story()), hold=30)
        await send(pilot, "/tune")
        await wait_until(pilot, lambda: "Learning rate" in screen_text(app))
        await pilot.press("s")
        await wait_until(pilot, lambda: "There is no data yet" in screen_text(app))
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptScreen))
        app.screen.query_one(Input).value = str(data)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, TuneScreen))
        await settled(pilot)
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, TuneScreen))
        await wait_until(pilot, lambda: "LoRA rank" in screen_text(app))
        await pilot.press("c")
        await wait_until(pilot, lambda: "20 rows to learn from" in screen_text(app))
        await pilot.press("s")
        await wait_until(pilot, lambda: "tokens/s 431.5" in screen_text(app))
        for drawn in ("┤", "◆", "before"):  # the curve, validation losses in it, a sample
            await wait_until(pilot, lambda drawn=drawn: drawn in screen_text(app))
        assert "teaching facts-lora" in visible_text(app.chat)
        await pilot.press("escape")
        assert app.screen is app.chat
        run.go_on.set()
        await wait_until(pilot, lambda: not app.session.tuning.running)
        await wait_until(pilot, lambda: "Done after 40 steps" in visible_text(app.chat))
        await send(pilot, "/tune")
        await wait_until(pilot, lambda: "款式宽松，很显瘦。" in screen_text(app))
        await pilot.press("v")
        await pilot.pause()
        assert "Learning rate" in screen_text(app)
        assert "u use it" in screen_text(app)
        await pilot.press("u")
        await wait_until(pilot, lambda: app.session.adapted == "out")
        assert app.settings["model.lora"] == "/out"
        assert app.screen is app.chat


async def test_a_run_that_fails_says_why_and_a_stop_ends_one(data: Path) -> None:
    async with running() as (pilot, app, _engine):
        tuning = app.session.tuning
        tuning.make_job = ScriptedRun(list(story())[:9], error=BadFileError(verbatim("Step 8 is no number.")))
        tuning.choose("data", str(data))
        await send(pilot, "/tune")
        await pilot.press("s")
        await wait_until(pilot, lambda: "Step 8 is no number." in screen_text(app))
        tuning.make_job = ScriptedRun(list(story()), hold=9)
        await pilot.press("v", "s")
        await wait_until(pilot, lambda: tuning.record is not None and tuning.record.step is not None)
        await pilot.press("x")
        await wait_until(pilot, lambda: "Stopped at step 7" in screen_text(app))


@pytest.mark.parametrize("size", [(80, 24), (50, 16), (140, 45)])
async def test_the_curve_fits_every_window(data: Path, size: tuple[int, int]) -> None:
    async with running(size=size) as (pilot, app, _engine):
        app.session.tuning.make_job = ScriptedRun(list(story()), hold=40)
        app.session.tuning.choose("data", str(data))
        await send(pilot, "/tune")
        await pilot.press("s")
        await wait_until(pilot, lambda: "┤" in screen_text(app))
        await pilot.resize_terminal(size[0] + 8, size[1] + 4)
        await wait_until(pilot, lambda: "┤" in screen_text(app))


@pytest.mark.parametrize("size", [(120, 36), (60, 24)])
async def test_both_answers_stand_next_to_each_other(size: tuple[int, int]) -> None:
    engine = ScriptedEngine("the [tuned] answer", "the plain answer")
    async with running(engine, size=size) as (pilot, app, _engine):
        await send(pilot, "/lora /some/facts")
        await wait_until(pilot, lambda: app.session.state.activity == "ready")
        await send(pilot, "question?")
        await wait_until(pilot, lambda: not app.session.busy)
        await send(pilot, "/compare")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await wait_until(pilot, lambda: "the plain answer" in screen_text(app))
        shown = screen_text(app)
        assert "the [tuned] answer" in shown
        same_line = any("tuned" in line and "plain" in line for line in shown.splitlines())
        assert same_line == (size[0] >= 100)
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat)

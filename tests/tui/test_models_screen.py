"""The list of models: what it shows, loading, downloading with a question first, stopping, removing."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot
from textual.widgets import Static
from tui.app_support import ScriptedEngine, running, send, visible_text
from tui.some_models import GB, MODELS
from tui_helpers import wait_until

from glmtui.protocol.events import Downloaded, DownloadProgress, Failed
from glmtui.protocol.models import FileProgress
from glmtui.protocol.phrases import verbatim
from glmtui.protocol.requests import ListModels, RemoveModel
from glmtui.settings.settings import Settings
from glmtui.tui.screens.models import ModelsScreen


def engine_with_models(*answers: str) -> ScriptedEngine:
    engine = ScriptedEngine(*answers)
    engine.models = MODELS
    return engine


def screen(pilot: Pilot[None]) -> ModelsScreen:
    assert isinstance(pilot.app.screen, ModelsScreen)
    return pilot.app.screen


def text(pilot: Pilot[None]) -> str:
    return visible_text(pilot.app.screen)


async def opened(pilot: Pilot[None], key: str = "f5") -> ModelsScreen:
    await pilot.press(key)
    await wait_until(pilot, lambda: "chatglm2-6b-int4" in text(pilot))
    return screen(pilot)


async def go_to(pilot: Pilot[None], name: str) -> None:
    shown = screen(pilot)
    for _turn in range(20):
        if shown.chosen is not None and shown.chosen.name == name:
            return
        await pilot.press("down")
    raise AssertionError(f"{name} cannot be reached")


async def test_it_says_what_each_model_needs_and_what_fits() -> None:
    async with running(engine_with_models()) as (pilot, _app, _engine):
        await opened(pilot)
        lines = text(pilot).splitlines()
        row = next(line for line in lines if " chatglm-6b " in line)
        assert row.split() == ["chatglm-6b", "6.2", "B", "FP16", "13.4", "GB", "13.6", "GB", "✗",
                               "7.4", "GB", "✓", "4.6", "GB", "✓"]  # fmt: skip
        assert any(line.startswith(" ● nano") or "● nano" in line for line in lines), "the one in memory"
        assert "8.0 GB of memory free on CPU, 50.0 GB on disk" in text(pilot)
        await go_to(pilot, "chatglm3-6b-base")
        await wait_until(pilot, lambda: "a base model" in text(pilot))
        assert "3.0 GB have come" in " ".join(text(pilot).split())  # it may be on two lines


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_it_fits_any_window(size: tuple[int, int]) -> None:
    async with running(engine_with_models(), size=size) as (pilot, _app, _engine):
        await opened(pilot)
        assert "13.4 GB" in text(pilot)
        for static in screen(pilot).query(Static):
            assert static.size.width <= size[0]


@pytest.mark.parametrize("line", ["/models", "/model"])
async def test_commands_open_it(line: str) -> None:
    async with running(engine_with_models()) as (pilot, _app, _engine):
        await send(pilot, line)
        await wait_until(pilot, lambda: isinstance(pilot.app.screen, ModelsScreen))
        await pilot.press("escape")
        assert not isinstance(pilot.app.screen, ModelsScreen)


async def test_a_model_that_is_here_is_loaded() -> None:
    async with running(engine_with_models()) as (pilot, app, engine):
        await opened(pilot)
        await go_to(pilot, "chatglm2-6b-int4")
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(engine.loads) == 2)
        assert engine.loads[-1].spec.source == "chatglm2-6b-int4"
        assert app.screen is app.chat
        assert Settings.load()["model.source"] == "chatglm2-6b-int4"


async def test_one_that_is_broken_says_why_and_stays() -> None:
    async with running(engine_with_models()) as (pilot, _app, engine):
        await opened(pilot)
        await go_to(pilot, "broken")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "config.json cannot be read" in text(pilot))
        assert len(engine.loads) == 1


async def test_downloading_asks_first_shows_every_file_and_says_when_it_is_here() -> None:
    async with running(engine_with_models()) as (pilot, app, engine):
        await opened(pilot)
        await go_to(pilot, "chatglm-6b")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "Download chatglm-6b (≈ 13.4 GB)" in text(pilot))
        assert "50.0 GB are free" in text(pilot)
        assert engine.download is None, "no network unless asked"
        await pilot.press("escape")
        assert engine.download is None
        await pilot.press("enter", "enter")
        await wait_until(pilot, lambda: engine.download is not None)
        assert engine.download is not None

        files = (FileProgress("config.json", 700, 700), FileProgress("model-1.bin", 3 * GB, 9 * GB))
        engine.tell(DownloadProgress(files))
        await wait_until(pilot, lambda: "model-1.bin" in text(pilot))
        assert "33%  3.0 GB / 9.0 GB" in text(pilot)
        await pilot.press("q")
        assert app.screen is app.chat, "it goes on without the list"
        assert "↓ chatglm-6b 33%" in visible_text(app.chat.status_line)
        engine.tell(Downloaded("chatglm-6b", "/cache/x"))
        await wait_until(pilot, lambda: "/model chatglm-6b loads it" in visible_text(app.chat.transcript))
        assert "↓" not in visible_text(app.chat.status_line)


async def test_escape_stops_the_download_and_the_list_stays() -> None:
    async with running(engine_with_models()) as (pilot, _app, engine):
        await opened(pilot)
        await go_to(pilot, "chatglm-6b")
        await pilot.press("enter", "enter")
        await wait_until(pilot, lambda: "Asking the hub" in text(pilot))
        await pilot.press("escape")
        await wait_until(pilot, lambda: "was stopped. What has come is kept" in text(pilot))
        assert engine.download is None
        assert isinstance(pilot.app.screen, ModelsScreen)


async def test_a_download_that_fails_says_what_to_do() -> None:
    async with running(engine_with_models()) as (pilot, app, engine):
        await opened(pilot)
        await go_to(pilot, "chatglm-6b")
        await pilot.press("enter", "enter")
        await wait_until(pilot, lambda: engine.download is not None)
        assert engine.download is not None
        engine.tell(Failed("network", verbatim("No connection to the hub.")))
        await wait_until(pilot, lambda: "No connection to the hub." in text(pilot))
        assert app.session.models.download is None
        assert app.session.state.activity == "ready"
        assert "No connection" not in visible_text(app.chat.transcript), (
            "a conversation has nothing to do with it"
        )
        told = ["No connection to the hub."]
        await wait_until(pilot, lambda: [note.message for note in app._notifications] == told)


async def test_a_name_that_is_not_here_is_offered_and_nothing_else_changes() -> None:
    async with running(engine_with_models()) as (pilot, app, engine):
        engine.fail, engine.absent, engine.keeps = "chatglm-6b is not on this machine.", "chatglm-6b", True
        await send(pilot, "/model chatglm-6b")
        await wait_until(pilot, lambda: isinstance(pilot.app.screen, ModelsScreen))
        await wait_until(pilot, lambda: "Download chatglm-6b" in text(pilot))
        assert Settings.load()["model.source"] is None
        assert app.session.state.activity == "ready"
        await pilot.press("enter")
        await wait_until(pilot, lambda: engine.download is not None)
        assert engine.download is not None
        assert engine.download.source == "chatglm-6b"


async def test_a_hub_id_outside_the_catalogue_is_offered_too() -> None:
    async with running(engine_with_models()) as (pilot, _app, engine):
        engine.fail, engine.absent, engine.keeps = "not here", "someone/tuned@v2", True
        await send(pilot, "/model someone/tuned@v2")
        await wait_until(pilot, lambda: isinstance(pilot.app.screen, ModelsScreen))
        await wait_until(
            pilot, lambda: "Download someone/tuned@v2 (its size is not known yet)" in text(pilot)
        )
        await pilot.press("enter")
        await wait_until(pilot, lambda: engine.download is not None)


async def test_deleting_asks_first() -> None:
    async with running(engine_with_models()) as (pilot, _app, engine):
        await opened(pilot)
        await pilot.press("delete")  # nano cannot be
        await wait_until(pilot, lambda: any("nano" in note.message for note in pilot.app._notifications))
        assert "Delete" not in text(pilot)
        await go_to(pilot, "chatglm2-6b-int4")
        await pilot.press("delete")
        await wait_until(pilot, lambda: "Delete chatglm2-6b-int4 from the disk (3.9 GB)?" in text(pilot))
        await pilot.press("escape", "delete", "enter")
        await wait_until(pilot, lambda: isinstance(engine.requests[-1], RemoveModel))


async def test_a_folder_is_added() -> None:
    async with running(engine_with_models()) as (pilot, _app, engine):
        await opened(pilot)
        await pilot.press("a")
        await wait_until(pilot, lambda: "Folder of a model" in text(pilot))
        await pilot.press(*"/models", "enter")
        await wait_until(
            pilot, lambda: any(isinstance(r, ListModels) and r.add == "/models" for r in engine.requests)
        )

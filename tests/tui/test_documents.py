"""Documents and sources on the screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.content import Content
from tui.app_support import ScriptedEngine, running, send, settled, visible_text
from tui_helpers import wait_until

from glmtui.retrieval import collections
from glmtui.tui.screens.choice import ChoiceScreen
from glmtui.tui.screens.documents import DocumentsScreen
from glmtui.tui.screens.sources import SourcesScreen


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "handbook"
    path.mkdir()
    (path / "rules.md").write_text("# 年假\n员工每年有十五天年假，须提前三天申请。", "utf-8")
    (path / "broken.docx").write_bytes(b"PK\x03\x04")
    return path


async def test_an_answer_shows_its_sources_and_their_passages(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = "十五天[1]，还有[5]。公司成立于一九九八年，总部位于上海[1]。"
    async with running(ScriptedEngine(answer)) as (pilot, app, _engine):
        await send(pilot, f"/docs add {folder}")
        await send(pilot, "年假有几天？")
        await wait_until(pilot, lambda: not app.session.busy)
        await pilot.pause()
        shown = visible_text(app.chat)
        assert "[1] rules.md" in shown
        assert "[5]" not in shown
        assert "1 of 1 passage" in shown
        assert "总部位于上海[?]。" in shown
        assert "[?]: no source says this" in shown
        opened: list[str] = []
        monkeypatch.setattr(app, "open_url", opened.append)
        app.chat.transcript.focus()
        await pilot.press("s")
        await wait_until(pilot, lambda: isinstance(app.screen, SourcesScreen))
        await pilot.pause()
        assert "须提前三天申请" in visible_text(app.screen)
        await pilot.press("enter")
        assert opened == [(folder / "rules.md").as_uri()]
        (folder / "rules.md").unlink()
        await pilot.press("enter")
        assert len(opened) == 1
        assert "须提前三天申请" in visible_text(app.screen), "the passage is kept"
        await pilot.press("escape")
        assert app.screen is app.chat


async def test_what_a_model_searched_is_folded_under_its_answer(folder: Path) -> None:
    engine = ScriptedEngine('search_documents\n{"query": "年假几天"}', "十五天[1]。")
    engine.calls_tools = True
    async with running(engine) as (pilot, app, _engine):
        await send(pilot, f"/docs add {folder}")
        engine.hold = True
        await send(pilot, "年假有几天？")
        await wait_until(pilot, lambda: engine.answering)
        engine.finish()
        await wait_until(pilot, lambda: "▸ search_documents {" in visible_text(app.chat))
        await wait_until(pilot, lambda: engine.answering)
        engine.finish()
        await wait_until(pilot, lambda: not app.session.busy)
        await pilot.pause()
        shown = visible_text(app.chat)
        assert "▸ search_documents → 4 lines" in shown
        assert "十五天[1]。" in shown
        assert "须提前三天申请" not in shown
        app.chat.transcript.focus()
        await pilot.press("t")
        await wait_until(pilot, lambda: "须提前三天申请" in visible_text(app.chat))


async def test_the_list_of_documents(folder: Path) -> None:
    async with running() as (pilot, app, _engine):
        await send(pilot, f"/docs add {folder}")
        await send(pilot, "/docs")
        await wait_until(pilot, lambda: isinstance(app.screen, DocumentsScreen))
        await wait_until(pilot, lambda: "rules.md" in visible_text(app.screen))
        shown = visible_text(app.screen)
        assert "● handbook" in shown
        assert "1 passage" in shown
        assert "damaged" in shown, "why a file could not be read"
        await pilot.press("enter")
        await settled(pilot)
        assert app.session.context.collection(app.session.conversation) == ""
        (folder / "more.txt").write_text("加班费按小时计算。", "utf-8")
        await pilot.press("r")
        await wait_until(pilot, lambda: "more.txt" in visible_text(app.screen))
        await pilot.press("d")
        await pilot.pause()
        assert collections.names() == ["handbook"], "it asks first"
        await pilot.press("d")
        await wait_until(pilot, lambda: collections.names() == [])
        await settled(pilot)
        await pilot.press("escape")
        assert app.screen is app.chat


async def test_the_list_opens_at_the_collection_in_use(folder: Path) -> None:
    collections.add("a first one", folder)
    async with running() as (pilot, app, _engine):
        await send(pilot, f"/docs add {folder}")
        await send(pilot, "/docs")
        await wait_until(pilot, lambda: isinstance(app.screen, DocumentsScreen))
        screen = app.screen
        assert isinstance(screen, DocumentsScreen)
        await wait_until(pilot, lambda: screen.chosen is not None)
        assert screen.chosen is not None
        assert screen.chosen[0].collection.name == "handbook"


async def test_where_nothing_is_found_it_asks_and_esc_stops(folder: Path) -> None:
    async with running(ScriptedEngine("From memory.")) as (pilot, app, engine):
        await send(pilot, f"/docs add {folder}")
        await send(pilot, "What is a black hole?")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("enter")
        await wait_until(pilot, lambda: not app.session.busy)
        assert len(engine.generated) == 1
        await send(pilot, "And a white dwarf?")
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        app.session.stop()
        await wait_until(pilot, lambda: app.screen is app.chat)
        await wait_until(pilot, lambda: not app.session.busy)
        assert len(engine.generated) == 1


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (40, 6)], ids=str)
async def test_all_of_what_is_asked_can_be_read(size: tuple[int, int]) -> None:
    asked = "The model wants to open this page: https://example.org/" + "a" * 60 + "-secret"
    async with running(size=size) as (pilot, app, _engine):
        app.push_screen(ChoiceScreen(asked, [Content("Allow it"), Content("Do not allow it")]))
        await wait_until(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.pause()
        shown = visible_text(app.screen)
        assert "-secret" in shown.replace("\n", "").replace(" ", "") or size[1] < 10
        assert "The model wants" in shown
        assert "Allow it" in shown

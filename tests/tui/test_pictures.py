"""Pictures on the screen: pasted, dropped, named, as thumbnails and in full."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from picture_files import BAD, GOOD, png, saved, turned, write
from scripted_engine import NANO, ScriptedEngine
from textual import events
from textual.pilot import Pilot
from tui.app_support import app_of, running, send, settled
from tui_helpers import screen_lines, screen_text, wait_until

from glmtui.tui.pictures.drawing import fit, half_blocks
from glmtui.tui.screens.picture import PictureScreen, PictureView

HALF = "▀"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture, and a terminal of many colours."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    folder = tmp_path / "here"
    folder.mkdir()
    write(folder / "cat.png")
    monkeypatch.chdir(folder)
    return folder


def seeing() -> ScriptedEngine:
    engine = ScriptedEngine("A gradient.")
    engine.info = replace(NANO, sees_images=True)
    return engine


async def paste(pilot: Pilot[Any], text: str) -> None:
    app_of(pilot).chat.composer.prompt.post_message(events.Paste(text))
    await settled(pilot)


def thumbnail(pilot: Pilot[Any]) -> list[str]:
    return [line for line in screen_lines(pilot.app) if HALF in line]


# --- drawing ---


@pytest.mark.parametrize(
    ("size", "room", "cells"),
    [
        ((64, 48), (40, 10), (27, 10)),
        ((1000, 10), (40, 10), (40, 1)),
        ((1, 3000), (40, 10), (1, 10)),
        ((1, 1), (40, 10), (1, 1)),
        ((8, 8), (40, 10), (8, 4)),
        ((0, 0), (40, 10), (1, 1)),
    ],
)
def test_a_picture_keeps_its_shape(
    size: tuple[int, int], room: tuple[int, int], cells: tuple[int, int]
) -> None:
    assert fit(size, *room) == cells


def test_a_cell_shows_two_pixels() -> None:
    from PIL import Image

    picture = Image.frombytes("RGB", (1, 2), bytes((255, 0, 0, 0, 0, 255)))
    (line,) = half_blocks(picture, 1, 1)
    (span,) = line.spans
    assert line.plain == HALF
    assert (span.style.foreground.hex, span.style.background.hex) == ("#FF0000", "#0000FF")


# --- in the composer ---


async def test_a_pasted_path_goes_as_a_picture(here: Path) -> None:
    async with running(seeing()) as (pilot, app, engine):
        await paste(pilot, f"'{here / 'cat.png'}' ")
        assert app.chat.composer.prompt.text == "⟦cat.png⟧ "
        assert app.chat.composer.text == "@cat.png "
        await pilot.press(*"what")
        await pilot.press("enter")
        await wait_until(pilot, lambda: engine.generated)
        assert list(engine.generated[0].images.values()) == [png()]
        assert engine.generated[0].messages[0].text == "what"


async def test_several_are_dropped_at_once(here: Path) -> None:
    other = write(here / "my cat.png", GOOD["grey"])
    async with running(seeing()) as (pilot, app, engine):
        await paste(pilot, f"{here}/cat.png {str(other).replace(' ', chr(92) + ' ')} ")
        assert app.chat.composer.prompt.text == "⟦cat.png⟧ ⟦my cat.png⟧ "
        await pilot.press("enter")
        await wait_until(pilot, lambda: engine.generated)
        assert list(engine.generated[0].images.values()) == [png(), GOOD["grey"]]


async def test_behind_a_command_a_path_stays_one(here: Path) -> None:
    async with running(seeing()) as (pilot, app, _engine):
        app.chat.composer.text = "/image "
        await paste(pilot, str(here / "cat.png"))
        assert app.chat.composer.text == f"/image {here / 'cat.png'}"
        await pilot.press("escape", "enter")
        await wait_until(pilot, lambda: app.chat.composer.text == "@cat.png ")


async def test_a_name_that_is_chosen_or_written() -> None:
    async with running(seeing()) as (pilot, app, engine):
        await pilot.press(*"@ca")
        await wait_until(pilot, lambda: app.chat.composer.popup.is_open)
        await pilot.press("enter")
        assert app.chat.composer.prompt.text == "⟦cat.png⟧ "
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(engine.generated) == 1)
        await send(pilot, "@cat.png again")
        await wait_until(pilot, lambda: len(engine.generated) == 2)
        for request in engine.generated:
            assert list(request.images.values()) == [png()]
            assert [message.role for message in request.messages][-1] == "user"


async def test_a_model_that_does_not_see_leaves_the_path_as_text(here: Path) -> None:
    async with running(notifications=True) as (pilot, app, engine):
        await paste(pilot, str(here / "cat.png"))
        assert app.chat.composer.text == str(here / "cat.png")
        await wait_until(pilot, lambda: "nano does not see pictures" in screen_text(app))
        assert engine.generated == []


async def test_one_that_cannot_be_used_is_said_at_once(here: Path) -> None:
    write(here / "bad.png", BAD["text"])
    async with running(seeing()) as (pilot, app, engine):
        await paste(pilot, str(here / "bad.png"))
        await wait_until(
            pilot, lambda: "bad.png" in screen_text(app) and "cannot be used" in screen_text(app)
        )
        await pilot.press("enter")
        await settled(pilot)
        assert engine.generated == []
        assert app.chat.composer.text == "@bad.png ", "it is not lost"


# --- thumbnails ---


async def test_a_thumbnail_is_part_of_its_message(here: Path) -> None:
    async with running(seeing(), size=(80, 24)) as (pilot, app, _engine):
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: thumbnail(pilot))
        assert "[image] cat.png · 64 × 48" in screen_text(app)
        rows = thumbnail(pilot)
        assert [row.count(HALF) for row in rows] == [27] * 10
        await wait_until(pilot, lambda: "A gradient." in screen_text(app))
        selected = app.chat.transcript.get_selection(__import__("textual.selection").selection.SELECT_ALL)
        assert selected is not None
        assert HALF not in selected[0]


async def test_it_is_shown_as_the_model_sees_it(here: Path) -> None:
    """EXIF says that it is to be turned; nobody turns it."""
    write(here / "it.jpg", turned())
    async with running(seeing()) as (pilot, app, _engine):
        await send(pilot, "@it.jpg what?")
        await wait_until(pilot, lambda: thumbnail(pilot))
        assert "64 × 48" in screen_text(app)
        assert thumbnail(pilot)[0].count(HALF) == 27, "broad"


@pytest.mark.parametrize("kind", GOOD)
async def test_every_right_picture_has_one(here: Path, kind: str) -> None:
    write(here / "it.png", GOOD[kind])
    async with running(seeing()) as (pilot, _app, _engine):
        await send(pilot, "@it.png what?")
        await wait_until(pilot, lambda: thumbnail(pilot))


async def test_one_whose_file_is_gone_says_so(here: Path) -> None:
    async with running(seeing()) as (pilot, app, _engine):
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: thumbnail(pilot))
        path = app.session.conversation.path
        for blob in (app.library.folder / "attachments").glob("[0-9a-f]*"):
            blob.unlink()
    async with running(seeing()) as (pilot, app, _engine):
        await wait_until(pilot, lambda: "is missing" in screen_text(app))
        assert app.session.conversation.path == path
        assert not thumbnail(pilot)


async def test_by_its_name_alone_where_a_person_wants_it_so() -> None:
    async with running(seeing()) as (pilot, app, _engine):
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: thumbnail(pilot))
        await send(pilot, "/set ui.pictures text")
        await wait_until(pilot, lambda: not thumbnail(pilot))
        assert "[image] cat.png · 64 × 48" in screen_text(app)


async def test_a_terminal_of_few_colours_has_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(seeing()) as (pilot, app, _engine):
        app.console._color_system = None
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: "[image] cat.png · 64 × 48" in screen_text(app))
        assert not thumbnail(pilot)


async def test_drawn_again_after_a_resize_and_kept_while_scrolling() -> None:
    async with running(seeing(), size=(100, 30)) as (pilot, app, _engine):
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: len(thumbnail(pilot)) == 10)
        for number in range(12):
            await send(pilot, f"question {number}")
        await wait_until(pilot, lambda: not thumbnail(pilot))
        app.chat.transcript.action_first()
        await wait_until(pilot, lambda: len(thumbnail(pilot)) == 10)
        await pilot.resize_terminal(24, 30)
        await wait_until(pilot, lambda: thumbnail(pilot) and thumbnail(pilot)[0].count(HALF) < 24)


# --- in full ---


async def test_a_key_opens_it_in_full(here: Path) -> None:
    write(here / "large.png", saved_large())
    async with running(seeing(), size=(100, 30)) as (pilot, app, _engine):
        await send(pilot, "@cat.png @large.png what?")
        await wait_until(pilot, lambda: thumbnail(pilot))
        await pilot.press("f6")
        app.chat.transcript.focus()
        app.chat.transcript.action_first()
        await pilot.press("i")
        await wait_until(pilot, lambda: isinstance(app.screen, PictureScreen))
        view = app.screen.query_one(PictureView)
        await wait_until(pilot, lambda: view.picture is not None)
        await wait_until(pilot, lambda: "cat.png · 1 / 2 · 64 × 48" in screen_text(app))
        await pilot.press("right")
        await wait_until(pilot, lambda: "large.png · 2 / 2 · 400 × 300" in screen_text(app))
        await wait_until(pilot, lambda: len(thumbnail(pilot)) > 20)
        await pilot.press("right", "escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, PictureScreen))


async def test_a_message_without_says_so() -> None:
    async with running(seeing(), notifications=True) as (pilot, app, _engine):
        await send(pilot, "hello")
        app.chat.transcript.focus()
        await pilot.press("i")
        await wait_until(pilot, lambda: "There is no picture in this message." in screen_text(app))


def saved_large() -> bytes:
    from picture_files import gradient

    return saved(gradient(400, 300), "PNG")

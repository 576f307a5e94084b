"""Pictures on the screen: pasted, dropped, named, as thumbnails and in full."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from picture_files import BAD, GOOD, gradient, png, saved, turned, write
from rich.console import Console
from rich.segment import Segment
from scripted_engine import NANO, ScriptedEngine
from textual import events
from textual.content import Content
from textual.pilot import Pilot
from textual.selection import SELECT_ALL
from textual.strip import Strip
from textual.style import Style
from tui.app_support import app_of, running, send, settled
from tui_helpers import screen_lines, screen_text, wait_until

from glmtui.tui.pictures import kitty, painter, sixel
from glmtui.tui.pictures.drawing import fit, half_blocks
from glmtui.tui.screens.picture import PictureScreen
from glmtui.tui.textual_patches import sink, terminal
from glmtui.tui.textual_patches.driver import TerminalAttributes, TerminalVersion, _Reader

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
        selected = app.chat.transcript.get_selection(SELECT_ALL)
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
        await wait_until(pilot, lambda: "cat.png · 1 / 2 · 64 × 48" in screen_text(app))
        await pilot.press("right")
        await wait_until(pilot, lambda: "large.png · 2 / 2 · 400 × 300" in screen_text(app))
        await wait_until(pilot, lambda: len(thumbnail(pilot)) > 20)
        await pilot.resize_terminal(60, 30)
        await wait_until(pilot, lambda: thumbnail(pilot) and thumbnail(pilot)[0].count(HALF) < 60)
        await pilot.press("right", "escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, PictureScreen))


async def test_a_click_opens_it() -> None:
    async with running(seeing(), size=(100, 30)) as (pilot, app, _engine):
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: thumbnail(pilot))
        y, line = next((y, line) for y, line in enumerate(screen_lines(app)) if HALF in line)
        await pilot.click(offset=(line.index(HALF) + 3, y + 2))
        await wait_until(pilot, lambda: isinstance(app.screen, PictureScreen))
        await wait_until(pilot, lambda: "cat.png · 64 × 48" in screen_text(app))


async def test_an_answer_opens_what_it_is_about() -> None:
    async with running(seeing(), size=(100, 30)) as (pilot, app, _engine):
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: "A gradient." in screen_text(app))
        app.chat.transcript.focus()
        app.chat.transcript.action_last()
        await pilot.press("i")
        await wait_until(pilot, lambda: isinstance(app.screen, PictureScreen))


async def test_a_message_without_says_so() -> None:
    async with running(seeing(), notifications=True) as (pilot, app, _engine):
        await send(pilot, "hello")
        app.chat.transcript.focus()
        await pilot.press("i")
        await wait_until(
            pilot, lambda: "There is no picture in this message, nor before it." in screen_text(app)
        )


def saved_large() -> bytes:
    return saved(gradient(400, 300), "PNG")


# --- as sharp as the terminal can ---


def unsixel(text: str) -> tuple[int, int, list[list[tuple[int, ...] | None]]]:
    """Draw sixels as the standard says; return width, height and pixels."""
    head = re.fullmatch(r'\x1bP0;1q"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    assert head
    width, height = int(head[1]), int(head[2])
    pixels: list[list[tuple[int, ...] | None]] = [[None] * width for _row in range(height)]
    palette: dict[int, tuple[int, ...]] = {}
    x = y = colour = 0
    for token in re.finditer(r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|([$-])", head[3]):
        if token[1]:
            colour = int(token[1])
            if token[2]:
                palette[colour] = tuple(int(token[n]) for n in (2, 3, 4))
        elif token[8]:
            x, y = 0, y + 6 * (token[8] == "-")
        else:
            bits, end = ord(token[6] or token[7]) - 63, x + int(token[5] or 1)
            for bit in range(6):
                if bits >> bit & 1:
                    pixels[y + bit][x:end] = [palette[colour]] * (end - x)
            x = end
    return width, height, pixels


def test_sixels_are_the_picture() -> None:
    rows = sixel.lines(gradient(70, 40), 7, 2, (10, 20))
    assert [row.plain for row in rows] == [" " * 7] * 2
    for number, row in enumerate(rows):
        columns, text = row.spans[0].style.meta[sixel.SIXEL]
        width, height, pixels = unsixel(text)
        assert (columns, width, height) == (7, 70, 20)
        for y in range(height):
            for x in range(width):
                red, green, _blue = pixels[y][x] or (-1, -1, -1)
                assert abs(red - x * 100 / 69) < 15
                assert abs(green - (20 * number + y) * 100 / 39) < 15


async def test_a_strip_is_drawn_over_its_blanks_alone() -> None:
    """What covers a part of it shows blanks, never pixels where others are."""
    sink.install()
    console = Console(color_system="truecolor", force_terminal=True)
    (row,) = sixel.lines(gradient(), 4, 1, (10, 20))
    strip = _strip(row)
    drawn = strip.render(console)
    assert drawn.endswith("\x1b8")
    assert "\x1b7\x1b[4D\x1bP0;1q" in drawn
    assert "\x1bP" not in strip.crop(0, 3).render(console)
    assert "\x1bP" not in strip.crop(1).render(console)


def _strip(row: Content) -> Strip:
    return Strip(
        [Segment(text, style.rich_style) for text, style in row.render(Style(), "")], row.cell_length
    )


async def test_sixels_where_the_terminal_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "cell", lambda _app: (10, 20))
    written: list[str] = []
    monkeypatch.setattr(terminal, "send", lambda _app, text: written.append(text))
    async with running(seeing()) as (pilot, app, _engine):
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: thumbnail(pilot))
        assert any(terminal.WHAT_ARE_YOU in each for each in written)
        app.post_message(TerminalAttributes([62, 22]))
        await pilot.pause()
        assert thumbnail(pilot)
        app.post_message(TerminalAttributes([62, 4, 22]))

        def drawn() -> list[int]:
            segments = [each for strip in app.screen._compositor.render_strips() for each in strip]
            return [len(each.text) for each in segments if each.style and sixel.SIXEL in each.style.meta]

        await wait_until(pilot, lambda: drawn() == [7, 7, 7])  # 64 × 48 pixels are 7 × 3 cells
        assert not thumbnail(pilot)


def test_the_terminal_is_heard() -> None:
    (event,) = _Reader(False).read("\x1b[?62;4;22c")
    assert isinstance(event, TerminalAttributes)
    assert list(event.codes) == [62, 4, 22]
    (event,) = _Reader(False).read("\x1b[>1;4000;28c")
    assert isinstance(event, TerminalVersion)
    assert list(event.numbers) == [1, 4000, 28]


async def test_kitty_is_sent_a_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.cells import cell_len

    written: list[str] = []
    monkeypatch.setattr(terminal, "send", lambda _app, text: written.append(text))
    async with running(seeing(), size=(80, 24)) as (pilot, app, _engine):
        await send(pilot, "@cat.png what?")
        await wait_until(pilot, lambda: any(terminal.WHICH_VERSION in each for each in written))
        app.post_message(TerminalVersion([1, 4000, 35]))
        await wait_until(pilot, lambda: kitty.PLACE in screen_text(app))
        (sent,) = [text for text in written if text.startswith("\x1b_G")]
        assert re.match(r"\x1b_Ga=T,U=1,f=100,t=d,q=2,i=\d+,c=7,r=3,m=0;iVBOR", sent)
        rows = [line for line in screen_lines(app) if kitty.PLACE in line]
        assert [row.count(kitty.PLACE) for row in rows] == [7] * 3
        assert cell_len(rows[0][rows[0].index(kitty.PLACE) :].strip()) == 7
        for number in range(12):
            await send(pilot, f"question {number}")
        app.chat.transcript.action_first()
        await wait_until(pilot, lambda: kitty.PLACE in screen_text(app))
        assert len([text for text in written if text.startswith("\x1b_G")]) == 1


def test_a_large_picture_goes_in_pieces() -> None:
    from PIL import Image

    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    pieces = kitty.transmit(7, noise, 20, 10).split("\x1b\\")[:-1]
    assert len(pieces) > 2
    assert all(len(piece.partition(";")[2]) <= kitty.PIECE for piece in pieces)
    assert [re.search(r"m=(\d)", piece)[1] for piece in pieces] == [*["1"] * (len(pieces) - 1), "0"]  # type: ignore[index]
    data = base64.b64decode("".join(piece.partition(";")[2] for piece in pieces))
    assert Image.open(io.BytesIO(data)).size == (200, 200)


def test_numbers_are_colours_and_never_zero() -> None:
    assert kitty.next_number((1 << 24) - 1) == 1
    assert 0 < kitty.first_number() < 1 << 24
    (line,) = kitty.lines(0x010203, 2, 1)
    assert line.spans[0].style.foreground.hex == "#010203"
    assert len(set(kitty.MARKS)) == kitty.MOST > 100


@pytest.mark.parametrize(
    ("setting", "environment", "colours", "has_sixels", "version", "way"),
    [
        ("auto", {"TERM": "xterm-256color"}, "truecolor", False, [0, 276, 0], "blocks"),
        ("auto", {"TERM": "xterm"}, "256", True, [41, 379, 0], "sixel"),
        ("auto", {"TERM": "xterm-kitty"}, "truecolor", True, [1, 4000, 28], "kitty"),
        ("auto", {"TERM": "xterm-256color"}, "truecolor", False, [1, 4001, 0], "kitty"),
        ("auto", {"TERM": "xterm-kitty"}, "truecolor", False, [1, 4000, 26], "blocks"),
        ("auto", {"TERM": "xterm-kitty"}, "truecolor", False, [], "blocks"),
        ("auto", {"TERM_PROGRAM": "ghostty"}, "truecolor", False, [1, 10, 0], "kitty"),
        ("auto", {"TERM": "tmux-256color", "TERM_PROGRAM": "ghostty"}, "256", False, [84, 0, 0], "blocks"),
        ("auto", {"TMUX": "x", "TERM": "xterm-ghostty"}, "256", False, [84, 0, 0], "blocks"),
        ("auto", {"TERM": "linux"}, "standard", False, [], "text"),
        ("auto", {"TERM": "dumb"}, None, False, [], "text"),
        ("text", {"TERM": "xterm-kitty"}, "truecolor", True, [1, 4000, 28], "text"),
        ("blocks", {"TERM": "xterm-kitty"}, "truecolor", True, [1, 4000, 28], "blocks"),
        ("sixel", {}, None, False, [], "sixel"),
    ],
)
def test_how_pictures_are_drawn(
    setting: str,
    environment: dict[str, str],
    colours: str | None,
    has_sixels: bool,
    version: list[int],
    way: str,
) -> None:
    found = painter.chosen(setting, environment, colours, has_sixels=has_sixels, version=version)
    assert found == way


def test_what_is_not_seen_any_more_is_forgotten() -> None:
    sent: list[str] = []
    drawn = painter.Painter(lambda: "kitty", lambda: (10, 20), sent.append)
    for number in range(painter.KEPT + 3):
        drawn.lines(str(number), gradient(4, 4), 40, 10)
    forgotten = [text for text in sent if text.startswith("\x1b_Ga=d,d=I")]
    assert len(forgotten) == 3

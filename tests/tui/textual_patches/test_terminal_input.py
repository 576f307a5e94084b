"""What comes from a terminal is cut right, however it is divided, and none of it ends the app."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events

from glmtui.text.clean import is_text
from glmtui.tui.textual_patches import textual_is
from glmtui.tui.textual_patches.terminal_input import Pasted, TerminalInput

Piece = str | Pasted
BITS = (
    "\x1b",
    "[",
    "]",
    "O",
    "P",
    "_",
    "\\",
    "0",
    "9",
    ";",
    "?",
    "$",
    "<",
    "M",
    "m",
    "\x07",
    "\x03",
    "\r",
    " ",
    "é",
    "a",
)


class Terminal:
    """`TerminalInput` with a clock that stands still."""

    def __init__(self) -> None:
        self.now = 0.0
        self.input = TerminalInput(clock=lambda: self.now)

    def send(self, *parts: str | float) -> list[Piece]:
        """Return the pieces of texts, with pauses (numbers, in seconds) between them."""
        found: list[Piece] = []
        for part in parts:
            if isinstance(part, str):
                found += self.input.feed(part)
            else:
                self.now += part
                found += self.input.tick()
        return found


def joined(pieces: list[Piece]) -> list[Piece]:
    """Text in one piece, however it came."""
    found: list[Piece] = []
    for piece in pieces:
        last = found[-1] if found else None
        if isinstance(piece, str) and isinstance(last, str) and "\x1b" not in piece[:1] + last[:1]:
            found[-1] = last + piece
        else:
            found.append(piece)
    return found


@pytest.mark.parametrize(
    ("sent", "pieces"),
    [
        (["ab\x1b[Acd"], ["ab", "\x1b[A", "cd"]),
        (["\x1b[200~a\x1b[31mb\r\x07\x1b]0;t\x07\x1b[201~c"], [Pasted("a\x1b[31mb\r\x07\x1b]0;t\x07"), "c"]),
        (["\x1b[200~a\x1b[20", 1.0, "1~c"], [Pasted("a"), "c"]),
        (["\x1b[20", "0~a\x1b[2", "b\x1b[201~"], [Pasted("a\x1b[2b")]),
        (["\x1b[200~cut", 3.0, "c"], [Pasted("cut"), "c"]),
        (["\x1b]11;rgb:1e1e/1e1e/1e1e\x07a"], ["a"]),
        (["\x1b]10;rgb:ff", 0.3, "ff/00\x1b", 0.05, "\\a"], ["a"]),
        (["\x1bP>|WezTerm 2024\x1b\\", "\x1b_Gi=1;OK\x1b\\a"], ["a"]),
        (["\x1b]11;never ended", 0.6, "a"], ["a"]),
        (["\x1b]11;rgb:\x03a"], ["\x03a"]),
        (["\x1b", 0.2, "]11;rgb:1e1e/1e1e\x07a"], ["\x1b", "a"]),
        (["\x1b", 0.2, "[?61;6;7c"], ["\x1b", "\x1b[?61;6;7c"]),
        (["\x1b", 0.2, "[200~a\rb\x1b[201~"], ["\x1b", Pasted("a\rb")]),
        (["\x1b", 0.2, "[", "1", "]"], ["\x1b", "[", "1", "]"]),
        (["\x1b", 0.2, "a"], ["\x1b", "a"]),
        (["\x1bP", 0.2, "a"], ["\x1bP", "a"]),
        (["\x1b[", 0.2, "a"], ["\x1b[", "a"]),
        (["\x1b\x1b[A"], ["\x1b", "\x1b[A"]),
        (["\x1bp\x1b\r\x1bOPx"], ["\x1bp", "\x1b\r", "\x1bOP", "x"]),
        (["\x1b[<35;10;5Mx"], ["\x1b[<35;10;5M", "x"]),
        (["\x1b[M !", "!x"], ["\x1b[M !!", "x"]),
        (["\x1b[[Ax"], ["\x1b[[A", "x"]),
    ],
)  # fmt: skip
def test_it_is_cut_into_keys_and_pastes(sent: list[str | float], pieces: list[Piece]) -> None:
    assert Terminal().send(*sent) == pieces


@given(st.lists(st.lists(st.sampled_from(BITS), max_size=8).map("".join), max_size=4))
def test_after_anything_a_key_is_a_key(parts: list[str]) -> None:
    pieces = Terminal().send(*parts, 3.0, 3.0, "z")
    assert isinstance(pieces[-1], str)
    assert pieces[-1].endswith("z")


@given(st.lists(st.sampled_from(BITS), max_size=20).map("".join), st.lists(st.integers(0, 40), max_size=3))
def test_where_it_is_divided_does_not_matter(text: str, cuts: list[int]) -> None:
    text += "z\x1b[200~\x1b]q\x1b[201~"
    places = [0, *sorted(cuts), len(text)]
    divided = [text[start:end] for start, end in pairwise(places)]
    assert joined(Terminal().send(*divided)) == joined(Terminal().send(text))


def test_a_large_paste_comes_in_pieces_and_holds_nobody_up() -> None:
    text = "a\x1b" * 1_000_000
    sent = f"\x1b[200~{text}\x1b[201~"
    pieces = Terminal().send(*(sent[at : at + 4096] for at in range(0, len(sent), 4096)))
    assert pieces == [Pasted(text)]


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of Unix")
@pytest.mark.parametrize(
    ("piece", "keys"),
    [
        ("\x1b[A", ["up"]),
        ("\x1bOP", ["f1"]),
        ("\x1bé", ["alt+é"]),
        ("\x1b", ["escape"]),
        ("\x1b[?61;6;7c", []),
        ("\x1b[4;600;800t", []),
        ("\x1b[>41;390;0c", []),
        ("\x1b[99999999999u", []),
        ("\u3000", ["ideographic_space"]),
    ],
)
def test_what_nobody_knows_is_no_key(piece: str, keys: list[str]) -> None:
    from glmtui.tui.textual_patches.driver import _Reader

    reader = _Reader(debug=False)
    found = reader.read(piece)
    assert [event.key for event in found if isinstance(event, events.Key)] == keys
    assert [event for event in reader.read("a") if isinstance(event, events.Key)]


@pytest.mark.parametrize("character", ["\u3000", "\xa0", "\u200d", "\u200c", "\u2009", "\ue000", "a", "你"])
def test_all_text_can_be_typed(character: str) -> None:
    assert is_text(character)


@pytest.mark.parametrize("character", ["", "\t", "\r", "\n", "\x1b", "\x7f", "\x9b", "\u202e"])
def test_what_steers_is_no_text(character: str) -> None:
    assert not is_text(character)


def test_textual_does_not_take_all_text_by_itself() -> None:
    assert textual_is((8, 2))
    assert not "\u3000".isprintable(), "Python calls it printable: remove text_keys.py if Textual asks that"

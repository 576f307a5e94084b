"""The table of commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmtui.session.slash import completers
from glmtui.session.slash.registry import COMMANDS


def test_names_and_words_are_unique() -> None:
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    assert len(names) == len(set(names))
    assert set(COMMANDS.by_word) == {"clear", "stop"}


@pytest.mark.parametrize(
    ("text", "name", "argument"),
    [
        ("/quant 4", "quant", "4"),
        ("/ptuning a b", "ptuning", "a b"),
        ("  /QUANT   4 ", "quant", "4"),
        ("/model ~/my models/glm", "model", "~/my models/glm"),
        ("clear", "clear", ""),
        ("Stop", "stop", ""),
        ("/q", "quit", ""),
        ("/system 用中文回答。\n要简短。", "system", "用中文回答。\n要简短。"),
    ],
)
def test_lines_that_are_commands(text: str, name: str, argument: str) -> None:
    line = COMMANDS.parse(text)
    assert line is not None
    assert line.command is not None
    assert (line.command.name, line.argument) == (name, argument)


@pytest.mark.parametrize(
    "text",
    [
        "clear the table",
        "你好",
        "//new is a command",
        "/usr/bin/env what?",
        "a /new",
        "/* sum */\nint f(int a);",
        "/** doc",
        "/",
        "/ alone",
        "/usr 是什么\n第二行",
    ],
)
def test_lines_that_are_messages(text: str) -> None:
    assert COMMANDS.parse(text) is None


def test_two_slashes_send_one() -> None:
    assert COMMANDS.message("//new is a command") == "/new is a command"
    assert COMMANDS.message("你好") == "你好"


def test_a_comment_keeps_its_slashes() -> None:
    for text in ("// sum of two\nint f(int a);", "///", "// a", "//"):
        assert COMMANDS.message(text) == text


@pytest.mark.parametrize(
    ("typed", "near"), [("qant", "quant"), ("hlep", "help"), ("mod", "model"), ("exprt", "export")]
)
def test_unknown_commands_offer_what_is_near(typed: str, near: str) -> None:
    assert near in COMMANDS.nearest(typed)
    assert f"/{near}" in str(COMMANDS.unknown(typed))


def test_the_table_for_people_has_every_command() -> None:
    table = COMMANDS.markdown()
    assert all(f"`/{command.name}" in table for command in COMMANDS)
    assert len({line.count("|") - line.count("\\|") for line in table.split("\n")}) == 1


def test_a_link_that_leads_to_itself_does_not_empty_the_offers(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    offered = [offer.text for offer in completers.files(None, f"{tmp_path}/")]  # type: ignore[arg-type]
    assert offered == [f"{tmp_path}/file", f"{tmp_path}/loop"]

"""Tools of MCP servers: real ones, started as programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from glmtui.protocol.messages import ToolResult
from glmtui.session.slash.registry import COMMANDS
from glmtui.settings.settings import Settings

from .conftest import Chat, ready

Make = Callable[..., Chat]

SERVER = """
import os, sys
from mcp.server import MCPServer

server = MCPServer("tests")

@server.tool()
def add(first: int, second: int) -> str:
    "Add two numbers."
    return str(first + second)

@server.tool()
def leave(text: str) -> str:
    "End the server."
    os._exit(1)

@server.tool()
def secret(name: str) -> str:
    "Tell what a variable of the environment says."
    return os.environ.get(name, "(none)") + " " + "long " * 5000

print("noise", file=sys.stderr)
server.run()
"""


def call(name: str, /, **arguments: object) -> str:
    return f"{name}\n{json.dumps(arguments, ensure_ascii=False)}"


def results(chat: Chat) -> list[str]:
    parts = (part for message in chat.engine.generated[-1].messages for part in message.parts)
    return [part.text for part in parts if isinstance(part, ToolResult)]


@pytest.fixture
def configured(tmp_path: Path, home: Path) -> Callable[..., None]:
    """Write a server into the settings."""

    def write(**more: object) -> None:
        script = tmp_path / "server.py"
        script.write_text(SERVER, "utf-8")
        table = {"command": [sys.executable, str(script)], **more}
        text = "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        settings = Settings.load()
        settings.path.parent.mkdir(parents=True, exist_ok=True)
        settings.path.write_text(f"[mcp.tests]\n{text}", "utf-8")

    return write


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


async def started(make: Make, *answers: str) -> Chat:
    pytest.importorskip("mcp", reason="the library for MCP servers is not installed")
    chat = make(*answers)
    chat.engine.calls_tools = True
    return await ready(chat)


async def test_its_tools_are_offered_and_called_when_the_person_lets_them(
    make: Make, configured: Callable[..., None]
) -> None:
    configured()
    chat = await started(
        make, call("add", first=2, second=3), call("add", first=1, second=1), "Five.", "Six."
    )
    chat.fake_ui.choices = [0, 1]
    await chat.enter("What is 2 + 3?")
    await chat.idle(60)
    assert [tool.name for tool in chat.engine.generated[0].tools] == ["add", "leave", "secret"]
    assert "first" in chat.engine.generated[0].tools[0].parameters["properties"]
    assert results(chat) == ["5", "The user did not allow this."]
    assert chat.saved().branch()[-1].text == "Five."
    chat.close()


async def test_tools_are_listed(make: Make, configured: Callable[..., None]) -> None:
    configured()
    chat = await started(make, "Hello.")
    await chat.run("tools")
    assert "add: Add two numbers." in chat.fake_ui.said
    chat.close()


async def test_where_there_are_no_tools_it_says_how_to_get_some(chat: Chat) -> None:
    await chat.run("tools")
    assert "[mcp.NAME]" in chat.fake_ui.said[-1]


async def test_what_the_settings_allow_is_called_unasked_and_long_results_are_cut(
    make: Make, configured: Callable[..., None]
) -> None:
    configured(allow=["secret"], env={"TOLD": "by the settings"})
    chat = await started(make, call("secret", name="TOLD"), "Done.")
    chat.fake_ui.choices = [1]
    await chat.enter("Tell.")
    await chat.idle(60)
    assert chat.fake_ui.choices == [1]  # nobody was asked
    (told,) = results(chat)
    assert told.startswith("by the settings")
    assert len(told) < 2048
    assert chat.saved().branch()[-1].state == "done"
    chat.close()


async def test_a_server_that_ends_in_a_call_is_told_to_the_model_and_started_again(
    make: Make, configured: Callable[..., None]
) -> None:
    configured(allow=True)
    chat = await started(make, call("leave", text="now"), "It left.", call("add", first=2, second=2), "Four.")
    await chat.enter("Leave.")
    await chat.idle(60)
    assert chat.saved().branch()[-1].state == "done"
    await chat.enter("Add.")
    await chat.idle(60)
    assert results(chat) == ["4"]
    chat.close()


@pytest.mark.parametrize("command", [["no-such-program-anywhere"], [sys.executable, "-c", "print('no')"]])
async def test_one_that_does_not_start_is_named_and_the_answer_comes(
    make: Make, configured: Callable[..., None], command: list[str]
) -> None:
    configured(command=command)
    chat = await started(make, "Hello.")
    await chat.enter("Hi")
    await chat.idle(60)
    assert any("tests" in notice for notice in chat.notices("warning"))
    assert chat.saved().branch()[-1].text == "Hello."
    chat.close()


@pytest.mark.parametrize(
    "table",
    ["command = 7", "command = []", 'url = "ftp://x"', 'command = ["a"]\nurl = "http://x"',
     'command = ["a"]\nenv = { A = 1 }', 'command = ["a"]\nallow = 5', 'command = ["a"]\nshell = true'],
)  # fmt: skip
def test_a_wrong_table_is_named_and_left_out(home: Path, table: str) -> None:
    settings = Settings.load()
    settings.path.parent.mkdir(parents=True, exist_ok=True)
    settings.path.write_text(f'[mcp.bad]\n{table}\n[mcp.good]\ncommand = ["server"]\n', "utf-8")
    settings = Settings.load()
    assert list(settings.tool_servers) == ["good"]
    assert any("mcp.bad" in str(problem) for problem in settings.problems)


def test_nothing_is_started_by_the_settings_alone(home: Path) -> None:
    assert COMMANDS  # the session is made with them, and no program runs
    settings = Settings.load()
    assert not settings.tool_servers

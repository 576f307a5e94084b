"""The programs that serve tools: how they are spoken to, and that they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glmtui.session import tool_process
from glmtui.session.tool_process import ToolProcess, read_message

pytest.importorskip("mcp", reason="the library for MCP servers is not installed")

STUBBORN = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(1000)
"""
ANSWER = {"jsonrpc": "2.0", "id": 1}
TOOL = {"name": "add", "inputSchema": {"type": "object"}}


def process(*arguments: str) -> ToolProcess:
    return ToolProcess([sys.executable, "-c", *arguments], os.environ)


def said(content: object) -> Any:
    message = read_message(json.dumps(content).encode() + b"\n")
    return message and message.message


async def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def runs(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_program_that_hears_nothing_is_ended(tmp_path: Path, cancelled: bool) -> None:
    noted = tmp_path / "pid"

    async def stay() -> None:
        async with process(STUBBORN, str(noted)):
            await until(lambda: noted.exists() and bool(noted.read_text()))
            if cancelled:
                await asyncio.sleep(1000)

    task = asyncio.create_task(stay())
    await until(lambda: noted.exists() and bool(noted.read_text()))
    for _again in range(2 * cancelled):  # as a loop does to what is still at work when it ends
        await asyncio.sleep(0.01)
        task.cancel()
    await asyncio.wait((task,), timeout=20)
    await until(lambda: not runs(int(noted.read_text())))


async def test_why_it_is_gone_is_known() -> None:
    gone = process("raise SystemExit(3)")
    async with gone as (read, _write):
        assert [each async for each in read] == []
    assert gone.ended.fields == {"code": 3}


async def test_what_is_too_long_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_process, "LONGEST_MESSAGE", 1000)
    flooding = process("while True: print('x' * 5000, end='')")
    async with flooding as (read, _write):
        assert [each async for each in read] == []
    assert "size" in flooding.ended.fields


async def test_lines_go_both_ways() -> None:
    from mcp.shared.message import SessionMessage
    from mcp_types import JSONRPCNotification

    echo = "import sys\nprint('noise', flush=True)\nfor line in sys.stdin: print(line, end='', flush=True)"
    sent = SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="x", params={"text": "a\ud800b"}))
    async with process(echo) as (read, write):
        await write.send(sent)
        back = await read.receive()
    assert back.message.method == "x"
    assert back.message.params == {"text": "a?b"}


def test_what_is_no_message_is_passed_over() -> None:
    for line in (b"\xff\xfe\x00", b"{", b"[1, 2]", b"null", b'"text"', b"[" * 100_000, b""):
        assert read_message(line + b"\n") is None


def test_an_answer_that_cannot_be_read_is_not_waited_for() -> None:
    assert said({**ANSWER, "result": 5}).error.message == tool_process.UNREADABLE
    assert said({**ANSWER, "id": [1], "result": {}}) is None
    assert said({**ANSWER, "id": True, "result": 5}) is None


def test_a_tool_that_is_none_costs_itself_alone() -> None:
    tools: list[object] = [5, None, {"name": 5}, {"name": "x", "inputSchema": 5}, TOOL]
    assert said({**ANSWER, "result": {"tools": tools}}).result["tools"] == [TOOL]
    assert said({**ANSWER, "result": {"tools": 5}}).result == {"tools": 5}


def test_halves_of_characters_are_replaced() -> None:
    assert said({**ANSWER, "result": {"text": "a\ud800b"}}).result == {"text": "a?b"}

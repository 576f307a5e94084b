"""A program that serves tools by MCP: a line of JSON for each message, over its standard input and output.

The library has such a transport too. This one also ends what it started where the session ends in haste,
bounds what it reads, and lets a line or a tool that is damaged cost itself alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from glmtui.protocol.phrases import NOTHING, Phrase, _
from glmtui.text.units import size

if TYPE_CHECKING:
    from mcp.shared.message import SessionMessage

LONGEST_MESSAGE = 16 * 2**20
"""Bytes of a line: a picture goes in."""
QUICK_MESSAGE = 2**18
"""Bytes that are read without the program being slower for it."""
END_SECONDS = (0.2, 0.1)
"""That it has to end by itself: after the end of its input, and after it was told to."""
UNREADABLE = "its answer cannot be read"
"""As the model is told."""
_UNREADABLE = -32700
"""The protocol's number for what is no message."""


class ToolProcess:
    """A transport for `mcp.Client`: entering starts the program, leaving ends it and what it started."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Args:
        command: the program and its arguments.
        env: its whole environment.
        """
        self._command, self._env = tuple(command), dict(env)
        self.ended: Phrase = NOTHING
        """Why it can be spoken to no more."""

    async def __aenter__(self) -> tuple[Any, Any]:
        """Start it, and return the streams of what it says and of what it is told.

        Raises:
            OSError: it cannot be started.
        """
        import anyio

        program = shutil.which(self._command[0]) or self._command[0]  # Windows: npx is npx.cmd
        self._process = await asyncio.create_subprocess_exec(
            program,
            *self._command[1:],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # what it writes is not for this terminal
            env=self._env,
            limit=LONGEST_MESSAGE,
            start_new_session=True,
        )
        said, saying = anyio.create_memory_object_stream[Any](0), anyio.create_memory_object_stream[Any](0)
        self._streams = (*said, *saying)
        self._reading = asyncio.create_task(self._read(said[0]))
        self._writing = asyncio.create_task(self._write(saying[1]))
        return said[1], saying[0]

    async def __aexit__(self, *_error: object) -> None:
        """End it, within `END_SECONDS`, even if this is cancelled meanwhile."""
        self._input.close()
        await self._wait(END_SECONDS[0])
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            await self._wait(END_SECONDS[1])
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))  # and whatever it has started
        await self._wait(END_SECONDS[1])
        self._process._transport.close()  # type: ignore[attr-defined]  # else it would complain to the terminal
        for task in (self._reading, self._writing):
            task.cancel()
        for stream in self._streams:
            stream.close()

    @property
    def _input(self) -> asyncio.StreamWriter:
        assert self._process.stdin
        return self._process.stdin

    async def _wait(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        while self._process.returncode is None and asyncio.get_running_loop().time() < until:
            with suppress(asyncio.CancelledError):  # as the loop's end does to what is still at work
                await asyncio.sleep(0.01)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    async def _read(self, to: Any) -> None:
        from anyio import BrokenResourceError, ClosedResourceError

        assert self._process.stdout
        async with to:
            with suppress(BrokenResourceError, ClosedResourceError):  # nobody listens any more
                while True:
                    try:
                        line = await self._process.stdout.readuntil(b"\n")
                    except asyncio.LimitOverrunError:
                        said = _("It sends more than {size} at once.")
                        self.ended = said.format(size=size(LONGEST_MESSAGE))
                        return
                    except (asyncio.IncompleteReadError, ConnectionError):
                        await self._wait(END_SECONDS[0])
                        code = self._process.returncode
                        self.ended = (
                            _("Its program closed the connection.")
                            if code is None
                            else _("Its program has ended with code {code}.").format(code=code)
                        )
                        return
                    if len(line) > QUICK_MESSAGE:
                        message = await asyncio.to_thread(read_message, line)
                    else:
                        message = read_message(line)
                    if message is not None:
                        await to.send(message)

    async def _write(self, source: Any) -> None:
        try:
            async for each in source:
                content = each.message.model_dump(by_alias=True, exclude_unset=True)
                self._input.write(json.dumps(content).encode() + b"\n")
                await self._input.drain()
        except ConnectionError:
            self._reading.cancel()  # which tells that nothing more will come


def read_message(line: bytes) -> SessionMessage | None:
    """Return what a line says, or None if it is no message.

    An answer that cannot be understood becomes one that says so: it must not be waited for. Of tools, those
    that are none are left out. What is not UTF-8, and halves of characters, become replacement characters.
    """
    try:
        content = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    result = content.get("result")
    if isinstance(result, dict) and isinstance(tools := result.get("tools"), list):
        content["result"] = result | {"tools": [each for each in tools if _is_tool(each)]}
    try:
        return _message(content)
    except (ValueError, RecursionError):
        number = content.get("id")
        if "method" in content or isinstance(number, bool) or not isinstance(number, int | str):
            return None
        return _message(
            {"jsonrpc": "2.0", "id": number, "error": {"code": _UNREADABLE, "message": UNREADABLE}}
        )


def _message(content: Mapping[str, Any]) -> SessionMessage:
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter as messages

    text = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return SessionMessage(messages.validate_json(text, by_name=False))


def _is_tool(value: object) -> bool:
    from mcp import Tool

    try:
        Tool.model_validate(value, by_name=False)
    except (ValueError, RecursionError):
        return False
    return True

"""Tools of MCP servers (modelcontextprotocol.io): the programs that ``[mcp.NAME]`` of the settings names.

A server is started when a model that calls tools is first asked something, and ends with the session. What
its tools return is text for the model and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from glmtui.errors import UnavailableError, UserError
from glmtui.protocol.phrases import NOTHING, Phrase, _, verbatim
from glmtui.protocol.requests import Tool
from glmtui.session.tool_process import UNREADABLE, ToolProcess
from glmtui.text.clean import clean, one_line

if TYPE_CHECKING:
    import mcp

    from glmtui.chat.conversation import Conversation
    from glmtui.session.toolbox import AnswerTool
    from glmtui.settings.tool_servers import ToolServer

INSTALL = "pip install 'glmtui[mcp]'"
START_SECONDS = 20.0
"""Within which a server has to be there and to name its tools."""
CALL_SECONDS = 120.0
MOST_TOOLS = 32
"""Of one server: each takes room in the prompt."""
LONGEST_DESCRIPTION = 1000
LONGEST_TOOLS = 30_000
"""Characters of the descriptions and parameters of one server's tools: about ten thousand tokens."""
LONGEST_RESULT = 200_000
"""Characters that are looked at; how many the model gets, the context decides."""
SHOWN = 1000
"""Characters of the arguments that the person is asked about."""
CONNECTION_CLOSED = -32000
"""The library's number for a server that is gone."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_Call: TypeAlias = tuple[str, Mapping[str, Any], "asyncio.Future[str]"]


class ToolServers:
    """The servers of the settings, each started once.

    Args:
        servers: returns them.
        failed: told why a server or some of its tools cannot be used, once.
    """

    def __init__(
        self, servers: Callable[[], Mapping[str, ToolServer]], failed: Callable[[Phrase], object]
    ) -> None:
        self._servers, self._failed = servers, failed
        self._running: dict[str, _Connection] = {}
        self._told: dict[str, str] = {}
        """What was said of which server last."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._servers())

    async def tools(self) -> list[AnswerTool]:
        """Return the tools of all servers; one that fails has none, and is tried again next time."""
        found: dict[str, AnswerTool] = {}
        for server in self._servers().values():
            connection = self._running.get(server.name)
            if connection is None or connection.task.done() or connection.server != server:
                if connection is not None:
                    connection.task.cancel()
                connection = self._running[server.name] = _Connection(server)
            try:
                listed = await connection.tools()
            except UserError as error:
                said = _("The tools of {name} cannot be used: {error}")
                self._tell(server.name, said.format(name=server.name, error=error.phrase))
                continue
            if connection.left_out:
                said = _("There is no room for all tools of {name}: {count} are left out.")
                self._tell(server.name, said.format(name=server.name, count=connection.left_out))
            else:
                self._told.pop(server.name, None)
            for tool in listed:
                name = tool.name if tool.name not in found else f"{server.name}_{tool.name}"
                if _NAME.fullmatch(name) and name not in found:
                    found[name] = _ServerTool(connection, tool.name, replace(tool, name=name))
        return list(found.values())

    def _tell(self, server: str, said: Phrase) -> None:
        if self._told.get(server) != str(said):
            self._told[server] = str(said)
            self._failed(said)

    def stop(self) -> None:
        """Let all servers end. Never waits."""
        for connection in self._running.values():
            connection.task.cancel()
        self._running.clear()


@dataclass(frozen=True)
class _ServerTool:
    connection: _Connection
    own_name: str
    """As the server calls it."""
    tool: Tool
    cites: ClassVar[bool] = False

    def leave(self, arguments: Mapping[str, Any]) -> Phrase:
        server = self.connection.server
        if server.allow_all or self.own_name in server.allow:
            return NOTHING
        shown = one_line(str(dict(arguments)))
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]} …"
        return _("The model wants to use {tool} of {server} with {arguments}").format(
            tool=self.own_name, server=server.name, arguments=shown
        )

    async def use(self, conversation: Conversation, arguments: Mapping[str, Any]) -> str:
        return await self.connection.call(self.own_name, arguments)


class _Connection:
    """A server, and the one task that talks to it: its connection is opened and closed there."""

    def __init__(self, server: ToolServer) -> None:
        self.server = server
        self.left_out = 0
        """How many of its tools are not offered."""
        self._process: ToolProcess | None = None
        self._calls: asyncio.Queue[_Call] = asyncio.Queue()
        self._tools: asyncio.Future[list[Tool]] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run())

    async def tools(self) -> list[Tool]:
        """Return what it offers.

        Raises:
            UnavailableError: it does not start, or names no tools in time.
        """
        await self._either(self._tools, START_SECONDS)
        if self._tools.done() and not self._tools.cancelled():
            return self._tools.result()
        if not self.task.done():
            self.task.cancel()
            raise UnavailableError(_("it does not answer."))
        raise self._why()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Return what a tool says.

        Raises:
            UnavailableError: the server is gone, or takes too long.
        """
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._calls.put_nowait((name, arguments, said))
        try:
            await self._either(said, CALL_SECONDS)
        finally:
            said.cancel()  # what nobody waits for any more must not hold up what is called next
        if not said.cancelled():
            return said.result()
        if self.task.done():
            raise self._why()
        raise UnavailableError(_("it does not answer."))

    async def _either(self, future: asyncio.Future[Any], seconds: float) -> None:
        """Wait for `future`, or until the server is gone."""
        either: set[asyncio.Future[Any]] = {self.task, future}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    def _why(self) -> UserError:
        error = None if self.task.cancelled() else self.task.exception()
        if isinstance(error, UserError):
            return error
        if self._process and self._process.ended:
            return UnavailableError(self._process.ended)
        while inner := getattr(error, "exceptions", None):  # a group, of the tasks in the library
            error = inner[0]
        return UnavailableError(verbatim(one_line(str(error or "")) or type(error).__name__))

    async def _run(self) -> None:
        try:
            import mcp
        except ImportError as error:
            raise UnavailableError(_("MCP servers need: {command}").format(command=INSTALL)) from error
        logging.getLogger("mcp").setLevel(
            logging.CRITICAL + 1
        )  # it would write what servers say to the terminal
        async with mcp.Client(self._transport(), cache=None) as client:
            listed = await client.list_tools()
            offered = list(_offered(listed.tools))
            self.left_out = len(listed.tools) - len(offered)
            self._tools.set_result(offered)
            while True:
                name, arguments, said = await self._calls.get()
                doing = asyncio.ensure_future(client.call_tool(name, dict(arguments)))
                said.add_done_callback(partial(_give_up, doing))
                await asyncio.wait((doing,))
                if said.cancelled():
                    continue
                try:
                    text = _text(doing.result())
                except mcp.MCPError as error:
                    if error.code == CONNECTION_CLOSED:
                        raise
                    text = one_line(str(error))
                except ValueError:  # it is not as the protocol has it
                    text = UNREADABLE
                said.set_result(text)

    def _transport(self) -> Any:
        if self.server.url:
            return self.server.url
        from mcp.client.stdio import get_default_environment

        self._process = ToolProcess(self.server.command, get_default_environment() | dict(self.server.env))
        return self._process


def _give_up(call: asyncio.Future[Any], _said: asyncio.Future[str]) -> None:
    call.cancel()


def _offered(tools: Iterable[mcp.Tool]) -> Iterator[Tool]:
    """Yield the tools for which there is room."""
    room = LONGEST_TOOLS
    for tool in islice(tools, MOST_TOOLS):
        description = clean(tool.description or "")[:LONGEST_DESCRIPTION]
        length = len(description) + len(json.dumps(tool.input_schema))
        if length > room:
            continue
        room -= length
        yield Tool(tool.name, description, tool.input_schema)


def _text(result: Any) -> str:
    """Return what of a result is text; the model is told of what else there is."""
    pieces = [
        each.text if each.type == "text" else f"({each.type})" for each in getattr(result, "content", ())
    ]
    return "\n".join(pieces)[:LONGEST_RESULT] or "(nothing)"

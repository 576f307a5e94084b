"""Programs whose tools models may call: ``[mcp.NAME]`` of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from glmtui.errors import BadValueError
from glmtui.protocol.phrases import _

FIELDS = ("command", "url", "env", "allow")


@dataclass(frozen=True, slots=True)
class ToolServer:
    """An MCP server: a program that is started, or an address."""

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    """For the program, besides ``PATH``, ``HOME`` and the like."""
    allow: frozenset[str] = frozenset()
    """Tools that are called without asking the person."""
    allow_all: bool = False


def from_table(name: str, table: Mapping[str, object]) -> ToolServer:
    """Read ``[mcp.NAME]``: command or url, env, allow. Nothing is started.

    Raises:
        BadValueError: a value is missing or none that is allowed; it is named.
    """
    if unknown := set(table) - set(FIELDS):
        raise _wrong(name, min(unknown), ", ".join(FIELDS))
    command, url = _texts(table.get("command", [])), table.get("url", "")
    env, allow = table.get("env", {}), table.get("allow", [])
    if command is None or ("\0" in "".join(command)):
        raise _wrong(name, "command", '["python", "server.py"]')
    if not isinstance(url, str) or bool(url) == bool(command) or (url and not _is_address(url)):
        raise _wrong(
            name, "url" if url else "command", '["python", "server.py"], "http://127.0.0.1:9000/mcp"'
        )
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise _wrong(name, "env", '{ NAME = "value" }')
    allowed = frozenset[str]() if isinstance(allow, bool) else _texts(allow)
    if allowed is None:
        raise _wrong(name, "allow", 'true, ["tool"]')
    return ToolServer(
        name, tuple(command), url, MappingProxyType(dict(env)), frozenset(allowed), allow_all=allow is True
    )


def _texts(value: object) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _is_address(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _wrong(name: str, key: str, allowed: str) -> BadValueError:
    return BadValueError(
        _("mcp.{name}: {key} is not allowed so. It is written like {allowed}").format(
            name=name, key=key, allowed=allowed
        )
    )

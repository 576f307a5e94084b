"""ChatGLM3's tool calls: how tools are told to the model, and how a call is read. Nothing is evaluated."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_LENGTH = 65536
"""Characters of an answer that are looked at for a call."""


@dataclass(frozen=True)
class ToolCall:
    """What the model wants to have called."""

    name: str
    parameters: Mapping[str, Any]


def tools_message(text: str, tools: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    """Return the system message that offers `tools`, as ChatGLM3 was trained to read it."""
    return f"{text}\n{json.dumps(tools, indent=4, ensure_ascii=False)}"


def parse_tool_call(answer: str) -> ToolCall | None:
    """Read the call in an `answer`: the tool's name in the first line, then fenced ``tool_call(…)`` or JSON.

    The arguments must be literals. The published code evaluates the line as Python, which would let a model
    run anything. Returns None where there is no well-formed call.
    """
    name, _newline, content = answer.strip().partition("\n")
    lines = content.strip().splitlines()
    if not name or answer.startswith(("\n", " \n")) or len(answer) > MAX_LENGTH:
        return None
    if len(lines) >= 2 and lines[0].startswith("```") and lines[-1].strip() == "```":
        content = "\n".join(lines[1:-1])
    parameters = _literal_call(content.strip()) if content.strip().startswith("tool_call") else _json(content)
    return None if parameters is None else ToolCall(name.strip(), parameters)


def _json(content: str) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _literal_call(content: str) -> dict[str, Any] | None:
    try:
        call = ast.parse(content, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            return None
        if call.func.id != "tool_call" or any(keyword.arg is None for keyword in call.keywords):
            return None
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None

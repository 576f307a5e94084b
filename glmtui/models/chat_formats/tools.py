"""Tool calls of ChatGLM3 and GLM-4: how tools are told to the model, how a call is read: as data only."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from glmtui.errors import BadValueError
from glmtui.protocol import messages
from glmtui.protocol.phrases import _

MAX_LENGTH = 65536
"""Characters of an answer that are looked at for a call."""


@dataclass(frozen=True)
class ToolCall:
    """What the model wants to have called."""

    name: str
    parameters: Mapping[str, Any]


CHATGLM3 = "Answer the following questions as best as you can. You have access to the following tools:"
"""What ChatGLM3 was told before its tools, in the published examples."""
GLM4 = (
    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具"
)
"""What GLM-4-9B was told before its tools: its published chat template."""
_GLM4_CALL = "在调用上述函数时，请使用 Json 格式表示调用的参数。"


def chatglm3_tools(tools: Sequence[Mapping[str, Any]], system: str = "") -> tuple[str, ...]:
    """Return the system message that offers `tools`, as ChatGLM3 was trained to read it."""
    return (f"{system or CHATGLM3}\n{_written([*map(_function, tools)])}",)


def glm4_tools(tools: Sequence[Mapping[str, Any]], system: str = "") -> tuple[str, ...]:
    """Return the system messages of GLM-4-9B: one of its own that offers `tools`, then `system`."""
    functions = map(_function, tools)
    told = [f"\n\n## {each['name']}\n\n{_written(each)}\n{_GLM4_CALL}" for each in functions]
    return (GLM4 + "".join(told), *filter(None, [system]))


def chatglm3_call(name: str, parameters: Mapping[str, Any]) -> str:
    """Return a call as ChatGLM3 writes it: the tool's name, and Python with literals."""
    arguments = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    return f"{name}\n```python\ntool_call({arguments})\n```"


def glm4_call(name: str, parameters: Mapping[str, Any]) -> str:
    """Return a call as GLM-4-9B writes it: the tool's name, and JSON."""
    return f"{name}\n{json.dumps(parameters, ensure_ascii=False)}"


def _function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the function of a tool, as which it may also be given bare."""
    function = tool.get("function", tool)
    if not isinstance(function, dict) or "name" not in function:
        raise BadValueError(
            _("A tool needs a name: {tool}").format(tool=json.dumps(tool, ensure_ascii=False))
        )
    return function


def _written(what: object) -> str:
    return json.dumps(what, indent=4, ensure_ascii=False)


def arguments_of(call: messages.ToolCall) -> Mapping[str, Any] | None:
    """Return the arguments of a call; None where they are no JSON object."""
    return _json(call.arguments)


class ToolCallStream:
    """Tells a call from an answer while the text comes: only what may become a call is held back.

    Args:
        names: the tools that may be called.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._names = frozenset(names)
        self._held = ""
        self._stage: Literal["start", "call", "text"] = "start" if names else "text"
        self.call: messages.ToolCall | None = None
        """The call, once the answer is complete."""

    def push(self, text: str) -> str:
        """Return what of the answer is no call once `text` has come."""
        if self._stage == "text":
            return text
        self._held += text
        name, newline, _rest = self._held.partition("\n")
        if newline and name.strip() in self._names:
            self._stage = "call"
        undecided = not newline and any(each.startswith(name.strip()) for each in self._names)
        if self._stage == "call" or undecided:
            return ""
        self._stage = "text"
        return self._take()

    def finish(self) -> str:
        """Return what was held back and is no well-formed call."""
        found = parse_tool_call(self._held) if self._stage == "call" else None
        if found is None:
            return self._take()
        arguments = json.dumps(found.parameters, ensure_ascii=False, default=str)
        self.call = messages.ToolCall(f"call_{uuid4().hex[:24]}", found.name, arguments)
        return ""

    def _take(self) -> str:
        text, self._held = self._held, ""
        return text


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

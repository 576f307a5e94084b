"""Reads what clients send: what is wrong is told with the field's name, what is unknown is passed over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from glmtui.protocol.messages import (
    ChatMessage,
    Image,
    Part,
    Role,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    text_of,
)
from glmtui.protocol.requests import Complete, CountTokens, Generate, Tool
from glmtui.protocol.sampling import Sampling
from glmtui.server.errors import ApiError, bad_request
from glmtui.server.options import Limits
from glmtui.server.pictures import Pictures

Body = Mapping[str, Any]
_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
MOST_STOPS = 16
MOST_DEPTH = 64
"""Of a schema, whose nesting whoever reads it follows step by step."""
MOST_SCHEMA = 32 << 10
"""Bytes of a schema that an answer must follow: all other answers wait while a larger one is made ready."""
_UNABLE: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "echo": (False,),
    "suffix": ("",),
    "parallel_tool_calls": (True, False),
}
"""Fields that ask for what this server cannot do, and the values which do not (besides null)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants, and how it wants to be told."""

    request: Generate | Complete
    streaming: bool
    with_usage: bool
    """A last chunk of the stream tells how many tokens there were."""


async def read_body(request: Request, limits: Limits, *, pictures: bool = False) -> Body:
    """Read a request's body, a JSON object, within the limits of size (with `pictures`, theirs) and time.

    Raises:
        ApiError: it is too large or too slow, or no JSON object.
    """
    most = limits.picture_body if pictures else limits.body
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        _too_large(most)
    try:
        data = await asyncio.wait_for(_read(request, most), limits.body_seconds)
    except asyncio.TimeoutError:
        raise ApiError(408, "The body did not come in time.", code="timeout") from None
    except ClientDisconnect:
        raise ApiError(400, "The client left.", code="disconnected") from None
    try:
        body = json.loads(data, parse_constant=_no_number)
    except RecursionError:
        raise bad_request("The body is nested too deeply.", code="invalid_json") from None
    except UnicodeDecodeError:
        raise bad_request("The body is not text in UTF-8.", code="invalid_json") from None
    except ValueError as error:
        place = (
            f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        )
        raise bad_request(f"The body is not JSON{place}.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise bad_request("The body must be a JSON object.", code="invalid_json")
    return body


async def _read(request: Request, most: int) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            _too_large(most)
    return bytes(data)


def _too_large(most: int) -> NoReturn:
    raise ApiError(413, f"The body is larger than {most} bytes.", code="body_too_large")


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


# --- single fields ---


def text(value: object, name: str) -> str:
    """Return `value` as text that can be encoded.

    Raises:
        ApiError: it is something else.
    """
    if not isinstance(value, str):
        raise bad_request(f"{name} must be a string.", name)
    return value.encode("utf-8", "replace").decode()  # half a surrogate pair is no character


def flag(body: Body, name: str) -> bool:
    """Return a field that is true or false; missing is false."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"{name} must be true or false.", name)
    return bool(value)


def number(body: Body, name: str, least: float, most: float) -> float | None:
    """Return a number in a range; None where it is missing or null."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise bad_request(f"{name} must be a number.", name)
    if not least <= value <= most:  # a whole number may be too large for a float
        raise bad_request(f"{name} must be from {least} to {most}.", name)
    return value


def integer(body: Body, name: str, least: int, most: int) -> int | None:
    """Return a whole number in a range; None where it is missing or null."""
    value = number(body, name, least, most)
    if value is None:
        return None
    if value != int(value):
        raise bad_request(f"{name} must be a whole number.", name)
    return int(value)


# --- complete requests ---


def chat(body: Body, sampling: Sampling, pictures: Pictures) -> Asked:
    """Read a request for an answer to messages; what it leaves open is as in `sampling`.

    Decoding `pictures`, which takes theirs, takes a while.

    Raises:
        ApiError: something in it is wrong, or cannot be done.
    """
    _check_able(body)
    messages = read_messages(body.get("messages"), pictures)
    request = Generate(
        messages,
        _sampling(body, sampling),
        continue_answer=messages[-1].role == "assistant",
        stop=_stops(body),
        tools=_tools(body),
        json_schema=_json_schema(body),
        leave_out_rounds=body.get("truncation") == "auto",
        images=pictures.files,
    )
    return Asked(request, *_streaming(body))


def completion(body: Body, sampling: Sampling, _pictures: Pictures) -> Asked:
    """Read a request for how a text goes on. Raises as `chat` does."""
    _check_able(body)
    if _json_schema(body) is not None:
        raise bad_request(
            "A bare text has no response_format: ask under /v1/chat/completions.", "response_format"
        )
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if not isinstance(prompt, str):
        raise bad_request("prompt must be one string; token ids and several prompts are not taken.", "prompt")
    request = Complete(text(prompt, "prompt"), _sampling(body, sampling), stop=_stops(body))
    return Asked(request, *_streaming(body))


def count(body: Body, pictures: Pictures) -> CountTokens:
    """Read a request for the tokens of ``messages``, or of a bare ``prompt`` (or ``content``)."""
    if body.get("messages") is not None:
        return CountTokens(read_messages(body["messages"], pictures), images=pictures.files)
    name = "content" if "content" in body else "prompt"
    return CountTokens(text=text(body.get(name), name))


def _check_able(body: Body) -> None:
    for name, values in _UNABLE.items():
        value = body.get(name)
        if value is not None and not any(_same(value, each) for each in values):
            raise bad_request(f"{name} cannot be {_shown(value)} with this server.", name)


def _json_schema(body: Body) -> Mapping[str, Any] | None:
    match body.get("response_format"):
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return _not_large(_not_deep(schema, "response_format"), "response_format")
        case _:
            raise bad_request(
                "response_format can be text, json_object, or json_schema with a json_schema.schema.",
                "response_format",
            )


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) is isinstance(other, bool)


def _not_deep(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    level: list[object] = [schema]
    for _depth in range(MOST_DEPTH):
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [value for values in inner for value in values if isinstance(value, dict | list)]  # type: ignore[attr-defined]
    if level:
        raise bad_request(f"{name} is nested too deeply.", name)
    return schema


def _not_large(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if len(json.dumps(schema)) > MOST_SCHEMA:
        raise bad_request(f"{name} is larger than {MOST_SCHEMA} bytes.", name)
    return schema


def _shown(value: object) -> str:
    try:
        written = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "so deep"
    return written if len(written) <= 40 else f"{written[:40]}…"


def _sampling(body: Body, base: Sampling) -> Sampling:
    length = integer(body, "max_completion_tokens", 1, 1 << 31) or integer(body, "max_tokens", 1, 1 << 31)
    top_k = integer(body, "top_k", -1, 1_000_000)
    found: dict[str, float | int | None] = {
        "temperature": number(body, "temperature", 0, 2),
        "top_p": number(body, "top_p", 0, 1),
        "top_k": None if top_k is None else max(top_k, 0),
        "repetition_penalty": number(body, "repetition_penalty", 0.5, 2),
        "seed": integer(body, "seed", -(2**63), 2**63 - 1),
        "max_new_tokens": length,
        "max_length": integer(body, "max_length", 1, 1 << 31),
    }
    return replace(base, **{name: value for name, value in found.items() if value is not None})  # type: ignore[arg-type]


def _stops(body: Body) -> tuple[str, ...]:
    value = body.get("stop")
    stops = value if isinstance(value, list) else [] if value is None else [value]
    if len(stops) > MOST_STOPS:
        raise bad_request(f"stop may have {MOST_STOPS} strings at most.", "stop")
    return tuple(text(each, "stop") for each in stops)


def _streaming(body: Body) -> tuple[bool, bool]:
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise bad_request("stream_options must be an object.", "stream_options")
    return flag(body, "stream"), flag(options or {}, "include_usage")


def _tools(body: Body) -> tuple[Tool, ...]:
    given, choice = body.get("tools"), body.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise bad_request(
            'tool_choice can be "auto" or "none": no model here can be made to call.', "tool_choice"
        )
    if given is None or choice == "none":
        return ()
    if not isinstance(given, list):
        raise bad_request("tools must be a list.", "tools")
    return tuple(_tool(each, f"tools[{place}]") for place, each in enumerate(given))


def _tool(value: object, name: str) -> Tool:
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not function.get("name"):
        raise bad_request(f"{name} must be a function with a name.", name)
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad_request(f"{name}.function.parameters must be an object.", name)
    return Tool(
        text(function["name"], f"{name}.function.name"),
        text(function.get("description") or "", f"{name}.function.description"),
        _not_deep(parameters, f"{name}.function.parameters"),
    )


# --- messages ---


def read_messages(value: object, pictures: Pictures) -> tuple[ChatMessage, ...]:
    """Read a conversation, at least one message; its pictures are taken by `pictures`.

    Raises:
        ApiError: a message is wrong, or holds what no model here takes.
    """
    if not isinstance(value, list) or not value:
        raise bad_request("messages must be a list with at least one message.", "messages")
    messages = tuple(_message(each, f"messages[{place}]", pictures) for place, each in enumerate(value))
    if all(message.role == "system" for message in messages):
        raise bad_request("messages must have one of the role user.", "messages")
    return messages


def _message(value: object, name: str, pictures: Pictures) -> ChatMessage:
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object.", name)
    given = value.get("role")
    role = _ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise bad_request(f"{name}.role must be one of: {', '.join(_ROLES)}.", f"{name}.role")
    said = _content(value.get("content"), f"{name}.content", pictures if role == "user" else None)
    content = text_of(said)
    if role == "tool":
        call, tool = value.get("tool_call_id") or "", value.get("name") or ""
        return ChatMessage(
            role, (ToolResult(text(call, f"{name}.tool_call_id"), content, text(tool, f"{name}.name")),)
        )
    parts: list[Part] = [part for part in said if isinstance(part, Image)]
    if role == "assistant":
        thought = value.get("reasoning_content") or value.get("reasoning")
        parts += [Thought(text(thought, f"{name}.reasoning_content"))] if thought else []
        parts += _calls(value.get("tool_calls"), f"{name}.tool_calls")
    return ChatMessage(role, (*parts, *((Text(content),) if content or not parts else ())))


def _content(value: object, name: str, pictures: Pictures | None) -> Sequence[Text | Image]:
    if value is None:
        return ()
    if not isinstance(value, list):
        return (Text(text(value, name)),)
    return [_part(each, f"{name}[{place}]", pictures) for place, each in enumerate(value)]


def _part(value: object, name: str, pictures: Pictures | None) -> Text | Image:
    """Read a part of a message; None takes no pictures: only those of questions are looked at."""
    if not isinstance(value, dict):
        raise bad_request(f"{name} must be an object with a type.", name)
    kind = value.get("type")
    if kind in ("image_url", "input_image") and pictures is not None and pictures.seen:
        address = value.get("image_url")
        if isinstance(address, dict):
            return pictures.add(address.get("url"), f"{name}.image_url.url")
        return pictures.add(address, f"{name}.image_url")
    if kind not in ("text", "input_text", "output_text", "refusal"):
        if pictures is None:
            what = "A message that is not the user's holds text alone"
        else:
            what = "The model that is loaded takes text" + (" and pictures" if pictures.seen else " alone")
        raise bad_request(f"{what}: {name} is {_shown(kind)}.", name, "unsupported_content")
    return Text(text(value.get("refusal" if kind == "refusal" else "text"), f"{name}.text"))


def _calls(value: object, name: str) -> Sequence[ToolCall]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise bad_request(f"{name} must be a list.", name)
    calls = []
    for place, each in enumerate(value):
        function = each.get("function") if isinstance(each, dict) else None
        if not isinstance(function, dict):
            raise bad_request(f"{name}[{place}] must have a function.", name)
        calls.append(
            ToolCall(
                text(each.get("id") or "", f"{name}[{place}].id"),
                text(function.get("name"), f"{name}[{place}].function.name"),
                text(function.get("arguments") or "{}", f"{name}[{place}].function.arguments"),
            )
        )
    return calls

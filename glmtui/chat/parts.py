"""The parts of a message as records, and as texts that are split, joined and replaced.

In a file a message has its readable ``text``. ``parts`` are there only where there is more than that: a list
of objects, each with its ``type`` and the fields of the class in `glmtui.protocol.messages`; what is empty is
left out. A ``{"type": "text"}`` without its own text stands for the ``text`` of the record. A person may edit
that: where the texts of the parts say something else, it is right and they are not.

Version 1 wrote what an assistant thought into the text: ``<think>…</think>``, then the answer. It is read as
a `Thought` and a `Text`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glmtui.protocol.messages import (
    Attachment,
    Image,
    Part,
    Role,
    Source,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    text_of,
)
from glmtui.text.clean import without_surrogates

PartRecord = dict[str, Any]

_TYPES: dict[str, type[Part]] = {
    "text": Text,
    "thought": Thought,
    "image": Image,
    "attachment": Attachment,
    "source": Source,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_FIELDS = {kind: dataclasses.fields(kind) for kind in _NAMES}
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OPEN, _CLOSE = "<think>", "</think>"
_CLOSE_BEGUN = re.compile(rf"({'|'.join(_CLOSE[:length] for length in range(1, len(_CLOSE)))})\Z")


def is_digest(value: str) -> bool:
    """Whether `value` can be the SHA-256 of a blob, so that it is safe as a file's name."""
    return _DIGEST.fullmatch(value) is not None


def clean_part(part: Part) -> Part:
    """Return `part` with its strings as a file can hold them."""
    values: dict[str, Any] = {field.name: getattr(part, field.name) for field in _FIELDS[type(part)]}
    values |= {name: without_surrogates(value) for name, value in values.items() if isinstance(value, str)}
    return type(part)(**values)


# --- records ---


def encode_parts(role: Role, parts: Sequence[Part], unread: Iterable[PartRecord] = ()) -> PartRecord:
    """Return the keys ``text`` and, where that is not all, ``parts`` of a record."""
    text = text_of(parts)
    if parts_of_text(role, text) == tuple(parts) and not unread:
        return {"text": text}
    texts = [part for part in parts if isinstance(part, Text)]
    records = [_encode(part, is_all=len(texts) == 1) for part in parts]
    return {"text": text, "parts": [*records, *unread]}


def _encode(part: Part, *, is_all: bool) -> PartRecord:
    record: PartRecord = {"type": _NAMES[type(part)]}
    if is_all and isinstance(part, Text):
        return record
    for field in _FIELDS[type(part)]:
        value = getattr(part, field.name)
        if value != field.default:
            record[field.name] = value
    return record


def decode_parts(
    role: Role, text: str, records: object, *, grows: bool = False
) -> tuple[tuple[Part, ...], tuple[PartRecord, ...]]:
    """Read the ``text``, which may grow, and the ``parts`` of a record.

    Returns:
        The parts, and the records among them that are of no known type, or wrong.
    """
    text = without_surrogates(text)
    if not isinstance(records, list):
        return parts_of_text(role, text, grows=grows), ()
    parts: list[Part] = []
    unread: list[PartRecord] = []
    for record in records:
        if not isinstance(record, dict):
            continue
        if record.get("type") == "text" and "text" not in record:
            record = {"type": "text", "text": text}
        part = _decode(record)
        if part is None:
            unread.append(record)
        else:
            parts.append(part)
    if text_of(parts) != text:
        parts = list(with_text(parts, text))
    return tuple(parts), tuple(unread)


def _decode(record: Mapping[str, Any]) -> Part | None:
    """Read one part; None where its type is not known or one of its fields is not what it should be."""
    name = record.get("type")
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        return None
    values: dict[str, str | int] = {}
    for field in _FIELDS[kind]:
        value = record.get(field.name, field.default)
        if field.type == "int":
            if type(value) is not int or value < 0:
                return None
            values[field.name] = value
        elif isinstance(value, str):
            values[field.name] = without_surrogates(value)
        else:
            return None
    digest = values.get("sha256")
    if isinstance(digest, str) and digest and not is_digest(digest):
        return None
    return kind(**values)  # type: ignore[arg-type]  # checked above, field by field


# --- texts ---


def parts_of_text(role: Role, text: str, *, grows: bool = False) -> tuple[Part, ...]:
    """Return the parts of a message that has only `text`; an assistant's may begin with a thought.

    Of one that `grows` a beginning like ``<thi`` is held back.
    """
    if role != "assistant" or not may_think(text, grows=grows):
        return (Text(text),) if text else ()
    thought, close, answer = text.lstrip()[len(_OPEN) :].partition(_CLOSE)
    if not close:
        thought = _CLOSE_BEGUN.sub("", thought)
    parts = Thought(thought.strip()), Text(answer.lstrip())
    return tuple(part for part in parts if part.text)


def may_think(text: str, *, grows: bool) -> bool:
    """Whether a text of version 1 begins with a thought, or if it `grows` with a part of its mark."""
    if text[:1] != "<" and not text[:1].isspace():
        return False
    start = text.lstrip()
    return start.startswith(_OPEN) or (grows and bool(start) and _OPEN.startswith(start))


def with_text(parts: Sequence[Part], text: str) -> tuple[Part, ...]:
    """Return `parts` with `text` as their only text: where the first was, else behind the thoughts."""
    thoughts = next((n for n, part in enumerate(parts) if not isinstance(part, Thought)), len(parts))
    return _with_one(parts, Text, text, thoughts)


def with_thought(parts: Sequence[Part], thought: str) -> tuple[Part, ...]:
    """Return `parts` with `thought` as their only thought: where the first was, else at the beginning."""
    return _with_one(parts, Thought, thought, 0)


def _with_one(
    parts: Sequence[Part], kind: type[Text] | type[Thought], text: str, place: int
) -> tuple[Part, ...]:
    place = next((n for n, part in enumerate(parts) if isinstance(part, kind)), place)
    new = (kind(text),) if text else ()
    return (*parts[:place], *new, *(part for part in parts[place:] if not isinstance(part, kind)))


def join_parts(before: tuple[Part, ...], after: tuple[Part, ...]) -> tuple[Part, ...]:
    """Put the parts of two messages together, with a line break where the text of the second begins."""
    place = next((n for n, part in enumerate(after) if isinstance(part, Text)), None)
    if place is None or not text_of(before):
        return before + after
    text = "\n" + text_of(after[place : place + 1])
    if place == 0 and isinstance(before[-1], Text):
        return (*before[:-1], Text(before[-1].text + text), *after[1:])
    return (*before, *after[:place], Text(text), *after[place + 1 :])

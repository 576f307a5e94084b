"""Phrases as JSON, without their language: to be said in the reader's."""

from __future__ import annotations

import json
from collections.abc import Iterable

from glmtui.protocol.phrases import Phrase
from glmtui.text import json_values


def packed(phrases: Iterable[Phrase]) -> str:
    """Write phrases; none are an empty text."""
    values = [
        {"say": phrase.template, **{name: str(value) for name, value in phrase.fields.items()}}
        for phrase in phrases
    ]
    return json.dumps(values, ensure_ascii=False) if values else ""


def unpacked(text: str) -> tuple[Phrase, ...]:
    """Read what `packed` wrote; what is none of it is left out."""
    try:
        values = json_values.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(
        Phrase(value["say"], {name: each for name, each in value.items() if name != "say"})
        for value in (values if isinstance(values, list) else ())
        if isinstance(value, dict) and isinstance(value.get("say"), str)
    )

"""Prompts in parts: text, and the control tokens between; and the same as one text that can be taken apart.

Elsewhere a prompt as text has ``<|user|>`` in it like any other word, so whoever types that speaks as the
user. Here a control token stands between two noncharacters of Unicode, which no text has: the prompt that a
program gets as text, and encodes itself, is the one that the model was trained on, and nothing more of it
becomes control tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

OPEN, CLOSE = "\ufdd0", "\ufdd1"
_NONCHARACTERS = str.maketrans(dict.fromkeys(OPEN + CLOSE, "\ufffd"))


@dataclass(frozen=True, slots=True)
class Control:
    """A control token, by its published name."""

    name: str


PromptPart = Control | str
"""Text is encoded for itself: no token goes over the end of a part."""


def to_text(parts: Sequence[PromptPart]) -> str:
    """Return `parts` as one text; an empty mark stands between two that are both text."""
    written = []
    for part, before in zip(parts, [None, *parts], strict=False):
        if isinstance(part, Control):
            written.append(f"{OPEN}{part.name}{CLOSE}")
        else:
            written.append(f"{OPEN}{CLOSE}{part}" if isinstance(before, str) else part)
    return "".join(written)


def from_text(text: str, names: Collection[str]) -> list[PromptPart]:
    """Take apart what `to_text` made, or any text around or between; marks of no known name are text."""
    if OPEN not in text:
        return [text]
    known = "|".join(map(re.escape, names))
    pieces = re.split(f"{OPEN}({known}|){CLOSE}", text)
    parts: list[PromptPart] = [pieces[0]]
    for name, following in zip(pieces[1::2], pieces[2::2], strict=True):
        parts += [Control(name), following] if name else [following]
    return [part for part in parts if part]


def without_marks(text: str) -> str:
    """Return what somebody said so that no mark is in it."""
    return text.translate(_NONCHARACTERS)

"""Text that tries to steer a terminal, and a look at what reached one."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import glmtui.paths

HOSTILE = (
    "a\x1b]52;c;UFdORUQ=\x07b\x1bP1$r\x1b\\c\x9b31md\x1b[2Je"
    "\u202ef\u2066g\0h\x08i\r\nj\x85k\u2028l\ud800m\x7fn"
)
"""C0, C1, a write to the clipboard, a device control string, direction marks, every kind of line end."""
SHORT = "x\x1b]0;OWNED\x07\x9by\u202e\n\rz"
"""The same for names of files, which may not be long."""
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def steering(written: str, *allowed: str) -> list[str]:
    """Return what of `written` a terminal would obey, line ends and the patterns `allowed` left out."""
    for pattern in allowed:
        written = re.sub(pattern, "", written)
    return [
        f"{character!r} in {written[max(at - 30, 0) : at + 30]!r}"
        for at, character in enumerate(written)
        if (unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character != "\n")
        or _BIDI.match(character)
    ]


def in_toml(text: str) -> str:
    """Return `text` as a string of TOML, which knows no lone surrogates."""
    return json.dumps(text.replace("\ud800", "")).replace("\x7f", "\\u007f")


def write_home(home: Path) -> Path:
    """Write settings, a preset, keys, a theme and a conversation of hostile names into a home.

    Return the conversation's file.
    """
    name = in_toml(HOSTILE)
    config = home / "config" / "config.toml"
    (config.parent / "themes").mkdir(parents=True)
    config.write_text(
        f"[ui]\ntheme = {name}\n{name} = 1\n[generation]\nsystem_prompt = {name}\ntop_p = {name}\n"
        f'[presets.{name}]\ntemperature = 0.5\n[keys]\n{name} = "x"\n"chat.stop" = {name}\n',
        "utf-8",
    )
    theme = (Path(glmtui.paths.themes_dir()) / "ember.toml").read_text("utf-8")
    for number, written in enumerate((name, '"ember-2"')):
        (config.parent / "themes" / f"{number}.toml").write_text(
            theme.replace('"ember"', written).replace('"Ember"', name), "utf-8"
        )
    (config.parent / "themes" / f"{SHORT}.toml").write_text("name = 1", "utf-8")
    time = "2026-03-01T12:00:00+00:00"
    meta = {"model": HOSTILE, "device": HOSTILE, "quant": HOSTILE}
    parts = [
        {"type": "text", "text": HOSTILE},
        {"type": "attachment", "name": HOSTILE, "sha256": "0" * 64, "origin": HOSTILE},
        {"type": "source", "number": 1, "title": HOSTILE, "text": HOSTILE, "origin": HOSTILE},
        {"type": "tool_call", "id": "t", "name": HOSTILE, "arguments": {HOSTILE: HOSTILE}},
        {"type": "tool_result", "id": "t", "text": HOSTILE, "name": HOSTILE},
    ]
    message = {"type": "message", "text": HOSTILE, "time": time}
    answer = {"role": "assistant", "state": "done", "meta": meta, "parts": parts}
    records = [
        {"type": "conversation", "version": 2, "id": "c"},
        {**message, "id": "u", "role": "user"},
        {**message, "id": "a", "parent": "u", **answer},
        {"type": "title", "title": HOSTILE},
    ]
    file = home / "data" / "conversations" / "hostile.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return file

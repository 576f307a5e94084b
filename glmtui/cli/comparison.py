"""The figures of one ``glmtui bench --json`` next to those of an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glmtui.errors import BadFileError
from glmtui.i18n import _
from glmtui.regular_files import read_regular, reason
from glmtui.text import json_values
from glmtui.text.columns import table

MOST_BYTES = 1 << 20
_LISTS = {
    "prefill": ("tokens", "tokens_per_s"),
    "contexts": ("tokens", "decode_tokens_per_s"),
    "parallel": ("streams", "tokens_per_s"),
    "rounds": ("round", "first_token_s"),
}
"""Figures by what they belong to: the names of both in each item."""
_SINGLE = (
    ("load_s",),
    ("decode", "tokens_per_s"),
    ("bandwidth_bytes_per_s",),
    ("bandwidth_share",),
    ("peak_rss_bytes",),
    ("lookup", "speedup"),
)


def read(path: Path) -> dict[str, Any]:
    """Return an earlier result.

    Raises:
        UserError: the file cannot be read, or is none.
    """
    try:
        found = json_values.loads(read_regular(path, MOST_BYTES).decode("utf-8-sig"))
    except OSError as error:
        phrase = _("{path} cannot be read: {error}")
        raise BadFileError(phrase.format(path=path, error=reason(error))) from error
    except ValueError as error:
        found = error
    if not isinstance(found, dict) or not list(_figures(found)):
        raise BadFileError(_("{path} is nothing that `glmtui bench --json` printed").format(path=path))
    return found


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures that both have, as ``{name, before, now, ratio}``."""
    earlier = dict(_figures(before))
    return [
        {"name": name, "before": earlier[name], "now": value, "ratio": round(value / earlier[name], 4)}
        for name, value in _figures(now)
        if earlier.get(name)
    ]


def lines(compared: list[dict[str, Any]]) -> list[str]:
    """Lay them out for people."""
    heading = (_("compared"), _("before"), _("now"), "")
    rows = [
        (each["name"], f"{each['before']:,.6g}", f"{each['now']:,.6g}", f"× {each['ratio']:.2f}")
        for each in compared
    ]
    return ["", *table([heading, *rows], right=(1, 2, 3))]


def _figures(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield each figure and its name; what is no number costs itself alone."""
    for path in _SINGLE:
        value: Any = result
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if _is_number(value):
            yield ".".join(path), value
    for group, (key, name) in _LISTS.items():
        items = result.get(group)
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and _is_number(item.get(name)) and _is_number(item.get(key)):
                yield f"{group}.{item[key]}.{name}", item[name]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""Models behind servers, as a person names them: an address, or ``[engines.NAME]`` of the settings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from glmtui.errors import BadValueError
from glmtui.protocol.models import ModelEntry, RemoteModel, hub_page
from glmtui.protocol.phrases import _

KEY_VARIABLE = "GLMTUI_API_KEY"
"""Holds the key for addresses that are not in the settings."""
INTERFACE = "/v1"
"""The path where an address has none."""
FIELDS = ("url", "model", "key", "context", "images", "headers", "body")
_KEY = re.compile(r"(env|file|keyring):\S.*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OF_CONNECTION = ("connection", "content-length", "host", "transfer-encoding")
"""What the connection itself says."""


def is_address(source: str) -> bool:
    """Whether `source` is the address of a server, and not that of a model's page on the hub."""
    return source.lower().startswith(("http://", "https://")) and hub_page(source) is None


def find(source: str, engines: Mapping[str, RemoteModel]) -> RemoteModel | None:
    """Return the model behind a server that `source` names; None if it names none.

    Args:
        source: an address, or a name in `engines`, which ``#`` and another model of that server may follow.
        engines: those of the settings, by name.
    """
    name, _mark, model = source.partition("#")
    if (engine := engines.get(source) or engines.get(name)) is not None:
        return engine if source in engines or not model else replace(engine, source=source, model=model)
    return from_address(source) if is_address(source) else None


def from_address(source: str) -> RemoteModel:
    """Read ``http://host:8000/v1#NAME``, without a path ``/v1``. Whether it is one shows when it is used."""
    address, _mark, model = source.strip().partition("#")
    scheme, _slashes, rest = address.rstrip("/").partition("://")
    base_url = f"{scheme.lower()}://{rest}{'' if '/' in rest else INTERFACE}"
    key = f"env:{KEY_VARIABLE}" if os.environ.get(KEY_VARIABLE) else ""
    return RemoteModel(source.strip(), base_url, model, key)


def from_table(name: str, table: Mapping[str, object]) -> RemoteModel:
    """Read ``[engines.NAME]``: url, model, key, context, images, headers, body.

    Raises:
        BadValueError: a value is missing or none that is allowed; it is named.
    """
    if unknown := set(table) - set(FIELDS):
        raise _wrong(name, min(unknown), ", ".join(FIELDS))
    url, model, key = table.get("url"), table.get("model", ""), table.get("key", "")
    if not isinstance(url, str) or not is_address(url):
        raise _wrong(name, "url", "http://127.0.0.1:8000/v1")
    if not isinstance(model, str):
        raise _wrong(name, "model", '"glm-4-9b"')
    if not isinstance(key, str) or (key and not _KEY.fullmatch(key)):
        raise _wrong(name, "key", '"env:NAME", "file:PATH", "keyring:SERVICE"')
    context, headers, body = table.get("context"), table.get("headers", {}), table.get("body", {})
    if context is not None and (
        isinstance(context, bool) or not isinstance(context, int) or not 16 <= context <= 1 << 24
    ):
        raise _wrong(name, "context", "32768")
    if (images := table.get("images")) is not None and not isinstance(images, bool):
        raise _wrong(name, "images", "true")
    if not isinstance(headers, dict) or not all(_is_header(*each) for each in headers.items()):
        raise _wrong(name, "headers", '{ X-Name = "value" }')
    if not isinstance(body, dict) or not _is_json(body):
        raise _wrong(name, "body", "{ reasoning_effort = 'low' }")
    found = from_address(url)
    return replace(
        found,
        source=name,
        model=model or found.model,
        key=key,
        context=context,
        headers=MappingProxyType(dict(headers)),
        body=MappingProxyType(dict(body)),
        images=images,
    )


def entries(engines: Mapping[str, RemoteModel]) -> list[ModelEntry]:
    """Return the servers of the settings as the list of models has them. None of them is asked."""
    return [
        ModelEntry(
            name, name, "server", path=engine.base_url, format=engine.server, max_length=engine.context or 0
        )
        for name, engine in engines.items()
    ]


def _is_header(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and bool(_HEADER.fullmatch(name))
        and name.lower() not in _OF_CONNECTION
        and value.isascii()
        and value.isprintable()
    )


def _is_json(value: object) -> bool:
    """Whether a value of TOML can be sent; dates, and what is no number, cannot."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _wrong(name: str, key: str, allowed: str) -> BadValueError:
    return BadValueError(
        _("engines.{name}: {key} is not allowed so. It is written like {allowed}").format(
            name=name, key=key, allowed=allowed
        )
    )

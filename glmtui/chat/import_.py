"""Reading conversations that other programs wrote.

Each reader turns one conversation of a foreign format into records (`glmtui.chat.tree`); the tree mends what
is missing in them. What is no text (pictures, calls of tools) is left out, the messages around it are joined.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from glmtui.chat.conversation import Conversation
from glmtui.chat.files import SUFFIX, ConversationFile, Record
from glmtui.chat.library import Library
from glmtui.errors import UserError
from glmtui.protocol.phrases import _

FORMAT_NAME = "glmtui"
"""Marks glmtui's own JSON export."""
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "human": "user", "gpt": "assistant"}


def import_file(path: Path, library: Library) -> list[Conversation]:
    """Bring the conversations of `path` into `library` and return them.

    It may be a conversation file or JSON export of glmtui; the history ``[[question, answer], …]`` of the
    published ChatGLM demos; the export of ChatGPT (``conversations.json`` or the whole zip) or of Open WebUI;
    or the ``messages`` of an OpenAI-style request.

    Raises:
        UserError: it cannot be read, or it is none of these.
    """
    found = [
        conversation for conversation in map(Conversation.from_records, _read(path)) if conversation.messages
    ]
    if not found:
        raise UserError(
            _(
                "{path} holds no conversation that glmtui can read. It reads its own files, "
                "[[question, answer], …], and the JSON exports of ChatGPT and Open WebUI."
            ).format(path=path)
        )
    for conversation in found:
        conversation.keep_in(library.folder)
    return found


def _read(path: Path) -> Iterator[list[Record]]:
    if path.suffix.lower() == SUFFIX:
        yield list(ConversationFile(path).read().records)
        return
    for data in _contents(path):
        try:
            document = json.loads(data.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise UserError(_("{path} is not a text file").format(path=path)) from error
        except (ValueError, RecursionError) as error:
            raise UserError(_("{path} is not JSON: {error}.").format(path=path, error=error)) from error
        yield from _conversations(document)


def _contents(path: Path) -> Iterator[bytes]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    if Path(name).name.startswith("conversations") and name.endswith(".json"):
                        yield archive.read(name)
        else:
            yield path.read_bytes()
    except (OSError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(_("{path} cannot be read: {error}.").format(path=path, error=reason)) from error


def _conversations(document: object) -> Iterator[list[Record]]:
    """Tell the formats apart and yield the records of each conversation in `document`."""
    if isinstance(document, dict):
        if reader := _reader(document):
            yield list(reader(document))
        elif isinstance(history := document.get("history"), list):
            yield list(_pairs(history))
    elif isinstance(document, list) and document:
        if all(isinstance(item, list) for item in document):
            yield list(_pairs(document))
        elif all(isinstance(item, dict) and "role" in item for item in document):
            yield list(_chat_messages({"messages": document}))
        else:
            for item in document:
                if isinstance(item, dict) and (reader := _reader(item)):
                    yield list(reader(item))


def _reader(item: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Iterator[Record]] | None:
    if item.get("format") == FORMAT_NAME:
        return _own
    if isinstance(item.get("mapping"), dict):
        return _chatgpt
    if isinstance(item.get("chat"), dict):
        return _open_webui
    return _chat_messages if isinstance(item.get("messages"), list) else None


def _own(item: Mapping[str, Any]) -> Iterator[Record]:
    yield {"type": "conversation", "created": item.get("created")}
    messages = item.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            yield {**message, "type": "message"}
    yield {"type": "settings", "values": item.get("settings")}
    yield {"type": "title", "title": item.get("title")}
    yield {"type": "select", "id": item.get("current")}


def _pairs(history: list[Any]) -> Iterator[Record]:
    """``[[question, answer], …]``, as `model.chat` of the published code takes and returns it."""
    for pair in history:
        if isinstance(pair, list):
            for role, text in zip(("user", "assistant"), pair, strict=False):
                if isinstance(text, str):
                    yield {"type": "message", "role": role, "text": text}


def _chat_messages(item: Mapping[str, Any]) -> Iterator[Record]:
    """``{"messages": [{"role", "content"}, …]}``."""
    yield {"type": "title", "title": item.get("title")}
    for message in item["messages"]:
        if isinstance(message, dict):
            role, text = _ROLES.get(str(message.get("role"))), _text(message.get("content"))
            if role and text:
                yield {"type": "message", "role": role, "text": text}


def _chatgpt(item: Mapping[str, Any]) -> Iterator[Record]:
    """One conversation of ChatGPT's ``conversations.json``: the tree is in ``mapping``."""
    yield {"type": "conversation", "created": _time(item.get("create_time"))}

    def convert(node: Mapping[str, Any]) -> Record | None:
        message = node.get("message")
        if not isinstance(message, dict):
            return None
        about = message.get("metadata")
        about = about if isinstance(about, dict) else {}
        author = message.get("author")
        role = _ROLES.get(str(author.get("role"))) if isinstance(author, dict) else None
        text = _chatgpt_text(message.get("content"))
        if not role or not text or about.get("is_visually_hidden_from_conversation"):
            return None
        return _message(role, text, message.get("create_time"), about.get("model_slug"))

    kept, records = _walk(item["mapping"], "parent", "children", convert)
    yield from records
    yield {"type": "title", "title": item.get("title")}
    yield {"type": "select", "id": kept.get(str(item.get("current_node")))}


def _open_webui(item: Mapping[str, Any]) -> Iterator[Record]:
    """One conversation of Open WebUI's export: ``chat.history.messages`` is the tree."""
    chat = item["chat"]
    yield {"type": "conversation", "created": _time(item.get("created_at") or chat.get("timestamp"))}
    history = chat.get("history")
    if isinstance(history, dict) and isinstance(history.get("messages"), dict):

        def convert(node: Mapping[str, Any]) -> Record | None:
            role, text = _ROLES.get(str(node.get("role"))), _text(node.get("content"))
            model = node.get("modelName") or node.get("model")
            return _message(role, text, node.get("timestamp"), model) if role and text else None

        kept, records = _walk(history["messages"], "parentId", "childrenIds", convert)
        yield from records
        yield {"type": "select", "id": kept.get(str(history.get("currentId")))}
    elif isinstance(chat.get("messages"), list):
        yield from _chat_messages(chat)
    yield {"type": "title", "title": item.get("title") or chat.get("title")}


def _walk(
    nodes: Mapping[str, Any],
    parent_key: str,
    children_key: str,
    convert: Callable[[Mapping[str, Any]], Record | None],
) -> tuple[dict[str, str | None], list[Record]]:
    """Go through a foreign tree from its roots, each node once.

    Returns:
        For each node the id of the message it became, or of the nearest one before it; and the records.
    """
    kept: dict[str, str | None] = {}
    records: list[Record] = []
    known = {id_: node for id_, node in nodes.items() if isinstance(node, dict)}
    waiting = [id_ for id_, node in known.items() if node.get(parent_key) not in known][::-1]
    while waiting:
        id_ = waiting.pop()
        node = known[id_]
        before = kept.get(str(node.get(parent_key)))
        record = convert(node)
        kept[id_] = id_ if record else before
        if record:
            records.append({**record, "id": id_, "parent": before})
        children = node.get(children_key)
        if isinstance(children, list):
            waiting += [c for c in reversed(children) if isinstance(c, str) and c in known and c not in kept]
    return kept, records


def _message(role: str, text: str, time: object, model: object) -> Record:
    meta = {"model": model} if isinstance(model, str) and model and role == "assistant" else {}
    return {"type": "message", "role": role, "text": text, "time": _time(time), "meta": meta}


def _text(content: object) -> str:
    """Return the text of a message's content: a string, or parts of which some are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [
        part if isinstance(part, str) else part.get("text")
        for part in content
        if isinstance(part, str | dict)
    ]
    return "\n".join(part for part in parts if isinstance(part, str) and part)


def _chatgpt_text(content: object) -> str:
    if not isinstance(content, dict):
        return ""
    kind = content.get("content_type")
    if kind in ("text", "multimodal_text"):
        return _text(content.get("parts"))
    return _text(content.get("text")) if kind == "code" else ""


def _time(seconds: object) -> str | None:
    """Return seconds since 1970 as a record's time."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None

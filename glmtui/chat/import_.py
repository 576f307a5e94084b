"""Reading conversations that other programs wrote.

Each reader turns one conversation of a foreign format into records (`glmtui.chat.tree`); the tree mends what
is missing in them. The formats of ChatGPT and Open WebUI are not documented: what is read here was seen in
their exports. What is unknown in a message is left out.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import itertools
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import cached_property, reduce
from pathlib import Path, PurePosixPath
from typing import IO, Any

from glmtui.chat.attachments import FOLDER, Attachments
from glmtui.chat.conversation import Conversation
from glmtui.chat.files import SUFFIX, ConversationFile, Record, encode
from glmtui.chat.json_stream import JsonStream
from glmtui.chat.library import Library
from glmtui.chat.parts import encode_parts, join_parts, parts_of_text
from glmtui.errors import BadFileError, UserError
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
from glmtui.protocol.phrases import _
from glmtui.regular_files import RefusedFileError, open_regular, read_regular, reason, too_large
from glmtui.text.json_values import loads

MOST_BYTES = 2 << 30
"""Of the files with conversations, unpacked."""
MOST_OF_A_PART = 64 << 20
"""Bytes of a picture or document."""
FORMAT_NAME = "glmtui"
"""Marks glmtui's own JSON export."""
_ROLES: dict[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "human": "user",
    "gpt": "assistant",
    "tool": "tool",
    "function": "tool",
}
_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w=.-]+)*;base64,", re.IGNORECASE)
_FAR = 1e11
"""Seconds, in the year 5138."""
_ZIP = b"PK\x03\x04"
"""How archives begin."""
_POINTER = re.compile(r"(?:file-service|sediment)://")
_DETAILS = re.compile(
    r"""<details(?P<attributes>(?:\s+[\w-]+=(?:"[^"]*"|'[^']*'))*)\s*>\s*
    (?:<summary>.*?</summary>)?(?P<body>.*?)</details>\n?""",
    re.DOTALL | re.VERBOSE,
)
_CITATION = re.compile("\ue200[^\ue200\ue201]{0,500}\ue201")
"""How ChatGPT marks what a program of its own shows as a link."""
_ATTRIBUTE = re.compile(r"""([\w-]+)=(?:"([^"]*)"|'([^']*)')""")

Reader = Callable[[Mapping[str, Any], "_Files"], Iterator[Record]]


class Import:
    """A file of other conversations on its way into a library: iterate to bring them in, one after another.

    It may be a conversation file or JSON export of glmtui; the history ``[[question, answer], …]`` of the
    published ChatGLM demos; the export of ChatGPT (``conversations.json`` or its zip) or of Open WebUI;
    or the ``messages`` of an OpenAI-style request, also one a line. Images whose bytes are in the file, or in
    its folder, come along. A conversation or a file that is damaged costs itself alone. One that came in
    before, with the same content, is left out.

    Args:
        path: the file.
        library: where they go.
        advance: told what part of the file has been read, 0 to 1; what it raises ends the import, and what
            came in stays.
    """

    def __init__(
        self, path: Path, library: Library, advance: Callable[[float], None] = lambda _fraction: None
    ) -> None:
        self._path = path
        self._library = library
        self._advance = advance
        self.failures: list[UserError] = []
        """What could not be read."""
        self.known = 0
        """Conversations that had come in before."""

    def __iter__(self) -> Iterator[Conversation]:
        """Bring in and yield each conversation.

        Raises:
            UserError: the file cannot be read, or holds nothing that can be; or there is no room.
        """
        ids = self._library.ids()
        found = False
        for number, (records, attachments) in enumerate(self._read(), 1):
            try:
                with _reading(_("conversation {n} of {path}").format(n=number, path=self._path)):
                    kept = list(records)
                    id_ = hashlib.sha256(encode(kept)).hexdigest()[:16]
                    conversation = Conversation.from_records(kept, attachments, id_)
            except BadFileError as error:
                self.failures.append(error)
                continue
            if not conversation.messages:
                continue
            found = True
            if id_ in ids:
                self.known += 1
                continue
            ids.add(id_)
            conversation.keep_in(self._library.folder)
            yield conversation
        if not found:
            raise next(iter(self.failures), None) or BadFileError(
                _(
                    "{path} holds no conversation that glmtui can read. It reads its own files, "
                    "[[question, answer], …], and the JSON exports of ChatGPT and Open WebUI."
                ).format(path=self._path)
            )

    def _read(self) -> Iterator[tuple[Iterable[Record], Attachments]]:
        if self._path.suffix.lower() == SUFFIX:
            with contextlib.suppress(BadFileError):  # else a line each of another program
                yield ConversationFile(self._path).read().records, Attachments.next_to(self._path)
                return
        attachments = Attachments(self._library.folder / FOLDER)
        for records in _read(self._path, attachments, self.failures, self._advance):
            yield records, attachments


def import_file(path: Path, library: Library, failures: list[UserError] | None = None) -> list[Conversation]:
    """Bring the conversations of `path` into `library` and return them; as `Import`, all at once.

    What kept conversations, or files of an archive, from being read is added to `failures`.
    """
    job = Import(path, library)
    try:
        return list(job)
    finally:
        if failures is not None:
            failures += job.failures


def conversation_of_export(item: Mapping[str, Any]) -> Conversation:
    """Return the conversation in glmtui's own JSON export, in memory; its attachments are left out."""
    records = _own({**item, "attachments": None}, _Files(Path(), Attachments(None)))
    return Conversation.from_records(list(records))


class _Files:
    """Where readers put what belongs to messages, and the files that may lie next to the export."""

    def __init__(self, path: Path, attachments: Attachments, archive: zipfile.ZipFile | None = None) -> None:
        self.attachments = attachments
        self._path = path
        self._archive = archive

    def image(self, reference: str, name: str = "", media_type: str = "") -> Image:
        """Return an image by its data URI, or by the name or ChatGPT's pointer of a file in the export."""
        if match := _DATA_URI.match(reference):
            with contextlib.suppress(ValueError):
                decoded = base64.b64decode(reference[match.end() :])
                return self.attachments.image(decoded, media_type or match["type"] or "", name)
            return Image("", media_type or match["type"] or "", name)
        found, data = self.find(reference)
        if data is not None:
            return self.attachments.image(data, media_type, name or found)
        return Image("", media_type, name or reference[-200:])

    def document(self, name: str, content: object, size: object, reference: str = "") -> Attachment:
        """Return a text file with this content, or that of a file in the export, or without any."""
        if not isinstance(content, str):
            _found, data = self.find(reference)
            with contextlib.suppress(UnicodeDecodeError):
                content = data.decode() if data is not None else None
        if isinstance(content, str):
            return self.attachments.attach(name, content)
        return Attachment(name, "", size if type(size) is int and size >= 0 else 0)

    def find(self, reference: str) -> tuple[str, bytes | None]:
        """Return the name and the bytes of a file: ``sediment://file_1`` is that of ``file_1-cat.png``."""
        pointer = _POINTER.match(reference)
        stem = reference[pointer.end() :] if pointer else reference
        fitting = sorted(
            name
            for name in self._names
            if name == stem or (pointer and stem and name.startswith(stem) and name[len(stem)] in "-._")
        )
        for name in fitting:
            with contextlib.suppress(BadFileError):
                return name, self.read(self._names[name])
        return "", None

    def read(self, place: str) -> bytes:
        """Return the bytes of a file in the archive, or on disk. Raises BadFileError."""
        if self._archive is None:
            with _reading(place):
                return read_regular(Path(place), MOST_OF_A_PART)
        with _reading(self._path / place):
            if (size := self._archive.getinfo(place).file_size) > MOST_OF_A_PART:
                raise too_large(size, MOST_OF_A_PART)
            return self._archive.read(place)

    @cached_property
    def _names(self) -> dict[str, str]:
        """The files of the archive, or in the folder of the export and one below, by their last name."""
        if self._archive is not None:
            return {PurePosixPath(name).name: name for name in self._archive.namelist()}
        found: dict[str, str] = {}
        folders = [self._path.absolute().parent]
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        found.setdefault(entry.name, entry.path)
                    elif folder is folders[0] and entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
        return found


def _read(
    path: Path, attachments: Attachments, failures: list[UserError], advance: Callable[[float], None]
) -> Iterator[Iterable[Record]]:
    """Yield each conversation's records; what keeps a file from being read is added to `failures`."""
    with contextlib.ExitStack() as stack:
        with _reading(path):
            file = stack.enter_context(open_regular(path, MOST_BYTES))
            archive = stack.enter_context(zipfile.ZipFile(file)) if zipfile.is_zipfile(file) else None
            file.seek(0)
            if archive is None and file.read(len(_ZIP)) == _ZIP:
                raise RefusedFileError(_("it is an archive that is not complete"))
            file.seek(0)
            sizes = _members(archive) if archive else {str(path): os.fstat(file.fileno()).st_size}
            if (total := sum(sizes.values())) > MOST_BYTES:
                raise too_large(total, MOST_BYTES)
        files = _Files(path, attachments, archive)
        before = 0
        for name, size in sizes.items():
            place = path / name if archive else path
            try:
                with _reading(place):
                    part: IO[bytes] = stack.enter_context(archive.open(name)) if archive else file
                stream = JsonStream(_reader_of(part, place), _share(advance, before, total))
                yield from _conversations(stream.documents(), files)
            except BadFileError as error:
                failures.append(error)
            except UnicodeDecodeError:
                failures.append(BadFileError(_("{path} is not a text file").format(path=place)))
            except ValueError as error:
                failures.append(
                    BadFileError(_("{path} is not JSON: {error}.").format(path=place, error=error))
                )
            before += size


def _reader_of(part: IO[bytes], place: Path) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        with _reading(place):
            return part.read(most)

    return read


def _share(advance: Callable[[float], None], before: int, total: int) -> Callable[[int], None]:
    return lambda read: advance((before + read) / max(total, 1))


def _members(archive: zipfile.ZipFile) -> dict[str, int]:
    """Return the files with conversations in an archive, and how large they are unpacked."""
    return {
        info.filename: info.file_size
        for info in archive.infolist()
        if Path(info.filename).name.startswith("conversations") and info.filename.endswith(".json")
    }


@contextlib.contextmanager
def _reading(what: object) -> Iterator[None]:
    """Raise BadFileError whatever happens: damage shows as errors of zipfile, zlib, lzma, struct, …"""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise BadFileError(
            _("{path} cannot be read: {error}.").format(path=what, error=reason(error))
        ) from error


def _conversations(documents: Iterator[Any], files: _Files) -> Iterator[Iterable[Record]]:
    """Tell the formats apart and yield the records of each conversation in `documents`."""
    for document in documents:
        if isinstance(document, dict):
            if reader := _reader(document):
                yield reader(document, files)
            elif isinstance(history := document.get("history"), list):
                yield _pairs(history)
        elif isinstance(document, Iterator):
            first = next(document, None)
            items = itertools.chain([first], document)
            if isinstance(first, list):
                yield _pairs(items)
            elif isinstance(first, dict) and "role" in first:
                yield _chat_messages({"messages": list(items)}, files)
            else:
                for item in items:
                    if isinstance(item, dict) and (reader := _reader(item)):
                        yield reader(item, files)


def _reader(item: Mapping[str, Any]) -> Reader | None:
    if item.get("format") == FORMAT_NAME:
        return _own
    if isinstance(item.get("mapping"), dict):
        return _chatgpt
    if isinstance(item.get("chat"), dict):
        return _open_webui
    return _chat_messages if isinstance(item.get("messages"), list) else None


def _own(item: Mapping[str, Any], files: _Files) -> Iterator[Record]:
    for content in _dict(item.get("attachments")).values():
        with contextlib.suppress(ValueError):
            files.attachments.put(base64.b64decode(_str(content)))
    yield {"type": "conversation", "created": item.get("created")}
    for message in _dicts(item.get("messages")):
        yield {**message, "type": "message"}
    yield {"type": "settings", "values": item.get("settings")}
    yield {"type": "title", "title": item.get("title")}
    yield {"type": "select", "id": item.get("current")}


def _pairs(history: Iterable[Any]) -> Iterator[Record]:
    """``[[question, answer], …]``, as `model.chat` of the published code takes and returns it."""
    for pair in history:
        if isinstance(pair, list):
            for role, text in zip(("user", "assistant"), pair, strict=False):
                if isinstance(text, str):
                    yield {"type": "message", "role": role, "text": text}


# --- OpenAI ---


def _chat_messages(item: Mapping[str, Any], files: _Files) -> Iterator[Record]:
    """``{"messages": [{"role", "content"}, …]}``."""
    yield {"type": "title", "title": item.get("title")}
    yield from _in_order(item["messages"], _openai_parts, files)


def _openai_parts(role: Role, message: Mapping[str, Any], files: _Files) -> tuple[Part, ...]:
    content = _content(role, message.get("content"), files)
    if role == "tool":
        return _result(_str(message.get("tool_call_id")), _str(message.get("name")), content)
    thought = _str(message.get("reasoning_content")) or _str(message.get("reasoning"))
    calls = [
        ToolCall(_str(call.get("id")), _str(asked.get("name")), _json_text(asked.get("arguments")))
        for call in _dicts(message.get("tool_calls"))
        if (asked := _dict(call.get("function")))
    ]
    return (*_thoughts(thought), *content, *calls)


def _content(role: Role, content: object, files: _Files) -> tuple[Part, ...]:
    """Return the parts of a message's content: a string, or a list of texts and images."""
    if isinstance(content, str):
        return parts_of_text(role, content)
    parts: list[Part] = []
    for item in content if isinstance(content, list) else ():
        if isinstance(item, str):
            parts.append(Text(item))
        elif isinstance(item, dict) and item.get("type") in ("image_url", "input_image"):
            url = item.get("image_url")
            if reference := _str(url) or _str(_dict(url).get("url")):
                parts.append(files.image(reference))
        elif isinstance(item, dict):
            parts.append(Text(_str(item.get("text"))))
    return _joined(parts)


# --- ChatGPT ---


def _chatgpt(item: Mapping[str, Any], files: _Files) -> Iterator[Record]:
    """One conversation of ChatGPT's ``conversations.json``: the tree is in ``mapping``."""
    yield {"type": "conversation", "created": _time(item.get("create_time"))}
    nodes = item["mapping"]
    thoughts: dict[str, tuple[Part, ...]] = {}
    """What was thought before a node, where the node is to have it."""

    def convert(node: Mapping[str, Any]) -> Record | None:
        message, parent = _dict(node.get("message")), str(node.get("parent"))
        about, author = _dict(message.get("metadata")), _dict(message.get("author"))
        role = _role(author)
        before = thoughts.pop(parent, ())
        if not role or about.get("is_visually_hidden_from_conversation"):
            thoughts[str(node.get("id"))] = before
            return None
        if role == "tool":
            parts = _result(parent, _str(author.get("name")), _chatgpt_parts(role, message, files))
        else:
            parts = before + _chatgpt_parts(role, message, files)
        if parts and all(isinstance(part, Thought) for part in parts) and _answered(nodes, node):
            thoughts[str(node.get("id"))] = parts
            return None
        return _message(role, parts, message.get("create_time"), about.get("model_slug"))

    kept, records = _walk(nodes, "parent", "children", convert)
    yield from records
    yield {"type": "title", "title": item.get("title")}
    yield {"type": "select", "id": kept.get(str(item.get("current_node")))}


def _answered(nodes: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    """Whether the first node after `node` goes on with the same answer."""
    children = node.get("children")
    first = _dict(nodes.get(str(children[0]))) if isinstance(children, list) and children else {}
    author = _dict(_dict(first.get("message")).get("author"))
    return author.get("role") == "assistant" and first.get("parent") == node.get("id")


def _chatgpt_parts(role: Role, message: Mapping[str, Any], files: _Files) -> tuple[Part, ...]:
    content, about = _dict(message.get("content")), _dict(message.get("metadata"))
    attached = {_str(file.get("id")): file for file in _dicts(about.get("attachments"))}
    parts: list[Part] = []
    match content.get("content_type"):
        case "code" if (_str(message.get("recipient")) or "all") == "all":
            language = _str(content.get("language"))
            language = "" if language == "unknown" else language
            return (Text(f"```{language}\n{_str(content.get('text'))}\n```"),)
        case "text" | "multimodal_text":
            for item in _list(content.get("parts")):
                pointer = _str(_dict(item).get("asset_pointer"))
                if pointer and _dict(item).get("content_type") == "image_asset_pointer":
                    file = attached.pop(pointer.rpartition("/")[2], {})
                    parts.append(files.image(pointer, _str(file.get("name")), _type_of(file)))
                else:
                    written = _str(item) or _str(_dict(item).get("text"))
                    parts.append(Text(_CITATION.sub("", written)))
        case "thoughts":
            said = [
                "\n".join(filter(None, (_str(thought.get("summary")), _str(thought.get("content")))))
                for thought in _dicts(content.get("thoughts"))
            ]
            return _thoughts("\n\n".join(filter(None, said)))
        case "reasoning_recap":  # how long it took
            return ()
        case "tether_quote":
            keys = ("title", "text", "url")
            title, text, url = (_str(content.get(key)) for key in keys)
            return (Source(1, title, text, url),)
        case _:
            keys = ("text", "result", "summary")
            parts.append(Text(next(filter(None, (_str(content.get(key)) for key in keys)), "")))
    parts += [
        files.document(_str(file.get("name")), None, file.get("size"), f"sediment://{id_}")
        for id_, file in attached.items()
        if not _type_of(file).startswith("image/")
    ]
    recipient = _str(message.get("recipient")) or "all"
    if role == "assistant" and recipient != "all" and (arguments := text_of(parts)):
        return (ToolCall(_str(message.get("id")), recipient, arguments),)
    joined = _joined(parts)
    return parts_of_text(role, joined[0].text) if len(joined) == 1 and isinstance(joined[0], Text) else joined


def _type_of(file: Mapping[str, Any]) -> str:
    return _str(file.get("mime_type")) or _str(file.get("mimeType"))


# --- Open WebUI ---


def _open_webui(item: Mapping[str, Any], files: _Files) -> Iterator[Record]:
    """One conversation of Open WebUI's export: ``chat.history.messages`` is the tree."""
    chat = item["chat"]
    yield {"type": "conversation", "created": _time(item.get("created_at") or chat.get("timestamp"))}
    history = chat.get("history")
    if isinstance(history, dict) and isinstance(history.get("messages"), dict):

        def convert(node: Mapping[str, Any]) -> Record | None:
            role = _role(node)
            parts = _open_webui_parts(role, node, files) if role else ()
            model = node.get("modelName") or node.get("model")
            return _message(role, parts, node.get("timestamp"), model) if role else None

        kept, records = _walk(history["messages"], "parentId", "childrenIds", convert)
        yield from records
        yield {"type": "select", "id": kept.get(str(history.get("currentId")))}
    else:
        yield from _in_order(chat.get("messages"), _open_webui_parts, files)
    yield {"type": "title", "title": item.get("title") or chat.get("title")}


def _open_webui_parts(role: Role, message: Mapping[str, Any], files: _Files) -> tuple[Part, ...]:
    content = message.get("content")
    if role == "assistant" and isinstance(content, str) and "<details" in content:
        parts = list(_details(content))
    else:
        parts = list(_openai_parts(role, message, files)) or list(_outputs(message.get("output")))
    for file in _dicts(message.get("files")):
        inner, url = _dict(file.get("file")), _str(file.get("url"))
        name = _str(file.get("name")) or _str(inner.get("filename"))
        if file.get("type") == "image":
            parts.append(files.image(url, name))
        elif name:
            size = file.get("size") or _dict(inner.get("meta")).get("size")
            parts.append(files.document(name, _dict(inner.get("data")).get("content"), size))
    parts += _open_webui_sources(_dicts(message.get("sources") or message.get("citations")))
    return tuple(parts)


def _outputs(items: object) -> Iterator[Part]:
    """What newer versions keep of an answer besides its content: as in OpenAI's responses."""
    for item in _dicts(items):
        said, summary, output = (
            _str(value) or "".join(_str(part.get("text")) for part in _dicts(value))
            for value in map(item.get, ("content", "summary", "output"))
        )
        match item.get("type"):
            case "reasoning":
                yield from _thoughts(said or summary)
            case "function_call":
                call, name = _str(item.get("call_id")), _str(item.get("name"))
                yield ToolCall(call, name, _json_text(item.get("arguments")))
            case "function_call_output":
                yield ToolResult(_str(item.get("call_id")), output)
            case _ if said:
                yield Text(said)


def _open_webui_sources(cited: Iterable[Mapping[str, Any]]) -> Iterator[Source]:
    """Its answers number the documents in the order in which they first occur."""
    numbers: dict[str, int] = {}
    for each in cited:
        source = _dict(each.get("source"))
        abouts = _list(each.get("metadata"))
        for place, text in enumerate(_list(each.get("document"))):
            about = _dict(abouts[place]) if place < len(abouts) else {}
            origin = _str(about.get("source")) or _str(source.get("url"))
            key = origin or _str(source.get("id"))
            page = about.get("page")
            yield Source(
                number=numbers.setdefault(key, len(numbers) + 1),
                title=_str(source.get("name")) or _str(about.get("name")),
                text=_str(text),
                origin=origin,
                place=str(page) if isinstance(page, int | str) else "",
            )


def _details(content: str) -> Iterator[Part]:
    """Take apart an answer with ``<details type="reasoning">`` and ``<details type="tool_calls">`` in it."""
    position = 0
    for match in _DETAILS.finditer(content):
        found = {
            name: html.unescape(double or single)
            for name, double, single in _ATTRIBUTE.findall(match["attributes"])
        }
        body = html.unescape(match["body"]).strip()
        parts: list[Part]
        if found.get("type") == "reasoning":
            lines = (line.removeprefix(">").removeprefix(" ") for line in body.split("\n"))
            parts = list(_thoughts("\n".join(lines)))
        elif found.get("type") == "tool_calls":
            id_, name = found.get("id", ""), found.get("name", "")
            parts = [ToolCall(id_, name, _plain(found.get("arguments", "")))]
            if result := _plain(found.get("result", "") or body):
                parts.append(ToolResult(id_, result, name))
        else:
            continue  # it stays in the text
        if text := content[position : match.start()].strip("\n"):
            yield Text(text)
        yield from parts
        position = match.end()
    if text := content[position:].strip("\n"):
        yield Text(text)


def _plain(value: str) -> str:
    """Return what a JSON string says, and any other JSON as it is."""
    try:
        found = loads(value)
    except ValueError:
        return value
    return found if isinstance(found, str) else value


# --- all ---


def _in_order(
    messages: object, parts_of: Callable[[Role, Mapping[str, Any], _Files], tuple[Part, ...]], files: _Files
) -> Iterator[Record]:
    for message in _dicts(messages):
        role = _role(message)
        if role and (parts := parts_of(role, message, files)):
            yield {"type": "message", "role": role, **encode_parts(role, parts)}


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
    roots = [id_ for id_, node in known.items() if str(node.get(parent_key)) not in known]
    pending = [*roots, *known][::-1]  # at last those that no root leads to
    while pending:
        id_ = pending.pop()
        if id_ in kept:
            continue
        node = known[id_]
        before = kept.get(str(node.get(parent_key)))
        record = convert({**node, "id": id_})
        kept[id_] = id_ if record else before
        if record:
            records.append({**record, "id": id_, "parent": before})
        children = node.get(children_key)
        if isinstance(children, list):
            pending += [child for child in reversed(children) if isinstance(child, str) and child in known]
    return kept, records


def _message(role: Role, parts: Sequence[Part], time: object, model: object) -> Record | None:
    if not parts:
        return None
    meta = {"model": model} if isinstance(model, str) and model and role == "assistant" else {}
    return {"type": "message", "role": role, **encode_parts(role, parts), "time": _time(time), "meta": meta}


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Join texts that follow each other, a line each; empty ones are left out."""
    kept = [(part,) for part in parts if not isinstance(part, Text) or part.text]
    return reduce(join_parts, kept, ())


def _result(call_id: str, name: str, content: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return what a tool said: its text as a result, before what else there is."""
    text = text_of(content)
    rest = tuple(part for part in content if not isinstance(part, Text))
    return (
        *((ToolResult(call_id, text, name),) if text else ()),
        *rest,
    )


def _thoughts(text: str) -> tuple[Part, ...]:
    text = text.strip()
    return (Thought(text),) if text else ()


def _json_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _role(message: Mapping[str, Any]) -> Role | None:
    return _ROLES.get(str(message.get("role")))


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _time(value: object) -> str | None:
    """Return seconds since 1970 as a record's time; some write milliseconds, or less."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    seconds = float(value)
    while abs(seconds) > _FAR:
        seconds /= 1000
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return None

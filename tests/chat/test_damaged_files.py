"""Every format that is read, mutated: bytes flipped, records doubled, values of wrong type, cut, deep, huge.

Reading gives something, or the typed error, and nothing else; what was damaged is left as it is. By hand:
``GLMTUI_DAMAGED=100000 pytest tests/chat/test_damaged_files.py`` tries so many of all formats together.
"""

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glmtui.chat.conversation import Conversation
from glmtui.chat.export import FORMATS, export, import_file
from glmtui.chat.library import Library
from glmtui.chat.state_log import Drafts, PromptHistory, QueuedMessages
from glmtui.errors import UserError
from glmtui.session.themes import titles
from glmtui.session.workspace import Workspace
from glmtui.settings.settings import SCHEMA, Settings
from glmtui.tui import themes

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("GLMTUI_DAMAGED", "600"))

DIGEST = "ab" * 32
TIME = "2026-01-01T00:00:00.000+00:00"
CONVERSATION: list[dict[str, Any]] = [
    {"type": "conversation", "version": 2, "id": "c1", "created": TIME},
    {"type": "message", "id": "u1", "parent": None, "role": "user", "text": "你好 **hi**", "time": TIME,
     "parts": [{"type": "text"}, {"type": "attachment", "name": "a.txt", "sha256": DIGEST, "nbytes": 3}]},
    {"type": "message", "id": "a1", "parent": "u1", "role": "assistant", "text": "", "time": TIME,
     "state": "partial", "meta": {"model": "glm", "tokens": 3, "tokens_per_second": 1.5}},
    {"type": "extend", "id": "a1", "at": 0, "text": "<think>hm"},
    {"type": "extend", "id": "a1", "at": 2, "part": "thought", "text": "more"},
    {"type": "finish", "id": "a1", "text": "answer", "state": "done", "meta": {"tokens": 5}},
    {"type": "message", "id": "a2", "parent": "u1", "role": "tool", "text": "r", "time": TIME,
     "parts": [{"type": "tool_result", "call_id": "1", "text": "r"}, {"type": "image", "sha256": DIGEST}]},
    {"type": "select", "id": "a1"},
    {"type": "delete", "id": "a2"},
    {"type": "undelete", "id": "a2"},
    {"type": "title", "title": "一个标题"},
    {"type": "pin", "pinned": True},
    {"type": "settings", "values": {"generation.temperature": 0.5, "generation.system_prompt": "s"}},
]  # fmt: skip
CHATGPT = [
    {"title": "T", "create_time": 1.7e9, "current_node": "n2", "mapping": {
        "n0": {"message": None, "parent": None, "children": ["n1"]},
        "n1": {"parent": "n0", "children": ["n2"], "message": {
            "author": {"role": "user"}, "create_time": 1.7e9, "content": {
                "content_type": "multimodal_text",
                "parts": ["q", {"content_type": "image_asset_pointer", "asset_pointer": "sediment://f1"}]},
            "metadata": {"attachments": [{"id": "f2", "name": "x.txt", "size": 3}]}}},
        "n2": {"parent": "n1", "children": [], "message": {
            "author": {"role": "assistant"}, "content": {"content_type": "code", "text": "a"},
            "metadata": {"model_slug": "m"}, "recipient": "all"}}}},
]  # fmt: skip
OPEN_WEBUI = [
    {"title": "T", "created_at": 1700000000, "chat": {"history": {"currentId": "2", "messages": {
        "1": {"parentId": None, "childrenIds": ["2"], "role": "user", "content": "q", "timestamp": 1.7e9,
              "files": [{"type": "image", "url": "data:image/png;base64,AAAA", "name": "p"}]},
        "2": {"parentId": "1", "childrenIds": [], "role": "assistant", "model": "m",
              "content": '<details type="reasoning"><summary>s</summary>> hm</details>a',
              "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}],
              "sources": [{"source": {"name": "s"}, "document": ["d"], "metadata": [{"source": "u"}]}]}}}}},
]  # fmt: skip
MESSAGES = {"messages": [
    {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image_url", "image_url": "x"}]},
    {"role": "assistant", "content": "a", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
]}  # fmt: skip
OWN = {"format": "glmtui", "title": "T", "created": TIME, "current": "u1",
       "settings": {}, "messages": CONVERSATION[1:3], "attachments": {DIGEST: "AAAA"}}  # fmt: skip
SETTINGS = (
    '[ui]\ntheme = "paper"\nlanguage = "auto"\n[generation]\ntemperature = 0.5\nmax_length = 2048\n'
    'seed = 5\n[keys]\n"chat.stop" = "escape"\n[presets.mine]\ntop_p = 0.5\ntop_k = 4\n'
)
THEME = (
    'name = "x"\ndark = true\n[colors]\nprimary = "#ff0000"\npanel = "red 50%"\n'
    '[variables]\ntext-muted = "#888888"\n'
)


def lines(*records: object) -> bytes:
    return b"\n".join(json.dumps(record, ensure_ascii=False).encode() for record in records) + b"\n"


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", data)
        archive.writestr("f1-cat.png", b"\x89PNG\r\n\x1a\n")
    return out.getvalue()


def process(number: object) -> dict[str, object]:
    return {"id": "c1", "waiting": {"process": [number, 1.5], "items": [{"text": "hi", "edits": "u1"}]}}


DRAFT = {
    "id": "c1",
    "text": "half a",
    "parts": [{"type": "attachment", "name": "a"}],
    "edits": "u1",
    "place": 1,
}


def read_conversation(path: Path) -> None:
    folder = path.parent / "conversations"
    folder.mkdir(exist_ok=True)
    file = folder / "x.jsonl"
    shutil.copy(path, file)
    library = Library(folder, cache=path.parent / "cache")
    library.refresh()
    for summary in library.list():
        assert f"{summary.updated:%Y}{summary.title}".encode()
    list(library.search("hi"))
    conversation = library.open(file)
    assert conversation.created
    for name in FORMATS:
        export(conversation, name).encode()
    conversation.messages_for_model()
    effective(conversation)
    library.save_as(conversation, path.parent / "copy.jsonl", overwrite=True)
    Conversation.open(path.parent / "copy.jsonl")
    conversation.append("user", "still there")
    assert Conversation.open(file).branch()[-1].text == "still there"


def effective(conversation: Conversation) -> None:
    loaded = Settings(Path("nowhere"))
    for setting in SCHEMA:
        loaded.effective(setting.key, conversation.settings)
    loaded.sampling(conversation.settings)


def read_import(path: Path) -> None:
    library = Library(path.parent / "imported", cache=path.parent / "cache")
    for conversation in import_file(path, library):
        for name in FORMATS:
            export(conversation, name).encode()
        conversation.messages_for_model()


def read_state(path: Path) -> None:
    for id_ in ("c1", ""):
        Drafts(path).get(id_)
        QueuedMessages(path).get(id_)
    prompts = PromptHistory(path)
    prompts.add("new")
    assert prompts.entries()[-1] == "new"


def read_last(path: Path) -> None:
    workspace = Workspace()
    workspace._last = path
    workspace.last_open()


def read_settings(path: Path) -> None:
    loaded = Settings.load(path)
    assert all(str(problem).encode() for problem in loaded.problems)
    assert loaded.sampling()
    assert loaded.model_spec()
    assert loaded.presets
    with contextlib.suppress(UserError):
        loaded.set("generation.top_p", 0.25)
    assert loaded["generation.top_p"] == 0.25


def read_theme(path: Path) -> None:
    folder = path.parent / "themes"
    folder.mkdir(exist_ok=True)
    shutil.copy(path, folder / "x.toml")
    for file in themes.load(folder).themes.values():
        file.theme.to_color_system().generate()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("glmtui.paths.user_themes_dir", lambda: folder)
        titles()


def read_index(path: Path) -> None:
    """The file is ``entries.jsonl`` or ``text.bin``, damaged; no search may see that."""
    folder = path.parent / "indexed"
    if not folder.exists():
        folder.mkdir()
        (folder / "x.jsonl").write_bytes(lines(*CONVERSATION))
    shutil.rmtree(path.parent / "kept", ignore_errors=True)
    Library(folder, cache=path.parent / "kept").refresh()
    (damaged,) = (path.parent / "kept").rglob(path.name)
    damaged.write_bytes(path.read_bytes())
    library = Library(folder, cache=path.parent / "kept")
    assert [summary.title for summary in library.list()] == ["一个标题"]
    assert [hit.message_id for hit in library.search("answer")] == ["a1"]
    assert library.search("nowhere") == []


def index_of(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "indexed"
        folder.mkdir()
        (folder / "x.jsonl").write_bytes(lines(*CONVERSATION))
        Library(folder, cache=Path(home) / "cache").refresh()
        (path,) = (Path(home) / "cache").rglob(name)
        return path.read_bytes()


FORMATS_READ: dict[str, tuple[Callable[[], bytes], Callable[[Path], None]]] = {
    "x.jsonl": (lambda: lines(*CONVERSATION), read_conversation),
    "chatgpt.json": (lambda: json.dumps(CHATGPT).encode(), read_import),
    "chatgpt.zip": (lambda: zipped(json.dumps(CHATGPT).encode()), read_import),
    "webui.json": (lambda: json.dumps(OPEN_WEBUI).encode(), read_import),
    "messages.jsonl": (lambda: lines(MESSAGES, MESSAGES), read_import),
    "own.json": (lambda: json.dumps(OWN).encode(), read_import),
    "pairs.json": (lambda: b'[["q", "a"], ["q", null]]', read_import),
    "ours.jsonl": (lambda: lines(*CONVERSATION), read_import),
    "state.jsonl": (lambda: lines({"text": "hi"}, process(1), DRAFT, {"id": "", "text": "x"}), read_state),
    "last-conversation": (lambda: b"/tmp/x.jsonl", read_last),
    "config.toml": (SETTINGS.encode, read_settings),
    "theme.toml": (THEME.encode, read_theme),
    "entries.jsonl": (lambda: index_of("entries.jsonl"), read_index),
    "text.bin": (lambda: index_of("text.bin"), read_index),
}
ODD = [
    b"null", b"true", b"[]", b"{}", b'""', b"0", b"-1", b"NaN", b"Infinity", b"1e999", b"-1e18", b"9" * 400,
    b"9" * 5000, b'"\\ud800"', b'"\\u0000"', b'"\\u001b]52;c;AA\\u0007"', b"[" * 200 + b"]" * 200,
    b"[" * 985 + b"]" * 985, b"[" * 100_000, b'{"a":' * 985 + b"1" + b"}" * 985,
    b'"9999-12-31T23:59:59-12:00"',
    b'"0001-01-01T00:00:00+14:00"', b'"' + b"x" * 10_000 + b'"', b"inf", b"\xff\xfe", b"\xe2\x80\xa8",
]  # fmt: skip


def mutated(data: bytes, dice: random.Random) -> bytes:
    """One to three changes of the kinds that crashes, other programs and bad will make."""
    for _change in range(dice.randint(1, 3)):
        at, end = sorted(dice.randrange(len(data) + 1) for _ in range(2))
        match dice.randrange(8):
            case 0 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at]
            case 2:
                data = data[:end] + data[at:]  # something twice
            case 3:
                data = data[:at] + data[end:]
            case 4:
                data = data[:at] + dice.choice(ODD) + data[at:]
            case 5:
                whole = data.split(b"\n")
                whole.insert(dice.randrange(len(whole) + 1), dice.choice(whole))
                dice.shuffle(whole)
                data = b"\n".join(whole)
            case _:  # another value in the place of one
                marks = [n for n in range(len(data)) if data[n : n + 1] in (b":", b"=")]
                if marks:
                    at = dice.choice(marks) + 1
                    ends = [n for n in (data.find(mark, at) for mark in (b",", b"}", b"\n")) if n >= 0]
                    data = data[:at] + b" " + dice.choice(ODD) + data[min(ends, default=len(data)) :]
    return data


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("GLMTUI_HOME", folder)
        yield


@pytest.mark.timeout(0 if EXAMPLES > 10_000 else 120)
@pytest.mark.parametrize("name", FORMATS_READ)
@pytest.mark.usefixtures("home")
def test_damage_gives_something_or_the_typed_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)  # none of this is to be kept
    make, read = FORMATS_READ[name]
    whole = make()

    @settings(
        max_examples=max(EXAMPLES // len(FORMATS_READ), 1),
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**63))
    def one(seed: int) -> None:
        data = mutated(whole, random.Random(seed))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            with contextlib.suppress(UserError):
                read(path)
            if read not in (read_state, read_settings):
                assert path.read_bytes() == data

    one()


def test_each_format_is_read_where_nothing_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    for name, (make, read) in FORMATS_READ.items():
        (tmp_path / name).write_bytes(make())
        read(tmp_path / name)

"""Writing for others and reading what others wrote."""

import base64
import contextlib
import copy
import hashlib
import html
import json
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from glmtui.chat.conversation import Conversation
from glmtui.chat.export import FORMATS, export, free_path, import_file, known
from glmtui.chat.library import Library
from glmtui.errors import BadFileError, UserError
from glmtui.protocol.messages import (
    Attachment,
    Image,
    Part,
    Source,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)
from glmtui.text.clean import clean

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
PNG_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "conversations", cache=tmp_path / "cache")


def write(tmp_path: Path, document: object, name: str = "foreign.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return path


def sample() -> Conversation:
    conversation = Conversation()
    question = conversation.append("user", "怎么用 `int4`？\n<b>真的</b>")
    conversation.append("assistant", "**不知道**", meta={"model": "nano"})
    conversation.append("assistant", "**用（/quant 4）。**就行\n```python\nprint('<hi>')", parent=question.id)
    return conversation


def branch(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in conversation.branch()]


# --- export ---


@pytest.mark.parametrize(
    ("name", "expected"), [("", "md"), ("Markdown", "md"), (".HTM", "html"), ("json", "json")]
)
def test_formats_by_the_names_people_use(name: str, expected: str) -> None:
    assert known(name) == expected


def test_an_unknown_format_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"docx.*md, json, html, txt"):
        export(sample(), "docx")


def test_markdown_keeps_roles_and_closes_an_open_fence() -> None:
    text = export(sample(), "md")
    assert text.startswith(
        "# 怎么用 int4？\n\n## User\n\n怎么用 `int4`？\n<b>真的</b>\n\n## Assistant\n\n**用"
    )
    assert text.endswith("```python\nprint('<hi>')\n```\n")
    assert "不知道" not in text, "only the branch that is read"


def test_plain_text() -> None:
    assert export(sample(), "txt").startswith("怎么用 int4？\n\nUser:\n怎么用 `int4`？")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_escapes_renders_and_loads_nothing() -> None:
    conversation = sample()
    conversation.append(
        "user",
        "<script>alert(1)</script> ![x](http://evil/x.png) [y](javascript:alert(1)) "
        '"><img src=x onerror=alert(1)>',
    )
    conversation.rename("<title> & more")
    tags = Tags()
    page = export(conversation, "html")
    tags.feed(page)
    names = {name for name, _attributes in tags.seen}
    assert not names & {"script", "img", "link", "iframe", "b"}
    assert not any(
        value and "javascript" in value for _, attributes in tags.seen for value in attributes.values()
    )
    assert "<script>alert(1)</script>" in tags.text
    assert "<b>真的</b>" in tags.text
    assert "<strong>用（/quant 4）。</strong>就行" in page
    assert "print('<hi>')" in tags.text
    assert tags.text.count("<title> & more") == 2


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_can_be_exported(text: str) -> None:
    conversation = Conversation()
    conversation.append("user", text)
    for name in FORMATS:
        assert export(conversation, name).encode()


def test_names_of_exported_files_keep_chinese_and_overwrite_nothing(tmp_path: Path) -> None:
    first = free_path(sample(), "markdown", tmp_path)
    assert first == tmp_path / "怎么用-int4.md"
    first.touch()
    assert free_path(sample(), "md", tmp_path).name == "怎么用-int4-2.md"
    assert free_path(Conversation(), "txt", tmp_path).suffix == ".txt"


# --- round trips ---


def everything(conversation: Conversation) -> object:
    messages = [m for m in conversation.messages.values() if not conversation.is_deleted(m.id)]
    return (
        conversation.title,
        dict(conversation.settings),
        conversation.created,
        messages,
        conversation.branch(),
    )


def test_json_comes_back_with_all_branches(tmp_path: Path, library: Library) -> None:
    conversation = sample()
    first = conversation.branch()[0].id
    hidden = conversation.append("user", "deleted", parent=None)
    conversation.delete(hidden.id)
    conversation.select(list(conversation.messages)[1])
    conversation.configure({"generation.top_p": 0.3})
    path = tmp_path / "导出.json"
    path.write_text(export(conversation, "json"), encoding="utf-8")
    (imported,) = import_file(path, library)
    assert everything(imported) == everything(conversation)
    assert len(imported.siblings(imported.messages[first].id)) == 1
    assert imported.id != conversation.id
    assert imported.path is not None
    assert imported.path.parent == library.folder
    assert everything(Conversation.open(imported.path)) == everything(conversation)


def test_a_conversation_file_comes_back_whole(tmp_path: Path, library: Library) -> None:
    conversation = sample()
    conversation.delete(list(conversation.messages)[1])
    library.save_as(conversation, tmp_path / "copy.jsonl")
    (imported,) = import_file(tmp_path / "copy.jsonl", library)
    assert list(imported.messages.values()) == list(conversation.messages.values())
    assert imported.branch() == conversation.branch()


# --- import ---


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_history_of_the_published_demos(tmp_path: Path, library: Library, wrapped: bool) -> None:
    history = [["你好", "你好👋！"], ["晚上睡不着", None]]
    document = {"response": "…", "history": history, "status": 200} if wrapped else history
    (imported,) = import_file(write(tmp_path, document), library)
    assert branch(imported) == [("user", "你好"), ("assistant", "你好👋！"), ("user", "晚上睡不着")]


@pytest.mark.parametrize("wrapped", [False, True])
def test_openai_style_messages(tmp_path: Path, library: Library, wrapped: bool) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {}}]},
        {"role": "tool", "content": "{}"},
        {"role": "assistant", "content": "Hello"},
    ]
    (imported,) = import_file(write(tmp_path, {"messages": messages} if wrapped else messages), library)
    assert branch(imported) == [("system", "be brief"), ("user", "hi"), ("tool", ""), ("assistant", "Hello")]
    assert imported.branch()[2].parts == (ToolResult("", "{}"),)


def chatgpt_node(id_: str, parent: str | None, children: list[str], message: object) -> dict[str, Any]:
    return {"id": id_, "parent": parent, "children": children, "message": message}


def chatgpt_message(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "author": {"role": role},
        "create_time": 1_700_000_000.5,
        "content": {"content_type": "text", "parts": [text]},
        "metadata": {"model_slug": "gpt-4"},
        **more,
    }


def chatgpt() -> dict[str, Any]:
    nodes = [
        chatgpt_node("root", None, ["system"], None),
        chatgpt_node("system", "root", ["q"], chatgpt_message("system", "")),
        chatgpt_node("q", "system", ["a1", "a2"], chatgpt_message("user", "问题")),
        chatgpt_node("a1", "q", ["more"], chatgpt_message("assistant", "回答一")),
        chatgpt_node("a2", "q", ["tool"], chatgpt_message("assistant", "回答二")),
        chatgpt_node("tool", "a2", ["last"], chatgpt_message("tool", "result")),
        chatgpt_node(
            "last",
            "tool",
            [],
            chatgpt_message(
                "assistant", "", content={"content_type": "multimodal_text", "parts": [{"asset": 1}, "看图"]}
            ),
        ),
        chatgpt_node("more", "a1", [], chatgpt_message("user", "接着问")),
    ]
    return {
        "title": "一个标题",
        "create_time": 1_690_000_000,
        "mapping": {node["id"]: node for node in nodes},
        "current_node": "last",
    }


def test_chatgpt_with_its_branches(tmp_path: Path, library: Library) -> None:
    (imported,) = import_file(write(tmp_path, [chatgpt(), {"mapping": {}}]), library)
    assert imported.title == "一个标题"
    spoken = [said for said in branch(imported) if said[0] != "tool"]
    assert spoken == [("user", "问题"), ("assistant", "回答二"), ("assistant", "看图")]
    assert imported.messages["tool"].parts == (ToolResult("a2", "result"),)
    assert [message.text for message in imported.siblings("a1")] == ["回答一", "回答二"]
    assert imported.messages["a1"].meta["model"] == "gpt-4"
    assert imported.messages["a1"].time.timestamp() == 1_700_000_000.5
    assert imported.created.timestamp() == 1_690_000_000
    imported.select("more")
    assert branch(imported)[-1] == ("user", "接着问")


def test_chatgpts_whole_zip(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("user.json", "{}")
        archive.writestr(
            "conversations.json", json.dumps([chatgpt(), {**chatgpt(), "title": "two"}, chatgpt()])
        )
    assert len(import_file(path, library)) == 2
    assert len(library.list()) == 2


def test_a_chatgpt_tree_that_is_no_tree_ends(tmp_path: Path, library: Library) -> None:
    document = chatgpt()
    document["mapping"]["more"]["children"] = ["q", "nowhere", 3]
    document["mapping"]["odd"] = None
    document["current_node"] = None
    (imported,) = import_file(write(tmp_path, [document]), library)
    assert len(imported.messages) == 6


@pytest.mark.parametrize("with_tree", [True, False])
def test_open_webui(tmp_path: Path, library: Library, with_tree: bool) -> None:
    nodes = [
        {
            "id": "1",
            "parentId": None,
            "childrenIds": ["2", "3"],
            "role": "user",
            "content": "q",
            "timestamp": 17e8,
        },
        {"id": "2", "parentId": "1", "childrenIds": [], "role": "assistant", "content": "a", "model": "glm"},
        {
            "id": "3",
            "parentId": "1",
            "childrenIds": [],
            "role": "assistant",
            "content": "b",
            "modelName": "GLM 4",
        },
    ]
    chat: dict[str, Any] = {"title": "inner"}
    if with_tree:
        chat["history"] = {"messages": {node["id"]: node for node in nodes}, "currentId": "2"}
    else:
        chat["messages"] = nodes[:2]
    (imported,) = import_file(
        write(tmp_path, [{"title": "Web", "chat": chat, "created_at": 1_700_000_000}]), library
    )
    assert imported.title == "Web"
    assert branch(imported) == [("user", "q"), ("assistant", "a")]
    if with_tree:
        assert [message.meta.get("model") for message in imported.siblings("3")] == ["glm", "GLM 4"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b"3",
        b'[{"a": 1}]',
        b'{"messages": 3}',
        b'{"format": "glmtui"}',
        b"[" * 99_999,
    ],
)
def test_what_is_no_conversation_is_refused_by_name(tmp_path: Path, library: Library, content: bytes) -> None:
    path = tmp_path / "strange.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"strange\.json"):
        import_file(path, library)
    assert library.list() == []


def test_a_file_that_is_no_text_is_called_so(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "picture.json"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"picture\.json is not a text file"):
        import_file(path, library)


def test_a_missing_file_is_named(tmp_path: Path, library: Library) -> None:
    for name in ("gone.json", "gone.jsonl"):
        with pytest.raises(UserError, match=name):
            import_file(tmp_path / name, library)


KEYS = ["mapping", "chat", "messages", "history", "role", "content", "parent", "parentId", "children", "id"]
KEYS += ["message", "author", "parts", "content_type", "title", "create_time", "format", "text", "current"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner | st.sampled_from(["glmtui", "user", "assistant", "text"]),
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(JSON)
def test_any_json_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, document: object) -> None:
    folder = tmp_path_factory.mktemp("any")
    library = Library(folder / "c", cache=folder / "cache")
    with contextlib.suppress(UserError):
        assert all(conversation.messages for conversation in import_file(write(folder, document), library))
    assert len(library.list()) == len(list(library.folder.glob("*.jsonl")))


def test_nothing_exported_steers_a_terminal() -> None:
    evil = "a\x1b[31m\x1b]0;t\x07\x9b2J\x85\u2028\x07\u202eb"
    conversation = Conversation()
    attachments = conversation.attachments
    conversation.append(
        "user", (Text(evil), attachments.attach(evil, evil), attachments.image(PNG, name=evil))
    )
    shown = (Thought(evil), Text(evil), Source(1, evil, evil, evil, evil), ToolCall(evil, evil, evil))
    conversation.append("assistant", shown, meta={"model": evil})
    conversation.append("tool", (ToolResult(evil, evil, evil),))
    conversation.rename(evil)
    for name in ("md", "txt", "html"):
        text = export(conversation, name)
        assert clean(text) == text
        assert "[31m" not in text
    lines = export(conversation, "txt").split("\n")
    assert {"a b", "Image: a b", "Assistant (a b):", "[1] a b, a b, a b", "Call of a b"} <= set(lines)
    assert "> a\n>\n> b" in export(conversation, "md")


def test_a_thought_is_quoted_before_its_answer() -> None:
    conversation = Conversation()
    conversation.append("user", "Hi")
    conversation.append("assistant", "<think>\nwell\n\nso\n</think>\n\nHello")
    assert export(conversation, "md").endswith("> well\n>\n> so\n\nHello\n")
    assert "<blockquote>" in export(conversation, "html")


# --- parts ---


def with_parts() -> Conversation:
    conversation = Conversation()
    blobs = conversation.attachments
    notes = blobs.attach("no*tes.md", "a\n````\nb<b>\n", "/home/me/no*tes.md")
    conversation.append("user", (Text("read"), notes, blobs.image(PNG, name="cat.png")))
    conversation.append(
        "user", (blobs.image(SVG, "image/svg+xml", "x.svg"), Image("", "image/png", "gone.png"))
    )
    conversation.append(
        "assistant",
        (
            Thought("well\n\nso"),
            Text("**Look** [1]"),
            Source(1, "Manual", "Press <it>.", "https://a.example/b", "page 3"),
            ToolCall("c1", "weather", '{"city": "Oslo"}'),
        ),
        meta={"model": "m"},
    )
    conversation.append("tool", (ToolResult("c1", "sunny", "weather"),))
    conversation.append("assistant", "It is.")
    return conversation


def parts(conversation: Conversation) -> list[tuple[Part, ...]]:
    return [message.parts for message in conversation.branch()]


def test_markdown_shows_parts_in_fences_longer_than_any_inside() -> None:
    text = export(with_parts(), "md")
    assert "**no\\*tes.md**\n\n`````\na\n````\nb<b>\n`````\n\n![cat.png](data:image/png;base64," in text
    assert "> well\n>\n> so\n\n**Look** [1]\n\n**\\[1\\] Manual, page 3, https://a.example/b**" in text
    assert "```\nPress <it>.\n```" in text
    assert '**Call of weather**\n\n```\n{"city": "Oslo"}\n```' in text
    assert "## Tool\n\n**Result of weather**\n\n```\nsunny\n```\n\n## Assistant\n\nIt is.\n" in text


def test_plain_text_shows_parts() -> None:
    text = export(with_parts(), "txt")
    for shown in (
        "no*tes.md\na\n````\nb<b>",
        "Image: cat.png",
        "> well",
        "Press <it>.",
        "Result of weather\nsunny",
    ):
        assert shown in text


def test_html_folds_parts_and_embeds_images_but_no_scripts() -> None:
    page = export(with_parts(), "html")
    tags = Tags()
    tags.feed(page)
    names = [name for name, _attributes in tags.seen]
    assert names.count("details") == 4
    assert [attributes["src"] for name, attributes in tags.seen if name == "img"] == [PNG_URI]
    assert not {"script", "svg", "b", "it"} & set(names)
    assert "Image: x.svg" in tags.text
    assert "Image: gone.png" in tags.text
    assert "<details><summary>no*tes.md</summary><pre>a\n````\nb&lt;b&gt;\n</pre></details>" in page


def test_a_lost_attachment_is_exported_as_missing() -> None:
    conversation = Conversation()
    conversation.append("user", (Attachment("notes.txt", "ab" * 32, 3),))
    for name in ("md", "txt", "html"):
        assert "notes.txt (missing)" in export(conversation, name)
    assert json.loads(export(conversation, "json"))["attachments"] == {}


def test_one_json_file_holds_everything(tmp_path: Path, library: Library) -> None:
    conversation = with_parts()
    path = tmp_path / "all.json"
    path.write_text(export(conversation, "json"), encoding="utf-8")
    (imported,) = import_file(path, library)
    assert everything(imported) == everything(conversation)
    assert imported.attachments.text(imported.branch()[0].parts[1]) == "a\n````\nb<b>\n"  # type: ignore[arg-type]
    for sha256 in conversation.digests():
        assert imported.attachments.get(sha256) == conversation.attachments.get(sha256)
    assert imported.path is not None
    assert everything(Conversation.open(imported.path)) == everything(conversation)
    assert export(imported, "html") == export(conversation, "html")


def test_a_json_export_of_text_alone_is_as_before() -> None:
    document = json.loads(export(sample(), "json"))
    assert document["version"] == 1
    assert "attachments" not in document
    assert set(document["messages"][0]) == {"id", "parent", "role", "text", "time", "state", "meta"}


def test_parts_of_a_later_version_survive_the_json_export(tmp_path: Path, library: Library) -> None:
    later = {"type": "smell", "of": ["roses"]}
    conversation = Conversation.from_records([{"role": "user", "id": "a", "text": "q", "parts": [later]}])
    path = tmp_path / "all.json"
    path.write_text(export(conversation, "json"), encoding="utf-8")
    (imported,) = import_file(path, library)
    assert imported.branch()[0].unread == (later,)


def test_a_conversation_file_brings_its_attachments(tmp_path: Path, library: Library) -> None:
    elsewhere = Conversation.at(tmp_path / "elsewhere" / "talk.jsonl")
    notes = elsewhere.attachments.attach("notes.txt", "内容")
    elsewhere.append("user", (notes,))
    (imported,) = import_file(tmp_path / "elsewhere" / "talk.jsonl", library)
    assert imported.attachments.text(notes) == "内容"
    assert imported.attachments.path(notes.sha256).parent == library.folder / "attachments"


def test_openai_style_parts(tmp_path: Path, library: Library) -> None:
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what"},
                {"type": "image_url", "image_url": {"url": PNG_URI}},
                {"type": "text", "text": "is it?"},
                {"type": "image_url", "image_url": {"url": "https://a.example/cat.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "let me see",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        {"role": "assistant", "content": "<think>ok</think>A cat."},
    ]
    (imported,) = import_file(write(tmp_path, messages), library)
    digest = hashlib.sha256(PNG).hexdigest()
    assert parts(imported) == [
        (
            Text("what"),
            Image(digest, "image/png"),
            Text("\nis it?"),
            Image("", "", "https://a.example/cat.png"),
        ),
        (Thought("let me see"), ToolCall("c1", "f", '{"a": 1}')),
        (ToolResult("c1", "a cat"),),
        (Thought("ok"), Text("A cat.")),
    ]
    assert imported.attachments.get(digest) == PNG


def chatgpt_with_parts() -> dict[str, Any]:
    """Kinds of messages as they stand in exports of 2025 and 2026."""
    said: list[dict[str, Any]] = [
        chatgpt_message("system", "", metadata={"is_visually_hidden_from_conversation": True}),
        chatgpt_message(
            "user",
            "",
            content={
                "content_type": "multimodal_text",
                "parts": [
                    {
                        "content_type": "image_asset_pointer",
                        "asset_pointer": "sediment://file_0001",
                        "size_bytes": len(PNG),
                        "width": 1,
                        "height": 1,
                    },
                    {"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-gone"},
                    "what is it?",
                ],
            },
            metadata={
                "attachments": [
                    {"id": "file_0001", "name": "cat.png", "mime_type": "image/png", "size": len(PNG)},
                    {"id": "file_0002", "name": "notes.txt", "mime_type": "text/plain", "size": 3},
                    {"id": "file_0003", "name": "book.pdf", "mimeType": "application/pdf", "size": 9},
                ]
            },
        ),
        chatgpt_message(
            "assistant",
            "",
            content={
                "content_type": "thoughts",
                "thoughts": [
                    {"summary": "Looking", "content": "I look.", "chunks": [], "finished": True},
                    {"summary": "", "content": "I see."},
                ],
            },
        ),
        chatgpt_message(
            "assistant",
            "",
            id="call",
            content={"content_type": "code", "language": "unknown", "text": "print(1)"},
            recipient="python",
        ),
        chatgpt_message(
            "tool",
            "",
            author={"role": "tool", "name": "python"},
            content={"content_type": "execution_output", "text": "1"},
        ),
        chatgpt_message(
            "assistant", "", content={"content_type": "thoughts", "thoughts": [{"content": "Now I know."}]}
        ),
        chatgpt_message(
            "assistant", "", content={"content_type": "reasoning_recap", "content": "Thought for 5s"}
        ),
        chatgpt_message("assistant", "A cat."),
        chatgpt_message("user", "Sure?"),
        chatgpt_message(
            "assistant", "", content={"content_type": "thoughts", "thoughts": [{"content": "Hm"}]}
        ),
    ]
    names = [f"n{number}" for number in range(len(said))]
    names[3] = "call"
    mapping = {
        name: chatgpt_node(
            name, names[number - 1] if number else None, names[number + 1 : number + 2], said[number]
        )
        for number, name in enumerate(names)
    }
    return {"title": "T", "mapping": mapping, "current_node": names[-1]}


@pytest.mark.parametrize("zipped", [True, False])
def test_chatgpts_images_thoughts_and_tools(tmp_path: Path, library: Library, zipped: bool) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    write(folder, [chatgpt_with_parts()], "conversations.json")
    (folder / "user-1").mkdir()
    (folder / "user-1" / "file_0001-cat.png").write_bytes(PNG)
    (folder / "file_0002-notes.txt").write_bytes("内容".encode())
    (folder / "file_0003-book.pdf").write_bytes(b"%PDF\xff\xfe")
    path = folder / "conversations.json"
    if zipped:
        path = tmp_path / "export.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.rglob("*"):
                archive.write(file, str(file.relative_to(folder)))
    (imported,) = import_file(path, library)
    digest, notes = (hashlib.sha256(data).hexdigest() for data in (PNG, "内容".encode()))
    assert parts(imported) == [
        (
            Image(digest, "image/png", "cat.png"),
            Image("", "", "file-service://file-gone"),
            Text("what is it?"),
            Attachment("notes.txt", notes, 6),
            Attachment("book.pdf", "", 9),
        ),
        (Thought("Looking\nI look.\n\nI see."), ToolCall("call", "python", "print(1)")),
        (ToolResult("call", "1", "python"),),
        (Thought("Now I know."), Text("A cat.")),
        (Text("Sure?"),),
        (Thought("Hm"),),
    ]
    assert imported.attachments.get(digest) == PNG


def test_files_outside_the_folder_of_an_export_are_not_read(tmp_path: Path, library: Library) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "linked.png").symlink_to(tmp_path / "secret.png")
    urls = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "linked.png",
        "file://../secret.png",
        "",
        ".",
        "..",
    ]
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    (imported,) = import_file(write(folder, [{"role": "user", "content": content}]), library)
    assert [part.sha256 for part in imported.branch()[0].parts if isinstance(part, Image)] == [""] * 6
    assert not (library.folder / "attachments").exists()


def test_open_webuis_files_sources_thoughts_and_tools(tmp_path: Path, library: Library) -> None:
    arguments = html.escape(json.dumps(json.dumps({"city": "Oslo"})))
    answer = (
        '<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds</summary>\n'
        "&gt; let me &lt;see&gt;\n&gt; \n&gt; so\n</details>\n"
        f'<details type="tool_calls" done="true" id="c1" name="get_weather" arguments="{arguments}" '
        'result="&quot;Sunny&quot;" files="" embeds="">\n<summary>Tool Executed</summary>\n</details>\n'
        "It is sunny [1].\n"
        "<details><summary>more</summary>kept as text</details>"
    )
    nodes = {
        "1": {
            "id": "1",
            "parentId": None,
            "childrenIds": ["2"],
            "role": "user",
            "content": "weather?",
            "files": [
                {"type": "image", "url": PNG_URI},
                {
                    "type": "file",
                    "name": "notes.txt",
                    "size": 6,
                    "url": "1234",
                    "file": {"filename": "notes.txt", "data": {"content": "内容"}, "meta": {"size": 6}},
                },
                {"type": "collection", "name": "Library"},
            ],
        },
        "2": {
            "id": "2",
            "parentId": "1",
            "childrenIds": [],
            "role": "assistant",
            "content": answer,
            "model": "glm",
            "sources": [
                {
                    "source": {"name": "yr.no", "url": "https://yr.no"},
                    "document": ["Sun in Oslo", "Rain in Bergen"],
                    "metadata": [
                        {"source": "https://yr.no/oslo", "page": 2},
                        {"source": "https://yr.no/bergen"},
                    ],
                },
                {
                    "source": {"name": "again"},
                    "document": ["More"],
                    "metadata": [{"source": "https://yr.no/oslo"}],
                },
            ],
        },
    }
    chat = {"title": "W", "history": {"messages": nodes, "currentId": "2"}}
    (imported,) = import_file(write(tmp_path, [{"chat": chat}]), library)
    digest, notes = (hashlib.sha256(data).hexdigest() for data in (PNG, "内容".encode()))
    assert parts(imported) == [
        (
            Text("weather?"),
            Image(digest, "image/png"),
            Attachment("notes.txt", notes, 6),
            Attachment("Library", "", 0),
        ),
        (
            Thought("let me <see>\n\nso"),
            ToolCall("c1", "get_weather", '{"city": "Oslo"}'),
            ToolResult("c1", "Sunny", "get_weather"),
            Text("It is sunny [1].\n<details><summary>more</summary>kept as text</details>"),
            Source(1, "yr.no", "Sun in Oslo", "https://yr.no/oslo", "2"),
            Source(2, "yr.no", "Rain in Bergen", "https://yr.no/bergen"),
            Source(1, "again", "More", "https://yr.no/oslo"),
        ),
    ]


@given(
    st.dictionaries(st.sampled_from(["role", "content", "files", "sources", "tool_calls", "metadata"]), JSON)
)
def test_any_message_of_open_webui_or_chatgpt_is_read(
    tmp_path_factory: pytest.TempPathFactory, message: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    library = Library(folder / "c", cache=folder / "cache")
    node = {**message, "role": "assistant", "author": {"role": "tool"}, "message": message}
    documents = [{"chat": {"history": {"messages": {"1": node}}}}, {"mapping": {"1": {"message": node}}}]
    with contextlib.suppress(UserError):
        import_file(write(folder, documents), library)


# --- damage ---


def openai() -> dict[str, Any]:
    call = {"id": "c", "function": {"name": "f", "arguments": {"a": [1]}}}
    return {
        "title": "T",
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "q"}, {"type": "image_url", "image_url": PNG_URI}],
            },
            {"role": "assistant", "content": "a", "reasoning_content": "hm", "tool_calls": [call]},
            {"role": "tool", "content": "r", "tool_call_id": "c"},
        ],
    }


def open_webui() -> dict[str, Any]:
    message = {
        "id": "1",
        "parentId": None,
        "childrenIds": ["2"],
        "role": "user",
        "content": "q",
        "timestamp": 1,
    }
    answer = {
        "id": "2",
        "parentId": "1",
        "childrenIds": [],
        "role": "assistant",
        "content": "<details>x</details>a",
    }
    files = [{"type": "file", "name": "n", "file": {"data": {"content": "c"}, "meta": {"size": 1}}}]
    sources = [{"source": {"name": "s"}, "document": ["d"], "metadata": [{"source": "s", "page": 1}]}]
    nodes = {"1": message | {"files": files}, "2": answer | {"sources": sources}}
    return {"chat": {"title": "W", "history": {"messages": nodes, "currentId": "2"}}, "created_at": 1}


def documents() -> list[object]:
    own = json.loads(export(with_parts(), "json"))
    return [own, [["q", "a"]], [openai()], [chatgpt(), chatgpt_with_parts()], [open_webui()]]


ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        1e300,
        10**30,
        "",
        "x",
        "\ud800",
        [],
        {},
        [[]],
        [{}],
        {"a": []},
        "0001-01-01T00:00:00+00:00",
    ]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """All containers and keys in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in [(value, key), *places(inner)]]


@given(st.integers(0, 4), st.lists(st.tuples(st.integers(0, 1000), ODD), min_size=1, max_size=3))
def test_any_mutation_of_a_known_format_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, which: int, changes: list[tuple[int, object]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    document = documents()[which]
    for number, value in changes:
        found = places(document)
        container, key = found[number % len(found)]
        container[key] = copy.deepcopy(value)
    path = folder / "x.json"
    path.write_text(json.dumps(document))
    library = Library(folder / "c", cache=folder / "cache")
    with contextlib.suppress(UserError):
        for conversation in import_file(path, library):
            saved = Conversation.open(conversation.path or Path())
            assert list(map(len, parts(saved))) == list(map(len, parts(conversation))) != []


def archive(path: Path, files: dict[str, str | bytes]) -> bytearray:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return bytearray(path.read_bytes())


def damage(data: bytearray, name: str) -> None:
    """Make the content of a file in an archive one that no zlib takes."""
    start = data.index(name.encode()) + len(name)
    data[start : start + 8] = b"\xff" * 8


EXPORT: dict[str, str | bytes] = {
    "conversations-000.json": json.dumps([chatgpt()]),
    "conversations-001.json": json.dumps([chatgpt_with_parts()]),
    "file_0001-cat.png": PNG * 9,
}


@given(st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 7)), min_size=1, max_size=3))
def test_any_damage_to_an_archive_costs_a_part_of_it(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    data = archive(folder / "x.zip", EXPORT)
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    (folder / "x.zip").write_bytes(data)
    with contextlib.suppress(UserError):
        assert import_file(folder / "x.zip", Library(folder / "c", cache=folder / "cache"))


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (["file_0001-cat.png"], {"一个标题", "T"}),
        (["conversations-000.json"], {"T"}),
        (["conversations-001.json", "file_0001-cat.png"], {"一个标题"}),
    ],
)
def test_a_damaged_file_of_an_archive_costs_itself(
    tmp_path: Path, library: Library, names: list[str], titles: set[str]
) -> None:
    data = archive(tmp_path / "x.zip", EXPORT)
    for name in names:
        damage(data, name)
    (tmp_path / "x.zip").write_bytes(data)
    imported = import_file(tmp_path / "x.zip", library)
    assert {conversation.title for conversation in imported} == titles
    digest = hashlib.sha256(PNG * 9).hexdigest()
    found = any(conversation.attachments.find(digest) for conversation in imported)
    assert found == ("file_0001-cat.png" not in names)


@pytest.mark.parametrize("kind", ["damaged", "locked", "packed by another method"])
def test_an_archive_of_which_nothing_can_be_read_is_a_bad_file(
    tmp_path: Path, library: Library, kind: str
) -> None:
    name = "conversations.json"
    data = archive(tmp_path / "x.zip", {name: json.dumps([chatgpt()])})
    entry = data.index(b"PK\x01\x02")
    if kind == "damaged":
        damage(data, name)
    elif kind == "locked":
        data[6] |= 1
        data[entry + 8] |= 1
    else:
        data[8] = data[entry + 10] = 99
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(BadFileError, match=r"x\.zip"):
        import_file(tmp_path / "x.zip", library)


def test_what_is_too_deep_to_write_costs_itself(tmp_path: Path, library: Library) -> None:
    deep = "[" * 5000 + "]" * 5000
    path = tmp_path / "deep.json"
    own = '{"format": "glmtui", "messages": [{"role": "user", "text": "own", "meta": {"deep": DEEP}}]}'
    called = (
        '{"messages": [{"role": "user", "content": "called"}, {"role": "assistant", "tool_calls": '
        '[{"function": {"name": "f", "arguments": DEEP}}]}]}'
    )
    path.write_text(f"[{own}, {called}, {json.dumps(openai())}]".replace("DEEP", deep))
    assert [conversation.title for conversation in import_file(path, library)] == ["own", "called", "T"]
    assert len(list(library.folder.glob("*.jsonl"))) == 3


@pytest.mark.parametrize("parent", [[], {}, 3, "a"])
def test_a_node_without_a_usable_parent_begins_the_tree(
    tmp_path: Path, library: Library, parent: object
) -> None:
    nodes = {"a": {"parent": parent, "children": ["a", "b", "b"], "message": chatgpt_message("user", "q")}}
    nodes["b"] = {"parent": "a", "children": ["a", []], "message": chatgpt_message("assistant", "<")}
    (imported,) = import_file(write(tmp_path, [{"mapping": nodes}]), library)
    assert branch(imported) == [("user", "q"), ("assistant", "<")]
    webui = {"1": {"parentId": parent, "role": "user", "content": "q"}}
    (imported,) = import_file(write(tmp_path, [{"chat": {"history": {"messages": webui}}}]), library)
    assert branch(imported) == [("user", "q")]


def test_a_damaged_file_beside_good_ones_is_named(tmp_path: Path, library: Library) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as opened:
        opened.writestr("conversations-001.json", json.dumps([chatgpt()]))
        opened.writestr("conversations-002.json", "[{")
    failures: list[UserError] = []
    assert len(import_file(tmp_path / "x.zip", library, failures)) == 1
    assert ["conversations-002.json" in str(failure) for failure in failures] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "```print(1)``` is what?",
        "> ```\n> cut",
        "- a\n  ```py\n  x",
        "~~~~\ncut ```",
        "<script>\nx",
        "a\n\n<!-- b\n<c>",
    ],
)
def test_markdown_swallows_nothing_that_follows(text: str) -> None:
    conversation = Conversation()
    for role, content in (("user", text), ("assistant", text), ("user", "last")):
        conversation.append("user" if role == "user" else "assistant", content)
    tokens = MarkdownIt("commonmark").parse(export(conversation, "md"))
    headings = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == ["User", "Assistant", "User"]

"""Writing for others and reading what others wrote."""

import contextlib
import json
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.chat.conversation import Conversation
from glmtui.chat.export import FORMATS, export, free_path, import_file, known
from glmtui.chat.library import Library
from glmtui.errors import UserError


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
    assert branch(imported) == [("system", "be brief"), ("user", "hi"), ("assistant", "Hello")]


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
    assert branch(imported) == [("user", "问题"), ("assistant", "回答二"), ("assistant", "看图")]
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
        archive.writestr("conversations.json", json.dumps([chatgpt(), chatgpt()]))
    assert len(import_file(path, library)) == 2
    assert len(library.list()) == 2


def test_a_chatgpt_tree_that_is_no_tree_ends(tmp_path: Path, library: Library) -> None:
    document = chatgpt()
    document["mapping"]["more"]["children"] = ["q", "nowhere", 3]
    document["mapping"]["odd"] = None
    document["current_node"] = None
    (imported,) = import_file(write(tmp_path, [document]), library)
    assert len(imported.messages) == 5


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


def test_a_thought_is_quoted_before_its_answer() -> None:
    conversation = Conversation()
    conversation.append("user", "Hi")
    conversation.append("assistant", "<think>\nwell\n\nso\n</think>\n\nHello")
    assert export(conversation, "md").endswith("> well\n>\n> so\n\nHello\n")
    assert "<blockquote>" in export(conversation, "html")

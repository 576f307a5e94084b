"""Messages of parts: what is written is read, and what is wrong costs itself alone."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.chat.conversation import Conversation
from glmtui.chat.files import encode, parse
from glmtui.chat.library import Library
from glmtui.chat.parts import decode_parts, encode_parts, parts_of_text
from glmtui.chat.tree import Tree
from glmtui.errors import NewerFormatError, UserError
from glmtui.protocol.messages import (
    Attachment,
    ChatMessage,
    Image,
    Part,
    Source,
    Text,
    Thought,
    ToolCall,
    ToolResult,
    text_of,
    thought_of,
)

DIGEST = "ab" * 32
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SOME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
MARKS = st.sampled_from(["<think>", "<think>a", "<think>a</think>b", "<", " <thi", "</think>"])
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
PART: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, SOME | MARKS),
    st.builds(Thought, SOME | MARKS),
    st.builds(Image, DIGESTS | st.just(""), WORDS, WORDS),
    st.builds(Attachment, WORDS, DIGESTS, st.integers(0, 2**40), WORDS),
    st.builds(Source, st.integers(0, 99), WORDS, WORDS, WORDS, WORDS),
    st.builds(ToolCall, WORDS, WORDS, WORDS),
    st.builds(ToolResult, WORDS, WORDS, WORDS),
)
PARTS = st.lists(PART, max_size=6).map(tuple)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
ALL: tuple[Part, ...] = (
    Thought("well"),
    Text("Look: "),
    Image(DIGEST, "image/png", "cat.png"),
    Attachment("notes.txt", DIGEST, 3, "/home/me/notes.txt"),
    Source(1, "Manual", "Press it.", "https://a.example/b", "page 3"),
    ToolCall("c1", "weather", '{"city": "Oslo"}'),
    ToolResult("c1", "sunny", "weather"),
    Text("done"),
)


@given(ROLES, PARTS)
def test_what_is_written_is_read(role: Any, parts: tuple[Part, ...]) -> None:
    record = json.loads(json.dumps(encode_parts(role, parts)))
    assert decode_parts(role, record["text"], record.get("parts")) == (parts, ())


@given(st.lists(st.tuples(ROLES, PARTS, PARTS), max_size=5))
def test_a_file_gives_them_back(
    tmp_path_factory: pytest.TempPathFactory, messages: list[tuple[Any, tuple[Part, ...], tuple[Part, ...]]]
) -> None:
    path = tmp_path_factory.mktemp("parts") / "c.jsonl"
    conversation = Conversation(path=path)
    for role, first, second in messages:
        message = conversation.append(role, first)
        assert message.parts == first
        conversation.edit(message.id, second)
        conversation.select(message.id)
        assert conversation.finish(message.id, second).parts == second
    if messages:
        again = Conversation.open(path)
        assert list(again.messages.values()) == list(conversation.messages.values())
        assert Conversation.from_records(again.records()).messages == again.messages
        assert Tree(parse(encode(again.records())).records).messages == again.messages


def test_a_message_of_text_alone_is_written_as_by_version_1(tmp_path: Path) -> None:
    conversation = Conversation(path=tmp_path / "c.jsonl")
    question = conversation.append("user", "Hi", meta={"model": "m"})
    answer = conversation.append("assistant", "", state="partial")
    conversation.extend(answer.id, "Hel")
    conversation.finish(answer.id, (Text("Hello"),), "stopped", {"tokens": 1})
    header, *lines = (tmp_path / "c.jsonl").read_text().splitlines()
    at, then = (m.time.isoformat(timespec="milliseconds") for m in conversation.branch())
    assert json.loads(header)["version"] == 1
    assert lines == [
        f'{{"type": "message", "id": "{question.id}", "parent": null, "role": "user", "text": "Hi", '
        f'"time": "{at}", "meta": {{"model": "m"}}}}',
        f'{{"type": "message", "id": "{answer.id}", "parent": "{question.id}", "role": "assistant", '
        f'"text": "", "time": "{then}", "state": "partial"}}',
        f'{{"type": "extend", "id": "{answer.id}", "at": 0, "text": "Hel"}}',
        f'{{"type": "finish", "id": "{answer.id}", "text": "Hello", "state": "stopped", '
        f'"meta": {{"tokens": 1}}}}',
    ]


def test_the_text_stays_readable_and_is_there_once(tmp_path: Path) -> None:
    conversation = Conversation(path=tmp_path / "c.jsonl")
    conversation.append("assistant", (Thought("hm"), Text("42")))
    header, raised, line = map(json.loads, (tmp_path / "c.jsonl").read_text().splitlines())
    assert (header["version"], raised) == (1, {"type": "conversation", "version": 2})
    assert line["text"] == "42"
    assert line["parts"] == [{"type": "thought", "text": "hm"}, {"type": "text"}]


def test_the_version_is_raised_once_and_stays_with_copies(tmp_path: Path) -> None:
    library = Library(tmp_path, cache=tmp_path / "cache")
    conversation = library.create()
    conversation.append("user", "Hi")
    for _number in range(2):
        conversation.append("assistant", ALL)
    assert conversation.path is not None
    assert conversation.path.read_text().count('"version": 2') == 1
    copy = Conversation.from_records(conversation.records())
    copy.keep_in(tmp_path / "copies")
    assert copy.path is not None
    assert copy.path.read_text().count('"version": 2') == 1
    assert copy.branch() == conversation.branch()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ALL[:1] + ALL[2:7]),
        ("Look: done", ALL),
        ("Look! done", (ALL[0], Text("Look! done"), *ALL[2:7])),
    ],
)
def test_a_text_edited_by_hand_wins(text: str, expected: tuple[Part, ...]) -> None:
    record = {**encode_parts("assistant", ALL), "text": text}
    assert decode_parts("assistant", record["text"], record["parts"]) == (expected, ())


def test_the_only_text_is_edited_in_one_place() -> None:
    parts = (Thought("t"), Text("old"), Attachment("a", DIGEST, 1))
    record = {**encode_parts("user", parts), "text": "new"}
    assert decode_parts("user", "new", record["parts"])[0] == (parts[0], Text("new"), parts[2])
    assert decode_parts("user", "new", [{"type": "thought", "text": "t"}])[0] == (Thought("t"), Text("new"))


BAD: list[Any] = [
    {"type": "image", "sha256": "../../etc/passwd", "media_type": "image/png"},
    {"type": "attachment", "name": "a", "size": 1},
    {"type": "attachment", "name": "a", "sha256": DIGEST.upper(), "size": 1},
    {"type": "attachment", "name": "a", "sha256": DIGEST, "size": "1"},
    {"type": "attachment", "name": "a", "sha256": DIGEST, "size": True},
    {"type": "attachment", "name": "a", "sha256": DIGEST + "\n", "size": 1},
    {"type": "source", "number": -1, "title": "", "text": ""},
    {"type": "thought"},
    {"type": "video", "sha256": DIGEST},
    {"type": ["text"]},
    {},
]


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_part_costs_that_part_alone_and_is_kept(bad: Any) -> None:
    records = encode_parts("assistant", ALL)["parts"]
    conversation = Conversation.from_records(
        [{"role": "assistant", "id": "a", "text": "Look: done", "parts": [*records[:4], bad, *records[4:]]}]
    )
    assert conversation.messages["a"].parts == ALL
    assert conversation.messages["a"].unread == (bad,)
    assert bad in conversation.records()[-1]["parts"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ["type", "text", "name", "sha256", "size", "media_type", "number", "title", "call_id", "arguments"]
KINDS = ["text", "thought", "image", "attachment", "source", "tool_call", "tool_result", "later"]
RECORD = st.dictionaries(st.sampled_from(KEYS), JSON | st.sampled_from([*KINDS, DIGEST]), max_size=6)


@given(st.text() | st.just("<think>"), st.lists(RECORD | JSON, max_size=5) | JSON, ROLES)
def test_any_records_are_read(text: str, records: Any, role: Any) -> None:
    fine = {"type": "tool_call", "id": "1", "name": "f", "arguments": "{}"}
    if isinstance(records, list):
        records = [*records, fine]
    tree = Tree([{"role": role, "text": text, "parts": records, "id": "a"}, {"type": "finish", "id": "a"}])
    message = tree.messages["a"]
    encode([encode_parts(role, message.parts, message.unread)])
    if isinstance(records, list):
        assert ToolCall("1", "f", "{}") in message.parts
        assert message.text == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --- thoughts ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nwell\n</think>\n\nHello", (Thought("well"), Text("Hello"))),
        (" \n<think>well</think>", (Thought("well"),)),
        ("<think>well", (Thought("well"),)),
        ("<think>well</thi", (Thought("well"),)),
        ("<think></think>Hello", (Text("Hello"),)),
        ("<thi", (Text("<thi"),)),
        ("<table>", (Text("<table>"),)),
        ("Hello <think>", (Text("Hello <think>"),)),
        ("", ()),
    ],
)
def test_what_version_1_wrote_of_thoughts(text: str, expected: tuple[Part, ...]) -> None:
    assert parts_of_text("assistant", text) == expected
    assert parts_of_text("user", text) == ((Text(text),) if text else ())


@given(st.lists(st.integers(0, 40), max_size=6))
def test_a_thought_of_version_1_grows_to_the_same_however_it_was_cut(cuts: list[int]) -> None:
    text = "<think>\nfirst this\n</think>\n\nthen that"
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    tree = Tree([{"role": "assistant", "id": "a", "text": "", "state": "partial"}])
    for at, end in pairwise(places):
        assert tree.length("a", thought=False) == at
        tree.apply({"type": "extend", "id": "a", "at": at, "text": text[at:end]})
        assert tree.messages["a"].parts == parts_of_text("assistant", text[:end], grows=True)
    assert tree.messages["a"].parts == (Thought("first this"), Text("then that"))


@pytest.mark.parametrize("text", ["<", "<t", " <think"])
def test_the_beginning_of_a_mark_is_held_back_only_while_it_may_grow(tmp_path: Path, text: str) -> None:
    conversation = Conversation(path=tmp_path / "c.jsonl")
    answer = conversation.append("assistant", "", state="partial")
    conversation.extend(answer.id, text)
    assert Conversation.open(tmp_path / "c.jsonl").messages[answer.id].parts == ()
    conversation.finish(answer.id, text)
    conversation.append("assistant", text)
    conversation.append("assistant", (Text(text),))
    for seen in (conversation, Conversation.open(tmp_path / "c.jsonl")):
        assert [message.parts for message in seen.branch()] == [(Text(text),)] * 3


def test_thought_and_text_grow_apart(tmp_path: Path) -> None:
    conversation = Conversation(path=tmp_path / "c.jsonl")
    answer = conversation.append("assistant", "", state="partial")
    conversation.extend(answer.id, "well, ", thought=True)
    conversation.extend(answer.id, "so", thought=True)
    conversation.extend(answer.id, "<b>Hel")
    conversation.extend(answer.id, "lo")
    killed = Conversation.open(tmp_path / "c.jsonl").messages[answer.id]
    assert (killed.parts, killed.state) == ((Thought("well, so"), Text("<b>Hello")), "partial")
    conversation.finish(answer.id, (Thought("well, so"), Text("<b>Hello</b>")))
    assert Conversation.open(tmp_path / "c.jsonl").branch() == conversation.branch()
    assert conversation.branch()[0].parts == (Thought("well, so"), Text("<b>Hello</b>"))


def test_a_text_that_looks_like_a_thought_stays_one() -> None:
    conversation = Conversation()
    said = conversation.append("assistant", (Text("<think> is a tag"),))
    assert conversation.messages[said.id].parts == (Text("<think> is a tag"),)
    assert Conversation.from_records(conversation.records()).branch()[0].parts == said.parts


# --- what the model is to see ---


def test_parts_are_kept_and_equal_roles_joined() -> None:
    conversation = Conversation()
    notes = Attachment("notes.txt", DIGEST, 3)
    conversation.append("user", (Text("read"), notes))
    conversation.append("assistant", (Thought("stopped in the middle"),), state="stopped")
    conversation.append("user", "again")
    conversation.append("assistant", (ToolCall("1", "f", "{}"), ToolCall("2", "g", "{}")))
    conversation.append("tool", (ToolResult("1", "one"),))
    conversation.append("tool", (ToolResult("2", "two"),))
    conversation.append("assistant", (Thought("hm"), Text("done")))
    conversation.append("user", (notes,))
    assert conversation.messages_for_model() == (
        ChatMessage("user", (Text("read"), notes, Text("\nagain"))),
        ChatMessage("assistant", (ToolCall("1", "f", "{}"), ToolCall("2", "g", "{}"))),
        ChatMessage("tool", (ToolResult("1", "one"),)),
        ChatMessage("tool", (ToolResult("2", "two"),)),
        ChatMessage("assistant", (Thought("hm"), Text("done"))),
        ChatMessage("user", (notes,)),
    )


def test_a_thought_without_an_answer_is_there_to_be_continued() -> None:
    conversation = Conversation()
    conversation.append("user", "Hi")
    conversation.append("assistant", (Thought("stopped"),), state="stopped")
    assert conversation.messages_for_model()[-1] == ChatMessage("assistant", (Thought("stopped"),))


def test_an_edited_text_keeps_the_attachments() -> None:
    conversation = Conversation()
    notes = Attachment("notes.txt", DIGEST, 3)
    first = conversation.append("user", (Text("read"), notes))
    assert conversation.edit(first.id, "summarise").parts == (Text("summarise"), notes)
    assert conversation.edit(first.id, (Text("nothing"),)).parts == (Text("nothing"),)


# --- search, titles ---


def test_search_finds_names_thoughts_and_results_but_no_contents(tmp_path: Path) -> None:
    library = Library(tmp_path / "c", cache=tmp_path / "cache")
    conversation = library.create()
    notes = conversation.attachments.attach("Rechnung.txt", "secret contents")
    question = conversation.append("user", (notes,))
    tool = conversation.append("tool", (ToolResult("1", "Sonnig in Oslo"),))
    answer = conversation.append("assistant", (Thought("so viel Sonne"), Text("Ja.")))
    hits = library.search("rechnung")
    assert [(hit.message_id, hit.line) for hit in hits] == [(question.id, "Rechnung.txt")]
    assert [hit.message_id for hit in library.search("oslo")] == [tool.id]
    assert [(hit.message_id, hit.line) for hit in library.search("viel")] == [(answer.id, "so viel Sonne")]
    assert library.search("secret") == []
    assert library.list()[0].title == "Rechnung.txt"


# --- newer files ---


def test_a_newer_file_is_read_and_not_written(tmp_path: Path) -> None:
    library = Library(tmp_path / "c", cache=tmp_path / "cache")
    library.folder.mkdir()
    path = library.folder / "later.jsonl"
    records = [
        {"type": "conversation", "version": 9, "id": "later", "created": "2027-01-01T00:00:00Z"},
        {"type": "message", "id": "a", "role": "user", "text": "hello", "parts": [{"type": "smell"}]},
        {"type": "fold", "id": "a"},
    ]
    path.write_bytes(encode(records))
    before = path.read_bytes()
    conversation = library.open("later")
    assert conversation.newer_format
    assert [message.text for message in conversation.branch()] == ["hello"]
    for change in (
        lambda: conversation.append("user", "x"),
        lambda: conversation.edit("a", "x"),
        lambda: conversation.extend("a", "x"),
        lambda: conversation.finish("a", "x"),
        lambda: conversation.select("a"),
        lambda: conversation.delete("a"),
        lambda: conversation.rename("x"),
        lambda: conversation.pin(),
        lambda: conversation.configure({"a": 1}),
        lambda: library.open("later").pin(),
    ):
        with pytest.raises(NewerFormatError) as caught:
            change()
        assert str(path) in str(caught.value)
    assert conversation.branch()[0].text == "hello"
    assert not conversation.unsaved
    assert path.read_bytes() == before
    library.save_as(conversation, tmp_path / "copy.jsonl")
    assert (tmp_path / "copy.jsonl").read_bytes() == before
    assert Conversation.from_records(conversation.records()).newer_format


@pytest.mark.parametrize("unsaved", [False, True])
def test_a_file_that_becomes_newer_while_it_is_open_is_not_written(tmp_path: Path, unsaved: bool) -> None:
    path = tmp_path / "c.jsonl"
    conversation = Conversation(path=path)
    conversation.append("user", "q")
    answer = conversation.append("assistant", "", state="partial")
    if unsaved:
        path.rename(tmp_path / "away")
        path.mkdir()
        with pytest.raises(UserError):
            conversation.extend(answer.id, "kept")
        path.rmdir()
        (tmp_path / "away").rename(path)
    with path.open("ab") as file:
        file.write(encode([{"type": "conversation", "version": 99}]))
    before = path.read_bytes()
    for change in (
        lambda: conversation.extend(answer.id, "x"),
        lambda: conversation.finish(answer.id, "x"),
        lambda: conversation.append("user", "x"),
        lambda: conversation.rename("x"),
    ):
        with pytest.raises(NewerFormatError):
            change()
    if unsaved:
        with pytest.raises(NewerFormatError):
            conversation.flush()
    assert path.read_bytes() == before
    assert conversation.messages[answer.id].text == ("kept" if unsaved else "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello", ("", "Hello")),
        ("", ("", "")),
        (" <", ("", " <")),
        ("<thin", ("", "<thin")),
        ("<thing>", ("", "<thing>")),
        ("<think>", ("", "")),
        ("<think>\nwell", ("well", "")),
        ("<think>well\n</thi", ("well", "")),
        ("<think>a < b\n</think>\n\n c", ("a < b", "c")),
        ("<think></think>c", ("", "c")),
        ("<think>a</think>b</think>", ("a", "b</think>")),
        ("He said <think>a</think>", ("", "He said <think>a</think>")),
    ],
)
def test_a_text_of_version_1_may_begin_with_a_thought(text: str, expected: tuple[str, str]) -> None:
    parts = parts_of_text("assistant", text)
    assert (thought_of(parts), text_of(parts)) == expected

"""What is imported is bounded, counted, known again, and read a conversation at a time."""

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glmtui.chat import import_, json_stream
from glmtui.chat.import_ import Import, import_file
from glmtui.chat.json_stream import JsonStream
from glmtui.chat.library import Library
from glmtui.errors import UserError
from glmtui.protocol.messages import Text, Thought, ToolCall


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "conversations", cache=tmp_path / "cache")


def chat(title: str) -> dict[str, Any]:
    return {"title": title, "messages": [{"role": "user", "content": f"question of {title}"}]}


def write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def documents(text: str, steps: list[int] | None = None) -> list[Any]:
    data = text.encode()
    place, step = 0, 3 if len(data) < 100 else 4096

    def read(most: int) -> bytes:
        nonlocal place
        start, place = place, place + min(most, step)
        return data[start:place]

    stream = JsonStream(read, (steps if steps is not None else []).append)
    return [list(each) if isinstance(each, Iterator) else each for each in stream.documents()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('\ufeff [ {"a": "é\\n]"} , 12345, [], "x" ]\n', [[{"a": "é\n]"}, 12345, [], "x"]]),
        ('{"a": 1}\n{"b": [1, 2]}\n[]', [{"a": 1}, {"b": [1, 2]}, []]),
        ("", []),
    ],
)
def test_documents_are_read_in_whatever_pieces_they_come(text: str, expected: list[Any]) -> None:
    steps: list[int] = []
    assert documents(text, steps) == expected
    assert steps == sorted(steps)
    assert steps[-1] == len(text.encode())


@pytest.mark.parametrize(
    "text",
    ["[1, 2", "[1 2]", "[1,]", '{"a": ', "[tru", '["x', "[{]", "[" * 100_000],
    ids=lambda text: text[:9],
)
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        documents(text)


def test_one_value_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", 10)
    monkeypatch.setattr(json_stream, "LONGEST", 100)
    assert documents('["' + '", "'.join(["x" * 50] * 20) + '"]') == [["x" * 50] * 20]
    with pytest.raises(ValueError, match="too large"):
        documents('["' + "x" * 1000 + '"]')
    monkeypatch.setattr(json_stream, "MOST_VALUES", 20)
    with pytest.raises(ValueError, match="too large"):
        documents("[[" + "1," * 40 + "1]]")


@pytest.mark.parametrize("suffix", ["json", "jsonl", "zip"])
def test_what_has_no_end_or_no_bytes_is_refused_at_once(
    tmp_path: Path, library: Library, suffix: str
) -> None:
    fifo, endless, folder = (tmp_path / f"{name}.{suffix}" for name in ("fifo", "endless", "folder"))
    os.mkfifo(fifo)
    endless.symlink_to("/dev/zero")
    folder.mkdir()
    for path in (fifo, endless, folder):
        with pytest.raises(UserError, match=path.name):
            import_file(path, library)


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_, "MOST_BYTES", 1_000_000)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", b" " * 3_000_000)
    with pytest.raises(UserError, match=r"3\.0 MB; at most 1 MB"):
        import_file(path, library)


def test_half_an_archive_is_called_so(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes(b"PK\3\4half a zip")
    with pytest.raises(UserError, match="archive that is not complete"):
        import_file(path, library)


def test_a_conversation_a_line(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(json.dumps(chat(title)) for title in "ab"))
    assert [conversation.title for conversation in import_file(path, library)] == ["a", "b"]


def test_the_same_again_is_left_out_and_counted(tmp_path: Path, library: Library) -> None:
    path = write(tmp_path / "x.json", [chat("a"), chat("b"), chat("a")])
    first = Import(path, library)
    assert [conversation.title for conversation in first] == ["a", "b"]
    assert first.known == 1
    write(path, [chat("a"), chat("c")])
    again = Import(path, Library(library.folder, cache=tmp_path / "other"))
    assert [conversation.title for conversation in again] == ["c"]
    assert again.known == 1
    for summary in library.list():
        library.trash(summary.id)
    assert len(import_file(path, library)) == 2, "what was deleted can come again"


def test_a_rotten_conversation_costs_itself_and_is_named(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "x.json", [chat("a"), chat("rotten"), chat("c")])
    in_order = import_._in_order

    def spoiled(messages: Any, *more: Any) -> Iterator[Any]:
        if "rotten" in str(messages):
            raise ZeroDivisionError("unforeseen")
        return in_order(messages, *more)

    monkeypatch.setattr(import_, "_in_order", spoiled)
    job = Import(path, library)
    assert [conversation.title for conversation in job] == ["a", "c"]
    assert [str(failure) for failure in job.failures] == [
        f"conversation 2 of {path} cannot be read: unforeseen."
    ]


def test_what_came_before_the_damage_stays(tmp_path: Path, library: Library) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([chat("a"), chat("b")])[:-1] + ", {")
    job = Import(path, library)
    assert [conversation.title for conversation in job] == ["a", "b"]
    assert len(job.failures) == 1


def test_an_import_can_be_ended(tmp_path: Path, library: Library) -> None:
    path = write(tmp_path / "x.json", [chat(str(n)) for n in range(5)])

    def advance(fraction: float) -> None:
        if fraction:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(Import(path, library, advance))


def test_newer_contents_are_what_they_mean(tmp_path: Path, library: Library) -> None:
    code = {"content_type": "code", "language": "python", "text": "# x\nprint(1)"}
    cited = {"content_type": "text", "parts": ["so\ue200cite\ue202turn0search0\ue201."]}
    nodes = {
        "a": {"parent": None, "message": {"author": {"role": "assistant"}, "content": code}},
        "b": {"parent": "a", "message": {"author": {"role": "assistant"}, "content": cited}},
        "c": {
            "parent": "b",
            "message": {"author": {"role": "assistant"}, "content": code, "recipient": "python"},
        },
    }
    (imported,) = import_file(write(tmp_path / "g.json", [{"mapping": nodes}]), library)
    assert [message.parts for message in imported.branch()] == [
        (Text("```python\n# x\nprint(1)\n```"),),
        (Text("so."),),
        (ToolCall("", "python", "# x\nprint(1)"),),
    ]
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "answer"}]},
    ]
    messages = {"1": {"role": "assistant", "content": "", "output": output, "timestamp": 1_700_000_000_000}}
    webui = [{"chat": {"history": {"messages": messages}}}]
    (imported,) = import_file(write(tmp_path / "w.json", webui), library)
    (message,) = imported.branch()
    assert message.parts == (Thought("hm"), Text("answer"))
    assert message.time.year == 2023


def test_nothing_is_lost_where_lists_of_children_are_not_complete(tmp_path: Path, library: Library) -> None:
    turns = [("u1", None, "user"), ("a1", "u1", "assistant"), ("u2", "a1", "user"), ("a2", "u2", "assistant")]
    webui = {
        id_: {"parentId": parent, "childrenIds": [], "role": role, "content": id_}
        for id_, parent, role in turns
    }
    document = [{"chat": {"history": {"messages": webui, "currentId": "a2"}}}]
    (imported,) = import_file(write(tmp_path / "w.json", document), library)
    assert [message.text for message in imported.branch()] == ["u1", "a1", "u2", "a2"]

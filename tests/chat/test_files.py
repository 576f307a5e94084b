"""The conversation file under what can happen to it: kills, full disks, editors, other processes."""

import errno
import os
import re
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmtui.chat import files
from glmtui.chat.conversation import Conversation
from glmtui.chat.files import ConversationFile, encode, file_stem, parse, slug
from glmtui.errors import UserError

WHEN = datetime(2026, 11, 22, 8, 5, 9, tzinfo=timezone.utc)
TRICKY = '行分隔\u2028段\u2029 \x85\x0b\x0c\r\n\x1c\t\0\ufeff emoji 👩‍👩‍👧 \\ " end'


def sample(path: Path) -> Conversation:
    conversation = Conversation(path=path)
    conversation.append("user", "你好\u2028世界")
    answer = conversation.append("assistant", "", state="partial")
    conversation.extend(answer.id, "答")
    conversation.finish(answer.id, "答案", "done", {"tokens": 2})
    conversation.rename("标题")
    return conversation


def texts(path: Path) -> list[str]:
    return [message.text for message in Conversation.open(path).branch()]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_comes_back_and_stays_one_line(values: list[str]) -> None:
    records = [{"text": value} for value in values]
    data = encode(records)
    assert data.count(b"\n") == len(values)
    assert parse(data) == files.Contents(tuple(records))


def test_chinese_is_readable_in_the_file() -> None:
    assert encode([{"text": "你好"}]) == '{"text": "你好"}\n'.encode()


@given(st.binary(max_size=200))
def test_reading_never_fails(data: bytes) -> None:
    parse(data)
    parse(b'{"a": "' + data + b'"}\n' + data)


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n',
        b'{"a": 1}\r\n{"a": 2}\r\n',
        b'{"a": 1}\n\n  \n{"a": 2}',
        b'{"a": 1}\n{"a": 2}\n' + b"\0" * 4096,
        b'{"a": 1}\n' + b"\0" * 512 + b'{"a": 2}\n',
    ],
    ids=["byte order mark", "carriage returns", "blank lines", "NUL tail", "NUL hole"],
)
def test_what_editors_and_power_losses_add_is_no_damage(data: bytes) -> None:
    assert parse(data) == files.Contents(({"a": 1}, {"a": 2}))


def test_damaged_lines_are_named_and_the_rest_is_read() -> None:
    bad_utf8 = b'{"a": "\xff"}'
    contents = parse(b'{"a": 1}\n{"a": \n[1]\n' + bad_utf8 + b"\n" + b"[" * 100_000 + b"\n")
    assert contents.records == ({"a": 1}, {"a": "\ufffd"})
    assert contents.damaged == (2, 3, 5)


def test_utf_16_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"role": "user", "text": "x"}', encoding="utf-16")
    with pytest.raises(UserError, match="UTF-8"):
        Conversation.open(path)


@pytest.mark.parametrize(
    "content",
    [
        b"# notes\n\nmine",
        b'[["q", "a"]]',
        b'{\n  "format": "glmtui"\n}\n',
        b'{"messages": [{"role": "user", "content": "fine-tuning"}]}\n',
        bytes(range(256)),
    ],
)
def test_a_file_of_something_else_is_not_appended_to(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.json.*/import"):
        Conversation.open(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 64_560])
def test_an_empty_file_or_one_of_nuls_is_a_conversation_to_begin(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(content)
    Conversation.open(path).append("user", "first")
    assert texts(path) == ["first"]


def test_a_file_torn_at_any_byte_loses_at_most_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "fsync", lambda _descriptor: None)  # nobody pulls the plug here
    path = tmp_path / "c.jsonl"
    sample(path)
    data = path.read_bytes()
    for length in range(len(data) + 1):
        torn = data[:length]
        whole_lines = torn.count(b"\n") + (data[length : length + 1] == b"\n")
        path.write_bytes(torn)
        assert len(parse(torn).records) == whole_lines
        conversation = Conversation.open(path)
        before = [m.text for m in conversation.branch()]
        conversation.append("user", "after")
        assert texts(path) == [*before, "after"], f"torn after byte {length}"
        assert path.read_bytes().startswith(torn), "what is there is never rewritten"


@pytest.mark.parametrize(
    "tail", [b"\0" * 100, b'{"type": "mess', b"\xe4\xbd", b'{"role": "user", "text": "kept"}']
)
def test_appending_after_a_tail_without_newline(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "c.jsonl"
    sample(path)
    with path.open("ab") as file:
        file.write(tail)
    Conversation.open(path).append("user", "after")
    assert texts(path) == ["你好\u2028世界", "答案", *(["kept"] if b"kept" in tail else []), "after"]


def test_tricky_text_survives(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    Conversation(path=path).append("user", TRICKY)
    assert texts(path) == [TRICKY]


# --- failures while writing ---


def fail_after(monkeypatch: pytest.MonkeyPatch, written: int, code: int = errno.ENOSPC) -> None:
    """Let `os.write` of the file module write so many more bytes and then fail, as a full disk does."""
    real, left = os.write, written

    def write(descriptor: int, data: bytes) -> int:
        nonlocal left
        if left == 0:
            raise OSError(code, os.strerror(code))
        count = real(descriptor, bytes(data)[:left])
        left -= count
        return count

    monkeypatch.setattr(files.os, "write", write)


@pytest.mark.parametrize("written", [0, 1, 10, 60, 1_000_000])
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    path = tmp_path / "c.jsonl"
    conversation = sample(path)
    with monkeypatch.context() as patch:
        fail_after(patch, written)
        if written < 1_000:
            with pytest.raises(UserError, match=r"c\.jsonl.*No space left"):
                conversation.append("user", "when the disk is full")
            assert conversation.unsaved
        else:
            patch.setattr(
                files.os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(errno.EIO, "I/O"))
            )
            with pytest.raises(UserError, match="Input/output"):
                conversation.append("user", "when the disk is full")
    assert [m.text for m in conversation.branch()][-1] == "when the disk is full"
    conversation.append("assistant", "room again")
    assert not conversation.unsaved
    expected = ["你好\u2028世界", "答案", "when the disk is full", "room again"]
    assert texts(path) == [m.text for m in conversation.branch()] == expected
    assert len(Conversation.open(path).messages) == 4, "nothing twice"


def test_a_disk_that_is_full_at_the_first_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation(folder=tmp_path)
    with monkeypatch.context() as patch:
        fail_after(patch, 30)
        with pytest.raises(UserError, match="No space left"):
            conversation.append("user", "first")
    conversation.flush()
    (path,) = tmp_path.glob("*.jsonl")
    assert texts(path) == ["first"]


def test_an_extension_written_twice_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.jsonl"
    conversation = Conversation(path=path)
    answer = conversation.append("assistant", "", state="partial")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError(errno.EIO, "I/O")))
        with pytest.raises(UserError):
            conversation.extend(answer.id, "once ")
    conversation.extend(answer.id, "more")
    assert path.read_bytes().count(b"once") == 2
    assert texts(path) == ["once more"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    conversation = Conversation(folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "open", refuse)
        with pytest.raises(UserError, match=f"{re.escape(str(tmp_path))}.*{os.strerror(code)}"):
            conversation.append("user", "x")
    conversation.append("assistant", "y")
    assert conversation.path is not None
    assert texts(conversation.path) == ["x", "y"]


# --- other processes ---

APPEND_FOR_EVER = """
import sys
from pathlib import Path
from glmtui.chat.conversation import Conversation
conversation = Conversation(path=Path(sys.argv[1]))
number = 0
while True:
    answer = conversation.append("assistant", f"{number} " + "文字" * 300, state="partial")
    conversation.extend(answer.id, "。")
    number += 1
    print(number, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("count", [1, 40, 300])
def test_killing_a_writer_loses_nothing_it_had_written(tmp_path: Path, count: int) -> None:
    path = tmp_path / "c.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", APPEND_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= count:
                break
        process.send_signal(signal.SIGKILL)
        rest = [int(line) for line in process.stdout.read().split()]
    written = max([count, *rest])
    conversation = Conversation.open(path)
    branch = conversation.branch()
    assert len(branch) >= written
    assert [int(message.text.split()[0]) for message in branch] == list(range(len(branch)))
    assert branch[written - 1].text.endswith("字。")
    conversation.append("user", "after the crash")
    assert texts(path)[-1] == "after the crash"


APPEND_MANY = """
import sys
from pathlib import Path
from glmtui.chat.files import ConversationFile
file = ConversationFile(Path(sys.argv[1]))
for number in range(100):
    file.append([{"role": "user", "text": f"{sys.argv[2]} {number} " + "长" * 5000}])
"""


def test_writers_at_the_same_time_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    sample(path)
    processes = [subprocess.Popen([sys.executable, "-c", APPEND_MANY, str(path), name]) for name in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
    contents = ConversationFile(path).read()
    assert not contents.damaged
    written = [record["text"].split()[:2] for record in contents.records if "长" in record.get("text", "")]
    for name in "ab":
        assert [int(number) for writer, number in written if writer == name] == list(range(100))


def test_a_writer_that_hangs_with_the_lock_does_not_stop_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr("glmtui.locking.PATIENCE", 0.05)
    path = tmp_path / "c.jsonl"
    conversation = sample(path)
    with path.open("ab") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        conversation.append("user", "anyway")
    assert texts(path)[-1] == "anyway"


# --- names ---


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("如何加载 ChatGLM-6B？", "如何加载-ChatGLM-6B"),
        ('a/b\\c:d*e?f"g<h>i|j\0k', "a-b-c-d-e-f-g-h-i-j-k"),
        ("🙂🙂", ""),
        ("..", ""),
        ("नमस्ते", "नमस्ते"),
        ("長" * 100, "長" * 26),
    ],
)
def test_names_keep_every_script_and_suit_every_platform(title: str, expected: str) -> None:
    assert slug(title) == expected


@given(st.text())
def test_names_are_short_and_without_separators(title: str) -> None:
    name = file_stem(WHEN, title)
    assert len(name.encode()) <= 100
    assert not set(name) & set('/\\:*?"<>|\0\n')
    assert name == name.strip(" .")


def test_two_conversations_of_one_second_get_two_files(tmp_path: Path) -> None:
    made = [ConversationFile(folder=tmp_path) for _ in range(3)]
    for file in made:
        file.create([{"a": 1}], created=WHEN, title="同名")
    assert [file.path.name for file in made if file.path] == [
        "2026-11-22-080509 同名.jsonl",
        "2026-11-22-080509 同名-2.jsonl",
        "2026-11-22-080509 同名-3.jsonl",
    ]


@pytest.mark.skipif(os.name == "nt", reason="there are no permission bits")
def test_conversations_are_nobody_elses_business(tmp_path: Path) -> None:
    conversation = Conversation(folder=tmp_path / "conversations")
    conversation.append("user", "x")
    assert conversation.path is not None
    assert conversation.path.stat().st_mode & 0o077 == 0
    assert conversation.path.parent.stat().st_mode & 0o077 == 0

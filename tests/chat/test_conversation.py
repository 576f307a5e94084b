"""The tree: branches, deleting, and that a file read back gives the same one."""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmtui.chat.conversation import Conversation
from glmtui.chat.files import encode
from glmtui.chat.tree import Tree
from glmtui.errors import UserError


def texts(conversation: Conversation) -> list[str]:
    return [message.text for message in conversation.branch()]


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in conversation.messages_for_model()]


def state(conversation: Conversation) -> object:
    """Everything a person can see of a conversation."""
    return (
        conversation.id,
        conversation.title,
        conversation.pinned,
        dict(conversation.settings),
        conversation.leaf,
        list(conversation.messages.values()),
        [conversation.is_deleted(id_) for id_ in conversation.messages],
        [
            [m.id for m in conversation.siblings(id_)]
            for id_ in conversation.messages
            if not conversation.is_deleted(id_)
        ],
        conversation.branch(),
    )


def test_a_linear_conversation_is_its_branch() -> None:
    conversation = Conversation()
    question = conversation.append("user", "你好")
    answer = conversation.append("assistant", "你好！", meta={"model": "nano"})
    assert conversation.branch() == [question, answer]
    assert (question.parent, answer.parent) == (None, question.id)
    assert answer.meta["model"] == "nano"
    assert answer.time.tzinfo is not None
    assert said(conversation) == [("user", "你好"), ("assistant", "你好！")]


def test_editing_and_answering_again_make_branches_to_move_between() -> None:
    conversation = Conversation()
    first = conversation.append("user", "one")
    answer = conversation.append("assistant", "1")
    again = conversation.append("assistant", "1 again", parent=first.id)
    conversation.append("user", "more")
    edited = conversation.edit(first.id, "one, edited")
    assert texts(conversation) == ["one, edited"]
    assert conversation.siblings(first.id) == [first, edited]
    conversation.select(first.id)
    assert texts(conversation) == ["one", "1 again", "more"], "as far down as it was last read"
    conversation.select(answer.id)
    assert texts(conversation) == ["one", "1"]
    conversation.select(edited.id)
    conversation.select(first.id)
    assert texts(conversation) == ["one", "1"], "the branch that was read last"
    assert conversation.siblings(again.id) == [answer, again]


def test_deleting_hides_what_follows_and_undoing_brings_it_back() -> None:
    conversation = Conversation()
    question = conversation.append("user", "q")
    conversation.append("assistant", "a")
    second = conversation.append("user", "q2")
    third = conversation.append("assistant", "a2")
    conversation.delete(second.id)
    assert texts(conversation) == ["q", "a"]
    assert conversation.is_deleted(third.id)
    conversation.undelete(second.id)
    assert texts(conversation) == ["q", "a", "q2", "a2"]
    conversation.delete(question.id)
    assert conversation.branch() == []
    conversation.append("user", "from the start")
    conversation.undelete(question.id)
    assert texts(conversation) == ["q", "a", "q2", "a2"]


def test_deleting_one_answer_shows_the_other() -> None:
    conversation = Conversation()
    question = conversation.append("user", "q")
    conversation.append("assistant", "a")
    worse = conversation.append("assistant", "b", parent=question.id)
    conversation.delete(worse.id)
    assert texts(conversation) == ["q", "a"]


def test_deleting_elsewhere_keeps_the_branch() -> None:
    conversation = Conversation()
    question = conversation.append("user", "q")
    other = conversation.append("assistant", "a")
    conversation.append("assistant", "b", parent=question.id)
    conversation.delete(other.id)
    assert texts(conversation) == ["q", "b"]
    conversation.undelete(other.id)
    assert texts(conversation) == ["q", "b"]


def test_a_deletion_inside_a_deletion_stays_when_the_outer_one_is_undone() -> None:
    conversation = Conversation()
    outer = conversation.append("user", "q")
    inner = conversation.append("assistant", "a")
    conversation.delete(inner.id)
    conversation.delete(outer.id)
    conversation.undelete(inner.id)
    assert conversation.is_deleted(inner.id), "what it answers is still deleted"
    conversation.undelete(outer.id)
    assert not conversation.is_deleted(inner.id)


def test_an_answer_below_a_message_another_process_deleted_is_seen() -> None:
    conversation = Conversation()
    question = conversation.append("user", "q")
    conversation.delete(question.id)
    conversation.append("assistant", "late answer", parent=question.id)
    assert texts(conversation) == ["q", "late answer"]


def test_for_the_model_roles_alternate_and_what_is_empty_is_left_out() -> None:
    conversation = Conversation()
    conversation.append("user", "first try")
    conversation.append("assistant", "", state="stopped")
    conversation.append("user", "second try")
    conversation.append("assistant", "", state="partial")
    assert said(conversation) == [("user", "first try\nsecond try")]


@pytest.mark.parametrize("change", ["select", "delete"])
def test_what_is_not_there_cannot_be_chosen(change: str) -> None:
    conversation = Conversation()
    message = conversation.append("user", "q")
    conversation.delete(message.id)
    for id_ in (message.id, "nowhere"):
        with pytest.raises(KeyError):
            getattr(conversation, change)(id_)
    with pytest.raises(KeyError):
        conversation.append("user", "q", parent="nowhere")


@pytest.mark.parametrize(
    ("question", "answer", "title"),
    [
        ("如何加载 ChatGLM-6B 模型？\n我的显存只有 6 GB", "…", "如何加载 ChatGLM-6B 模型？"),
        ("你好", "你好👋！我是 ChatGLM\n很高兴", "你好 · 你好👋！我是 ChatGLM"),
        ("## **标题**", "", "标题"),
        ("```python\nprint(1)\n```", "", "print(1)"),
        ("\n\n1. a long enough line", "", "a long enough line"),
        ("x" * 100, "", "x" * 59 + "…"),
        ("2*3*4 等于多少", "", "2*3*4 等于多少"),
        ("2**3**4 and f(x)*g(x)*h", "", "2**3**4 and f(x)*g(x)*h"),
        ("-5 + 3 = ?", "", "-5 + 3 = ?"),
        ("def f(*args, **kwargs)", "", "def f(*args, **kwargs)"),
        ("#include <stdio.h>", "", "#include <stdio.h>"),
        ("```print(1)``` is what?", "", "print(1) is what?"),
        ("> - **复习：**10 轮 `x`", "", "复习：10 轮 x"),
        ("~~~\n*emphasis* here", "", "emphasis here"),
        ("a long line " * 10_000_000, "", "a long line " * 4 + "a long line…"),
    ],
    ids=lambda text: text[:20],
)
def test_the_title_comes_from_the_first_exchange(question: str, answer: str, title: str) -> None:
    conversation = Conversation()
    assert conversation.title == ""
    conversation.append("user", question)
    if answer:
        conversation.append("assistant", answer)
    assert conversation.title == title
    conversation.rename("  my own\n title ")
    assert conversation.title == "my own title"
    conversation.rename("")
    assert conversation.title == title


# --- the file ---


def test_the_file_appears_with_the_first_message(tmp_path: Path) -> None:
    folder = tmp_path / "conversations"
    conversation = Conversation(folder=folder)
    conversation.rename("标题")
    conversation.configure({"generation.top_p": 0.5})
    assert conversation.path is None
    assert not folder.exists()
    conversation.append("user", "hello")
    assert conversation.path is not None
    opened = Conversation.open(conversation.path)
    assert state(opened) == state(conversation)
    assert opened.title == "标题"


def test_a_checkpointed_answer_is_partial_until_it_is_finished(tmp_path: Path) -> None:
    conversation = Conversation(path=tmp_path / "c.jsonl")
    conversation.append("user", "讲个故事")
    answer = conversation.append("assistant", "", state="partial")
    conversation.extend(answer.id, "从前")
    conversation.extend(answer.id, "有座山🏔️")
    seen = Conversation.open(tmp_path / "c.jsonl").branch()[-1]
    assert (seen.text, seen.state) == ("从前有座山🏔️", "partial")
    conversation.finish(answer.id, "从前有座山🏔️。", "stopped", {"tokens": 9})
    seen = Conversation.open(tmp_path / "c.jsonl").branch()[-1]
    assert (seen.text, seen.state, seen.meta["tokens"]) == ("从前有座山🏔️。", "stopped", 9)


def test_a_continued_answer_is_in_a_copy_too(tmp_path: Path) -> None:
    conversation = Conversation()
    answer = conversation.append("assistant", "", state="partial")
    conversation.extend(answer.id, "cut o")
    conversation.finish(answer.id, "cut off", "length")
    conversation.extend(answer.id, ", continued")
    assert [record["type"] for record in conversation.records()] == [
        "conversation",
        "message",
        "finish",
        "extend",
    ]
    assert Tree(conversation.records()).messages[answer.id].text == "cut off, continued"


def test_an_edit_by_hand_of_the_same_length_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    conversation = Conversation(path=path)
    conversation.append("user", "wrong")
    data = path.read_bytes().replace(b"wrong", b"right")
    path.write_bytes(data)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert conversation.refresh()
    assert texts(conversation) == ["right"]


def test_two_processes_may_work_on_one_file(tmp_path: Path) -> None:
    ours = Conversation(path=tmp_path / "c.jsonl")
    ours.append("user", "q")
    theirs = Conversation.open(tmp_path / "c.jsonl")
    theirs.append("assistant", "their answer")
    ours.append("assistant", "our answer")
    assert {m.text for m in ours.messages.values()} == {"q", "their answer", "our answer"}
    assert texts(ours) == ["q", "our answer"], "our branch stays where we are"
    assert theirs.refresh()
    assert not theirs.refresh()
    assert state(theirs) == state(ours) == state(Conversation.open(tmp_path / "c.jsonl"))


def test_a_file_deleted_under_our_hands_is_written_anew(tmp_path: Path) -> None:
    conversation = Conversation(folder=tmp_path)
    conversation.append("user", "q")
    assert conversation.path is not None
    conversation.path.unlink()
    conversation.append("assistant", "a")
    assert state(Conversation.open(conversation.path)) == state(conversation)


def test_what_cannot_be_saved_is_kept_and_written_with_the_next_change(tmp_path: Path) -> None:
    blocker = tmp_path / "conversations"
    blocker.write_text("a file where the folder should be")
    conversation = Conversation(folder=blocker)
    with pytest.raises(UserError, match="conversations"):
        conversation.append("user", "不能丢")
    assert texts(conversation) == ["不能丢"]
    assert conversation.unsaved
    blocker.unlink()
    conversation.append("assistant", "a")
    assert not conversation.unsaved
    assert conversation.path is not None
    assert texts(Conversation.open(conversation.path)) == ["不能丢", "a"]


def test_a_conversation_of_an_existing_path_goes_on_in_it(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    Conversation(path=path).append("user", "old")
    Conversation(path=path).append("user", "new")
    assert [m.text for m in Conversation.open(path).messages.values()] == ["old", "new"]


def test_lone_surrogates_do_not_stop_saving(tmp_path: Path) -> None:
    conversation = Conversation(path=tmp_path / "c.jsonl")
    conversation.append("user", "bad \ud800 half", meta={"model": "\udcff"})
    conversation.rename("\udcff")
    opened = Conversation.open(tmp_path / "c.jsonl")
    assert texts(opened) == texts(conversation) == ["bad \ufffd half"]


def test_opening_what_is_not_there_names_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.jsonl"):
        Conversation.open(tmp_path / "nothing.jsonl")


# --- hand-made and foreign records ---


def test_a_hand_written_file_needs_only_roles_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"role": "user", "text": "问"}\n\n{"role": "assistant", "text": "答"}', encoding="utf-8")
    conversation = Conversation.open(path)
    assert said(conversation) == [("user", "问"), ("assistant", "答")]
    conversation.append("user", "再问")
    assert texts(Conversation.open(path)) == ["问", "答", "再问"]


def test_a_missing_parent_is_the_message_before() -> None:
    tree = Tree(
        [
            {"type": "message", "id": "a", "parent": None, "role": "user", "text": "1"},
            {"type": "message", "id": "c", "parent": "b", "role": "user", "text": "2"},
            {"type": "message", "id": "d", "parent": "d", "role": "user", "text": "3"},
            {"type": "message", "id": "e", "parent": ["x"], "role": "user", "text": "4"},
        ]
    )
    assert [m.text for m in tree.path(tree.leaf)] == ["1", "2", "3", "4"]


def test_a_second_message_with_the_same_id_is_kept() -> None:
    record = {"type": "message", "id": "a", "parent": None, "role": "user", "text": "1"}
    tree = Tree([record, record, {**record, "parent": "a", "text": "2"}])
    assert [(m.id, m.text) for m in tree.messages.values()] == [("a", "1"), ("a-2", "2")]


def test_strange_records_are_passed_over() -> None:
    good = {"type": "message", "id": "a", "parent": None, "role": "user", "text": "1", "colour": "red"}
    strange: list[dict[str, object]] = [
        {},
        {"type": 3},
        {"type": "hologram", "id": "a"},
        {"type": "message", "id": "b", "role": "robot", "text": "x"},
        {"type": "message", "id": "b", "role": ["user"], "text": "x"},
        {"type": "message", "id": "b", "role": "user", "text": 4},
        {"type": "extend", "id": "nowhere", "text": "x"},
        {"type": "extend", "id": "a", "text": None},
        {"type": "finish", "id": "nowhere", "text": "x"},
        {"type": "select", "id": ["a"]},
        {"type": "delete"},
        {"type": "undelete", "id": "a"},
        {"type": "title", "title": 7},
        {"type": "settings", "values": []},
        {"type": "conversation", "id": 4, "created": 5, "version": "x"},
    ]
    tree = Tree([good, *strange])
    assert list(tree.messages) == ["a"]
    assert tree.leaf == "a"
    odd = {"type": "message", "role": "user", "text": "2", "state": {}, "meta": 1, "time": "yesterday"}
    tree.apply(odd)
    assert [m.text for m in tree.path(tree.leaf)] == ["1", "2"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["a", "b", "user"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
TYPES = [
    "conversation",
    "message",
    "extend",
    "finish",
    "select",
    "delete",
    "undelete",
    "title",
    "pin",
    "settings",
]
KEYS = [
    "id",
    "parent",
    "role",
    "text",
    "time",
    "state",
    "meta",
    "at",
    "title",
    "values",
    "version",
    "created",
]


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(TYPES), st.dictionaries(st.sampled_from(KEYS), JSON)), max_size=12))
def test_any_records_make_a_tree(pairs: list[tuple[str, dict[str, object]]]) -> None:
    tree = Tree({"type": type_, **record} for type_, record in pairs)
    assert all(tree.visible(message.id) for message in tree.path(tree.leaf))
    for message in tree.messages.values():
        assert tree.path(message.id)[-1] == message


def test_a_newer_format_opens_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(
        encode(
            [
                {"type": "conversation", "version": 9, "id": "x"},
                {"type": "reaction", "emoji": "👍"},
                {"role": "user", "text": "q"},
            ]
        )
    )
    conversation = Conversation.open(path)
    assert conversation.newer_format
    assert texts(conversation) == ["q"]
    assert {"type": "reaction", "emoji": "👍"} in conversation.records()


def test_times_of_other_forms_are_read() -> None:
    tree = Tree(
        [
            {"role": "user", "text": "1", "time": "2026-01-02T03:04:05Z"},
            {"role": "user", "text": "2", "time": "2026-01-02T03:04:05"},
        ]
    )
    first, second = tree.messages.values()
    assert first.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert second.time.tzinfo is not None


# --- any sequence of changes ---

CHANGES = ["append", "append", "append", "answer", "edit", "regenerate", "extend", "finish", "select"]
CHANGES += ["delete", "undelete", "rename", "pin", "configure", "reload", "other"]
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(CHANGES),
        st.integers(0, 2**16),
        st.text(max_size=12),
    ),
    max_size=25,
)


def change(conversation: Conversation, name: str, number: int, text: str) -> None:
    """Make one change, choosing by `number` among the messages it can be made to."""
    visible = [m for m in conversation.messages.values() if not conversation.is_deleted(m.id)]
    if name == "append":
        conversation.append("user", text)
    elif name == "answer":
        conversation.append("assistant", text, state="partial", meta={"n": number})
    elif name == "rename":
        conversation.rename(text)
    elif name == "pin":
        conversation.pin(bool(number % 2))
    elif name == "configure":
        conversation.configure({f"key {number % 3}": None if number % 2 else number})
    elif name == "undelete" and conversation.messages:
        conversation.undelete(list(conversation.messages)[number % len(conversation.messages)])
    elif not visible:
        return
    else:
        message = visible[number % len(visible)]
        if name == "edit":
            assert conversation.edit(message.id, text) in conversation.siblings(message.id)
        elif name == "regenerate":
            conversation.append("assistant", text, parent=message.parent)
        elif name == "extend":
            conversation.extend(message.id, text)
            assert conversation.messages[message.id].text == message.text + text
        elif name == "finish":
            conversation.finish(message.id, text, "stopped", {"done": number})
        elif name == "select":
            conversation.select(message.id)
            assert message in conversation.branch()
        elif name == "delete":
            conversation.refresh()  # what another process added would move the end of the branch
            leaf = conversation.leaf
            conversation.delete(message.id)
            assert message not in conversation.branch()
            if number % 2:
                conversation.undelete(message.id)
                assert conversation.leaf == leaf


@settings(max_examples=120)
@given(operations=OPERATIONS)
def test_any_sequence_of_changes_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, str]]
) -> None:
    path = tmp_path_factory.mktemp("chat") / "c.jsonl"
    conversation = Conversation(path=path)
    for name, number, text in operations:
        if name == "reload" and path.exists():
            conversation = Conversation.open(path)
        elif name == "other" and path.exists():
            Conversation.open(path).append("user", text)
        else:
            change(conversation, name, number, text)
        branch = conversation.branch()
        assert [m.parent for m in branch] == [None, *(m.id for m in branch)][: len(branch)]
        assert not any(conversation.is_deleted(m.id) for m in branch)
    if path.exists():
        conversation.refresh()
        assert state(Conversation.open(path)) == state(conversation)
        copy = path.with_name("copy.jsonl")
        copy.write_bytes(encode(conversation.records()))
        assert state(Conversation.open(copy)) == state(conversation)


def test_ten_thousand_messages_on_many_branches_are_read_in_linear_time() -> None:
    """Answered again at every question: nothing in the tree may cost a walk to the root per record."""
    records: list[dict[str, object]] = [{"type": "conversation", "id": "x"}]
    parent = None
    time = datetime(2026, 1, 1, tzinfo=timezone.utc)
    for number in range(3_000):
        for id_, after, role in (
            ("q", parent, "user"),
            ("a", f"q{number}", "assistant"),
            ("b", f"q{number}", "assistant"),
        ):
            time += timedelta(seconds=1)
            records.append(
                {"type": "message", "id": f"{id_}{number}", "parent": after, "role": role, "text": "t",
                 "time": time.isoformat()}
            )  # fmt: skip
        parent = f"b{number}"
    calls = 0
    original = Tree.path

    def counting(self: Tree, message_id: str | None) -> list[object]:
        nonlocal calls
        calls += 1
        return original(self, message_id)  # type: ignore[return-value]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tree, "path", counting)
        tree = Tree(records)
    assert calls == 0
    assert len(tree.path(tree.leaf)) == 6_000

"""Any sequence of what can happen to a conversation leaves a file that gives the same tree.

Changes, undo, reopening, another process that appends, a crash that tears the last line at any byte, and
edits by hand that add lines, spoil lines or reorder keys.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from glmtui.chat.conversation import Conversation
from glmtui.chat.files import encode, parse
from glmtui.chat.tree import Tree

TEXTS = st.text(max_size=12)
NUMBERS = st.integers(0, 2**16)


def state(conversation: Conversation) -> dict[str, Any]:
    """All that a person could see of a conversation, on every branch."""
    ids = list(conversation.messages)
    return {
        "messages": list(conversation.messages.values()),
        "branch": [message.id for message in conversation.branch()],
        "hidden": [id_ for id_ in ids if conversation.is_deleted(id_)],
        "versions": [[m.id for m in conversation.siblings(id_)] for id_ in ids],
        "about": (conversation.id, conversation.title, conversation.pinned, dict(conversation.settings)),
    }


class ConversationMachine(RuleBasedStateMachine):
    """One conversation in one file."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "c.jsonl"
        self.conversation = Conversation(path=self.path)
        self.conversation.append("user", "first")
        self.deleted: list[str] = []

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def pick(self, number: int) -> str | None:
        ids = [id_ for id_ in self.conversation.messages if not self.conversation.is_deleted(id_)]
        return ids[number % len(ids)] if ids else None

    # --- what the app does ---

    @rule(text=TEXTS)
    def ask(self, text: str) -> None:
        message = self.conversation.append("user", text)
        assert self.conversation.branch()[-1] == message

    @rule(text=TEXTS, state=st.sampled_from(["done", "stopped", "length", "failed"]))
    def answer(self, text: str, state: Any) -> None:
        message = self.conversation.append("assistant", "", state="partial", meta={"model": "m"})
        self.conversation.extend(message.id, text[: len(text) // 2])
        done = self.conversation.finish(message.id, text, state, {"tokens": 3})
        assert (done.text, done.state) == (self.conversation.messages[message.id].text, state)

    @rule(number=NUMBERS, text=TEXTS)
    def edit(self, number: int, text: str) -> None:
        if id_ := self.pick(number):
            before = self.conversation.messages[id_]
            made = self.conversation.edit(id_, text)
            assert made in self.conversation.siblings(id_)
            assert self.conversation.messages[id_] == before, "the old version stays"

    @rule(number=NUMBERS, text=TEXTS)
    def regenerate(self, number: int, text: str) -> None:
        if id_ := self.pick(number):
            self.conversation.append("assistant", text, parent=self.conversation.messages[id_].parent)

    @rule(number=NUMBERS, text=TEXTS)
    def go_on(self, number: int, text: str) -> None:
        if id_ := self.pick(number):
            self.conversation.extend(id_, text)

    @rule(number=NUMBERS)
    def move(self, number: int) -> None:
        if id_ := self.pick(number):
            self.conversation.select(id_)
            assert id_ in [message.id for message in self.conversation.branch()]

    @rule(number=NUMBERS)
    def delete(self, number: int) -> None:
        if id_ := self.pick(number):
            self.conversation.delete(id_)
            self.deleted.append(id_)
            assert self.conversation.is_deleted(id_)

    @precondition(lambda self: self.deleted)
    @rule()
    def undo(self) -> None:
        id_ = self.deleted.pop()
        before = set(self.conversation.messages)
        if id_ in before:
            self.conversation.undelete(id_)
        assert set(self.conversation.messages) == before

    @rule(number=NUMBERS)
    def delete_and_undo_at_once(self, number: int) -> None:
        if id_ := self.pick(number):
            before = state(self.conversation)
            self.conversation.delete(id_)
            self.conversation.undelete(id_)
            assert state(self.conversation) == before

    @rule(text=TEXTS)
    def rename(self, text: str) -> None:
        self.conversation.rename(text)

    @rule(number=NUMBERS)
    def pin(self, number: int) -> None:
        self.conversation.pin(number % 2 == 0)
        self.conversation.configure({"generation.top_p": number % 3 or None})

    # --- what happens to the file ---

    @rule()
    def reload(self) -> None:
        before = state(self.conversation)
        self.conversation = Conversation.open(self.path)
        assert state(self.conversation) == before

    @rule()
    def copy(self) -> None:
        other = self.path.with_name("copy.jsonl")
        other.write_bytes(encode(self.conversation.records()))
        assert state(Conversation.open(other)) == state(self.conversation)

    @rule(text=TEXTS)
    def another_process_appends(self, text: str) -> None:
        made = Conversation.open(self.path).append("user", text)
        self.conversation.refresh()
        assert made.id in self.conversation.messages

    @rule(number=NUMBERS)
    def crash(self, number: int) -> None:
        """The last line is torn at any byte; what was written before it is all there."""
        data = self.path.read_bytes()
        start = data.rstrip(b"\n").rfind(b"\n") + 1
        if not start:  # never the header: without it a file is no conversation of ours
            return
        cut = start + number % (len(data) - start + 1)
        self.path.write_bytes(data[:cut])
        whole = Tree(parse(data[:start]).records)
        self.conversation = Conversation.open(self.path)
        assert len(self.conversation.damaged) <= len(parse(data).damaged) + 1
        assert set(whole.messages) <= set(self.conversation.messages)

    @rule(number=NUMBERS, text=TEXTS)
    def edit_by_hand(self, number: int, text: str) -> None:
        """Someone adds a line, spoils one, writes keys in another order, or changes a text."""
        lines = self.path.read_bytes().rstrip(b"\n").split(b"\n")
        at = 1 + number % len(lines)
        kind = number % 4
        if kind == 0:
            lines.insert(at, json.dumps({"role": "user", "text": text}).encode())
        elif kind == 1:
            lines.insert(at, b"not json \xff" + text.encode("utf-8", "replace"))
        else:
            record = next(iter(parse(lines[at - 1]).records), {})
            if kind == 2 and isinstance(record.get("text"), str):
                record["text"] = text
            if record:
                ordered = {key: record[key] for key in sorted(record)}
                lines[at - 1] = json.dumps(ordered, ensure_ascii=False).encode("utf-8", "replace")
        self.path.write_bytes(b"\n".join(lines) + b"\n")
        self.conversation = Conversation.open(self.path)

    # --- what always holds ---

    @invariant()
    def the_file_gives_the_same_tree(self) -> None:
        if not hasattr(self, "conversation"):
            return
        branch = self.conversation.branch()
        assert [message.parent for message in branch] == [None, *(m.id for m in branch)][: len(branch)]
        assert not any(self.conversation.is_deleted(message.id) for message in branch)
        assert state(Conversation.open(self.path)) == state(self.conversation)


TestConversation = ConversationMachine.TestCase
TestConversation.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)

"""Whatever a person does in whatever order, nothing they wrote is lost, and one answer is made at a time."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scripted_engine import ScriptedEngine
from session.conftest import Chat

from glmtui import paths
from glmtui.chat.state_log import Drafts, QueuedMessages
from glmtui.protocol.requests import Generate


class SessionMachine(RuleBasedStateMachine):
    """The session around an engine that holds its answers and loads."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.before = os.environ.get("GLMTUI_HOME")
        os.environ["GLMTUI_HOME"] = self.folder.name
        self.loop = asyncio.new_event_loop()
        self.written: list[str] = []
        """Every message that was entered, each with a text of its own."""

    @initialize(hold_load=st.booleans())
    def start(self, hold_load: bool) -> None:
        self.chat = Chat(ScriptedEngine("An answer in two halves.", hold=True, hold_load=hold_load))
        self.engine = self.chat.engine
        self.chat.load()
        self.do(self.chat.poll())

    def teardown(self) -> None:
        self.chat.close()
        self.loop.close()
        if self.before is None:
            del os.environ["GLMTUI_HOME"]
        else:
            os.environ["GLMTUI_HOME"] = self.before
        self.folder.cleanup()

    def do(self, work: Coroutine[Any, Any, object]) -> None:
        self.loop.run_until_complete(work)

    # --- what a person does ---

    @rule(count=st.integers(1, 3), poll=st.booleans())
    def enter(self, count: int, poll: bool) -> None:
        """Send what is written, with one word more, so that every message is another."""
        for _time in range(count):
            words = f"message-{len(self.written)}."
            self.written.append(words)
            text = " ".join(filter(None, (self.chat.fake_ui.text, words)))
            self.do(self.chat.enter(text))
        if poll:
            self.do(self.chat.poll())

    @rule(poll=st.booleans())
    def cancel(self, poll: bool) -> None:
        self.chat.stop()
        if poll:
            self.do(self.chat.poll())

    @rule()
    def escape(self) -> None:
        self.chat.edit_no_more()

    @rule(number=st.integers(0, 5))
    def edit(self, number: int) -> None:
        """What stands in the composer is cleared by the edit, so it is sent first."""
        mine = [message for message in self.chat.conversation.branch() if message.role == "user"]
        if mine and not self.chat.fake_ui.text:
            self.chat.edit(mine[number % len(mine)].id)

    @rule(number=st.integers(-1, 4))
    def unqueue(self, number: int) -> None:
        self.chat.unqueue(number)

    @rule(number=st.integers(0, 4))
    def cancel_queued(self, number: int) -> None:
        """Only to take it back again: else it is lost because the person wants it."""
        if self.chat.cancel_queued(number):
            self.do(self.chat.undo())

    @rule(number=st.integers(0, 4), by=st.sampled_from([-1, 1]))
    def move(self, number: int, by: int) -> None:
        self.chat.move_queued(number, by)

    @rule(number=st.none() | st.integers(0, 4))
    def send_queued(self, number: int | None) -> None:
        self.do(self.chat.send_queued(number))

    @rule()
    def new(self) -> None:
        self.do(self.chat.run("new"))

    @rule(number=st.integers(0, 9))
    def open(self, number: int) -> None:
        if found := self.chat.library.list():
            self.do(self.chat.open(found[number % len(found)].id))

    @rule(number=st.integers(0, 9))
    def delete(self, number: int) -> None:
        """Hide a message; it is in the file all the same."""
        if branch := self.chat.conversation.branch():
            self.do(self.chat.delete(branch[number % len(branch)].id))

    @rule()
    def trash(self) -> None:
        self.do(self.chat.run("delete"))

    @rule()
    def undo(self) -> None:
        self.do(self.chat.undo())

    @rule(name=st.sampled_from(["regenerate", "continue"]))
    def answer_again(self, name: str) -> None:
        self.do(self.chat.run(name))

    @rule(quant=st.sampled_from(["none", "8", "4"]))
    def load(self, quant: str) -> None:
        self.do(self.chat.run("quant", quant))

    # --- what the engine does ---

    @rule()
    def poll(self) -> None:
        self.do(self.chat.poll())

    @precondition(lambda self: self.engine.answering)
    @rule(fail=st.booleans())
    def finish(self, fail: bool) -> None:
        self.engine.fail = "It failed." if fail else None
        self.engine.finish()

    @precondition(lambda self: self.engine.loading)
    @rule(fail=st.booleans(), keeps=st.booleans())
    def finish_load(self, fail: bool, keeps: bool) -> None:
        self.engine.fail, self.engine.keeps = ("It failed." if fail else None), keeps
        self.engine.finish_load()

    # --- what always holds ---

    @invariant()
    def nothing_is_lost(self) -> None:
        files = [path.read_text("utf-8") for path in paths.data_dir().rglob("*.jsonl")]
        queued = [entry["text"] for entry in stored_queue()]
        drafts = [str(record["text"]) for record in Drafts()._file._latest.values()]
        everything = "\n".join([*files, *queued, *drafts, self.chat.fake_ui.text])
        assert [words for words in self.written if words not in everything] == []

    @invariant()
    def the_queue_on_disk_is_the_queue(self) -> None:
        assert list(self.chat.state.queued) == self.chat.queued
        stored = sorted(entry["text"] for entry in stored_queue())
        assert stored == sorted(item.text for item in self.chat._queue)

    @invariant()
    def one_answer_at_a_time(self) -> None:
        assert sum(isinstance(request, Generate) for request, _stream in self.engine._queue) <= 1

    @invariant()
    def the_state_fits_what_runs(self) -> None:
        chat, state = self.chat, self.chat.state
        assert (state.activity == "loading") == chat.loading
        assert state.busy <= (chat.answer is not None)
        assert (chat.answer is not None) <= (state.busy or chat.loading)
        assert (state.info is not None) == (state.activity in ("ready", "reading", "answering"))
        partial = [m for m in chat.conversation.messages.values() if m.state == "partial"]
        running = chat.answer and chat.answer.message.id
        assert [message.id for message in partial if message.id != running] == []


def stored_queue() -> list[dict[str, Any]]:
    """What another program would find on the disk after this one ended."""
    found: list[Any] = [record["waiting"] for record in QueuedMessages()._file._latest.values()]
    return [entry for item in found for entry in item["items"]]


SessionMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSession = SessionMachine.TestCase


def test_the_folder_of_the_machine_is_gone(home: Path) -> None:
    """The machine has set the variable that names it back."""
    assert os.environ["GLMTUI_HOME"] == str(home)

"""A small number of each crash and fault; `faults` says how to try many."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta, timezone
from multiprocessing import get_context
from pathlib import Path

import pytest

pytest.importorskip("pty", reason="pseudo-terminals and limits are POSIX's")

import resource

from scripted_engine import ScriptedEngine
from session.conftest import Chat, ready

from faults import kills, power_cuts
from faults.disk import Disk
from faults.power_cuts import found_in_home, start_again
from glmtui.chat import conversation
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.settings.settings import Settings

pytestmark = pytest.mark.slow

Fault = Callable[[Disk], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_power_loss() -> None:
    figures = power_cuts.run(24, per_session=12, seed=1)
    assert figures.cuts == 24
    assert figures.acknowledged
    assert figures.good, [*figures.lost, *figures.doubled, *figures.unreadable]


@pytest.mark.parametrize(("way", "count"), [("full", 1), ("plain", 2)])
def test_kill(way: str, count: int) -> None:
    figures = kills.run(count, seed=4, ways=(way,))
    assert figures.kills == count
    assert figures.wrong == []


def failing(number: int) -> Fault:
    @contextmanager
    def fault(disk: Disk) -> Iterator[None]:
        disk.error = lambda operation: number if operation != "read" else None
        yield
        disk.error = lambda _operation: None

    return fault


def limited(kind: int, soft: Callable[[], int]) -> Fault:
    @contextmanager
    def fault(_disk: Disk) -> Iterator[None]:
        before = resource.getrlimit(kind)
        resource.setrlimit(kind, (soft(), before[1]))
        try:
            yield
        finally:
            resource.setrlimit(kind, before)

    return fault


FAULTS = {
    "full": failing(errno.ENOSPC),
    "broken": failing(errno.EIO),
    "read-only": failing(errno.EROFS),
    "quota": failing(errno.EDQUOT),
    "file size": limited(resource.RLIMIT_FSIZE, lambda: 600),
    "open files": limited(resource.RLIMIT_NOFILE, lambda: 3),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_what_cannot_be_written_is_told_once_and_written_later(fault: Fault, home: Path) -> None:
    disk = Disk(home)
    with disk.mounted():
        chat = await ready(Chat(ScriptedEngine("An answer.", hold=True)))
        await chat.enter("question-1.")
        await chat.enter("question-2.")
        chat.told.clear()
        with fault(disk):
            await chat.enter("question-3.")
            chat.engine.finish()
            await chat.poll()
            await chat.enter("/set top_k 7")
            await chat.enter("/new")
            await chat.enter("question-4.")
            chat.draft_changed("half a sen")
            chat.engine.finish()
            await chat.poll()
            told = chat.notices("error")
            assert told
            assert len(told) == len(set(told)), "each is told once"
            assert chat.settings["generation.top_k"] == 7
        chat.saving.again(chat.conversation)
        await chat.poll()
        assert "What could not be saved before is saved now." in chat.notices()
        await chat.enter("/set top_k 8")
        await chat.enter("question-5.")
        assert Settings.load()["generation.top_k"] == 8
        chat.close()
    found = found_in_home()
    assert {mark: found[mark] for mark in map("question-{}.".format, range(1, 6))} == dict.fromkeys(found, 1)
    await start_again()


def live(path: Path, name: int) -> None:
    """Be one of several programs that write to one conversation."""

    async def chatting() -> None:
        chat = await ready(Chat(ScriptedEngine("Yes.")))
        await chat.open(path)
        for number in range(8):
            await chat.enter(f"question-{name}{number}.")
            await chat.idle()
            await chat.enter(f"/set top_k {number + 1}")
        chat.close()

    asyncio.run(chatting())


def test_three_programs_on_one_home(home: Path) -> None:
    path = home / "data" / "conversations" / "one.jsonl"
    Conversation(path=path).append("user", "question-0.")
    programs = [get_context("fork").Process(target=live, args=(path, name)) for name in (1, 2, 3)]
    for program in programs:
        program.start()
    for program in programs:
        program.join(60)
    assert [program.exitcode for program in programs] == [0, 0, 0]
    found = found_in_home()
    assert len(found) == 25
    assert set(found.values()) == {1}
    assert Conversation.open(path).damaged == ()
    assert Settings.load().problems == []


def test_the_clock_jumps(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summer = datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    times = [
        summer,
        summer.astimezone(timezone(timedelta(hours=1))),
        datetime(2061, 1, 1, tzinfo=timezone.utc),
        datetime(1970, 1, 1, tzinfo=timezone.utc),
        summer + timedelta(days=1),
    ]
    chat = Library().create()
    for number, time in enumerate(times):
        monkeypatch.setattr(conversation, "_now", lambda time=time: time)
        chat.append("user", f"question-{number}.")
        answer = chat.append("assistant", "", state="partial")
        chat.extend(answer.id, f"answer-{number}.")
        chat.finish(answer.id, f"answer-{number}.")
    assert chat.path is not None
    again = Conversation.open(chat.path)
    assert [m.text for m in again.branch()] == [
        text for number in range(5) for text in (f"question-{number}.", f"answer-{number}.")
    ]
    assert [m.time for m in again.branch()[::2]] == times
    assert len(again.messages) == 10
    other = Library().create()
    other.append("user", "later")
    assert {summary.id for summary in Library().list()} == {chat.id, other.id}


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
async def test_a_home_that_cannot_be_written(home: Path) -> None:
    home.chmod(0o500)
    try:
        chat = await ready(Chat(ScriptedEngine("Yes.")))
        await chat.enter("question-1.")
        await chat.idle()
        assert [message.text for message in chat.conversation.branch()] == ["question-1.", "Yes."]
        assert chat.notices("error")
    finally:
        home.chmod(0o700)

"""Power loss: a session goes on for a while, the power goes at some moment, and the home is opened again.

A message counts as acknowledged when the session has shown it, or shown it in the queue, and an answer when
it has ended. After each cut each of them is there, once, and the next session starts and can be written to.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from unittest import mock

from scripted_engine import ScriptedEngine
from session.conftest import Chat

from faults.disk import Disk, FolderNode, write_after_cut
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.chat.state_log import Drafts, QueuedMessages
from glmtui.errors import UserError
from glmtui.session.attached_file import AttachedFile
from glmtui.session.events import AnswerEnded, MessageAdded
from glmtui.settings.settings import Settings

STEPS = 25
"""Things that a person does in one session."""


@dataclass
class Cut:
    """How things stood when the power went."""

    tree: FolderNode
    acknowledged: frozenset[str]
    unsettled: bool
    """A setting is being changed."""
    top_k: object


@dataclass
class Figures:
    """What came of it."""

    sessions: int = 0
    cuts: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.unreadable)

    def __str__(self) -> str:
        return (
            f"{self.cuts} power cuts in {self.sessions} sessions, {self.seconds:.0f} s: "
            f"{self.acknowledged} messages acknowledged, {len(self.lost)} lost, {len(self.doubled)} doubled; "
            f"{len(self.unreadable)} homes or files that do not open"
        )


class Person:
    """Somebody who does things at random in a session on `disk`, which is cut now and then."""

    def __init__(self, disk: Disk, rng: random.Random, cuts: int) -> None:
        self.rng = rng
        self.chat = Chat(ScriptedEngine("An answer of two halves.", hold=True))
        self.acknowledged: set[str] = set()
        self.cuts: list[Cut] = []
        self._disk = disk
        self._wanted = cuts
        self._count = self._operations = 0
        self._unsettled = False
        self._top_k: object = None
        disk.before_each = self._maybe_cut

    def _maybe_cut(self) -> None:
        """Keep `_wanted` of all moments, each as likely as any other."""
        self._operations += 1
        at = len(self.cuts) if len(self.cuts) < self._wanted else self.rng.randrange(self._operations)
        if at < self._wanted:
            self._acknowledge()
            cut = Cut(
                copy.deepcopy(self._disk.tree), frozenset(self.acknowledged), self._unsettled, self._top_k
            )
            self.cuts[at : at + 1] = [cut]

    def _acknowledge(self) -> None:
        queued = [item.text for item in self.chat.state.queued]
        shown = [event.message.text for event in self.chat.told if isinstance(event, MessageAdded)]
        ended = [event.message.text for event in self.chat.told if isinstance(event, AnswerEnded)]
        self.acknowledged.update(*map(marks, (*queued, *shown, *ended)))

    async def live(self) -> None:
        """Do what a person does, for a while."""
        chat = self.chat
        chat.load()
        await chat.poll()
        for _step in range(STEPS):
            await self.rng.choice([self._send] * 6 + [self._finish] * 4 + [self._tidy] * 4)()
            await chat.poll()
            self._acknowledge()
        chat.close()

    async def _send(self) -> None:
        self._count += 1
        files = [AttachedFile("a.txt", "/a.txt", f"file {self._count}")] if self.rng.random() < 0.2 else []
        text = f"{self.chat.fake_ui.text} question-{self._count}.".strip()
        self.chat.draft_changed(text)
        await self.chat.enter(text, files)

    async def _finish(self) -> None:
        engine = self.chat.engine
        if engine.answering:
            self._count += 1
            engine.answers = [f"An answer. answer-{self._count}. {'More. ' * self.rng.choice([1, 300])}"]
            self.rng.choice([engine.finish, self.chat.stop])()

    async def _tidy(self) -> None:
        chat, rng = self.chat, self.rng
        line = rng.choice(
            ["/new", "/delete", "/undo", "/title Title", "/pin", "/set top_k", "unqueue", "open"]
        )
        if line == "unqueue":
            chat.unqueue()
        elif line == "open":
            if found := chat.library.list():
                await chat.open(rng.choice(found).id)
        elif line == "/set top_k":
            self._unsettled = True
            await chat.run("set", f"top_k {(value := rng.randrange(1, 100))}")  # what is being written stays
            self._unsettled, self._top_k = False, value
        else:
            await chat.run(line[1:].split()[0], line.partition(" ")[2])


def marks(text: str) -> list[str]:
    """The numbered words of a text: each is written once."""
    return re.findall(r"(?:question|answer)-\d+\.", text)


def found_in_home() -> Counter[str]:
    """Which marks a person finds again, and in how many messages; a draft alone counts too.

    Raises:
        UserError: a conversation that holds a record does not open.
    """
    conversations: dict[str, Conversation] = {}
    library = Library()
    for path in [*library.folder.glob("*.jsonl"), *library.folder.glob("trash/*.jsonl")]:
        if b'"role"' in path.read_bytes():  # else nothing was acknowledged
            conversation = Conversation.open(path)
            conversations.setdefault(conversation.id, conversation)
    texts = [m.text for c in conversations.values() for m in c.messages.values()]
    sent = {message_id for c in conversations.values() for message_id in c.messages}
    queues = QueuedMessages()
    with mock.patch("glmtui.chat.state_log._runs", return_value=False):
        queued = [item for id_ in queues._file.all() for item in queues.get(id_)]
    texts += [item.text for item in queued if item.id not in sent]
    found = Counter(mark for text in texts for mark in set(marks(text)))
    drafts = [str(record["text"]) for record in Drafts()._file.all().values()]
    return found | Counter(mark for text in drafts for mark in set(marks(text)))


async def start_again() -> None:
    """Open the home as the next start does, and send something.

    Raises:
        AssertionError: it is not in the file.
    """
    chat = Chat(ScriptedEngine("Yes."))
    await chat.open_first()
    chat.library.list()
    chat.load()
    await chat.poll()
    await chat.send_queued()
    await chat.enter("still there?")
    for _count in range(20):
        await chat.poll()
    assert ("user", "still there?") in chat.texts()
    chat.close()


def run(count: int, per_session: int, seed: int) -> Figures:
    """Cut the power `count` times."""
    figures, begun = Figures(), perf_counter()
    before = os.environ.get("GLMTUI_HOME")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        root = Path(folder) / "home"
        os.environ["GLMTUI_HOME"] = str(root)
        try:
            while figures.cuts < count:
                figures.sessions += 1
                rng = random.Random(f"{seed} {figures.sessions}")
                _one_session(root, rng, min(per_session, count - figures.cuts), figures)
        finally:
            if before is None:
                del os.environ["GLMTUI_HOME"]
            else:
                os.environ["GLMTUI_HOME"] = before
    figures.seconds = perf_counter() - begun
    return figures


def _one_session(root: Path, rng: random.Random, cuts: int, figures: Figures) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    disk = Disk(root)
    with disk.mounted():
        person = Person(disk, rng, cuts)
        asyncio.run(person.live())
    for number, cut in enumerate(person.cuts):
        where = f"session {figures.sessions}, cut {number}"
        write_after_cut(cut.tree, root, rng)
        figures.cuts += 1
        figures.acknowledged += len(cut.acknowledged)
        try:
            found = found_in_home()
            if not cut.unsettled and cut.top_k is not None:
                assert Settings.load()["generation.top_k"] == cut.top_k
            asyncio.run(start_again())
        except (UserError, AssertionError, OSError) as error:
            figures.unreadable.append(f"{where}: {error!r}")
            continue
        figures.lost += [f"{where}: {mark}" for mark in sorted(cut.acknowledged) if not found[mark]]
        figures.doubled += [f"{where}: {mark}" for mark in sorted(found) if found[mark] > 1]


def main() -> int:
    """Run it by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--per-session", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    figures = run(options.count, options.per_session, options.seed)
    print(f"seed {options.seed}: {figures}")
    for line in [*figures.lost, *figures.doubled, *figures.unreadable][:20]:
        print("  ", line)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())

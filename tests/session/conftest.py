"""A session around an engine that does what the test says, without a screen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter

import pytest
from scripted_engine import ScriptedEngine

from glmtui import i18n
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.protocol.engine import Engine
from glmtui.protocol.phrases import Sayable
from glmtui.session.attached_file import AttachedFile
from glmtui.session.chat_session import ChatSession
from glmtui.session.events import Kind, Noticed, SessionEvent
from glmtui.session.slash.registry import COMMANDS
from glmtui.session.ui import View
from glmtui.settings.settings import Settings


class FakeUi:
    """Remembers what it was asked for."""

    has_keys = True

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown: list[tuple[View, str]] = []
        self.copied: list[str] = []
        self.answers: list[str | None] = []
        """What the person says when asked, in turn."""
        self.choices: list[int | None] = []
        """What they choose, in turn."""
        self.text = ""
        self.files: Sequence[AttachedFile] = ()
        """What the text names."""
        self.left = False

    def say(self, text: Sayable, kind: Kind = "info", *, markdown: bool = False) -> None:
        self.said.append(str(text))

    async def ask(self, title: Sayable, value: str = "") -> str | None:
        return self.answers.pop(0) if self.answers else None

    async def choose(self, title: Sayable, choices: Sequence[Sayable]) -> int | None:
        return self.choices.pop(0) if self.choices else None

    async def show(self, view: View, argument: str = "") -> None:
        self.shown.append((view, argument))

    def copy(self, text: str) -> None:
        self.copied.append(text)

    def draft(self) -> str:
        return self.text

    def attached(self) -> Sequence[AttachedFile]:
        return self.files

    def put_draft(self, text: str) -> None:
        self.text, self.files = text, ()

    def quit(self) -> None:
        self.left = True


class Chat(ChatSession):
    """A session with what its tests look at."""

    engine: ScriptedEngine

    def __init__(self, engine: Engine) -> None:
        self.engine = engine  # type: ignore[assignment]  # few tests have another
        self.fake_ui = FakeUi()
        self.told: list[SessionEvent] = []
        super().__init__(lambda: engine, Library(), Settings.load(), self.fake_ui, COMMANDS)
        self.subscribe(self.told.append)

    async def enter(self, line: str, attached: Sequence[AttachedFile] = ()) -> None:
        """Send `line` as a composer does, which is empty then."""
        self.fake_ui.put_draft("")
        await super().enter(line, attached)

    def notices(self, kind: Kind | None = None) -> list[str]:
        return [str(e.text) for e in self.told if isinstance(e, Noticed) and kind in (None, e.kind)]

    def of(self, kind: type[SessionEvent]) -> list[SessionEvent]:
        return [event for event in self.told if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Poll until something is so."""
        end, pause = perf_counter() + seconds, 0.0
        while True:
            await self.poll()
            if condition():
                return
            if perf_counter() > end:
                raise AssertionError("it did not happen in time")
            await asyncio.sleep(pause)
            pause = min(pause + 0.0002, 0.02)

    async def idle(self, seconds: float = 10) -> None:
        await self.until(lambda: not self.busy, seconds)

    def saved(self) -> Conversation:
        """The open conversation as its file has it."""
        assert self.conversation.path is not None
        return Conversation.open(self.conversation.path)

    def texts(self) -> list[tuple[str, str]]:
        """Role and text of what is on disk."""
        return [(message.role, message.text) for message in self.saved().branch()]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Settings, conversations and state of this test."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    i18n.use("en")
    yield tmp_path / "home"
    i18n.use("en")


@pytest.fixture
def make() -> Callable[..., Chat]:
    """Make a session around an engine, by default one that answers at once."""

    def make(*answers: str, hold: bool = False, hold_load: bool = False) -> Chat:
        return Chat(ScriptedEngine(*answers, hold=hold, hold_load=hold_load))

    return make


@pytest.fixture
async def chat(make: Callable[..., Chat]) -> Chat:
    """A session whose model is loaded."""
    return await ready(make())


async def ready(chat: Chat) -> Chat:
    """Load the model."""
    chat.load()
    await chat.until(lambda: chat.state.activity in ("ready", "none"))
    return chat

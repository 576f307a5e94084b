"""Model settings that follow each other quickly: whatever fails, the session comes back to what works."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from scripted_engine import ScriptedEngine
from session.conftest import Chat

from glmtui.protocol.models import LocalModel
from glmtui.protocol.requests import Load
from glmtui.settings.schema import BY_KEY
from glmtui.settings.settings import Settings

GOOD = ("/model nano", "/model /m", "/quant 8", "/quant 4", "/quant none", "/device cpu", "/device auto",
        "/threads 1", "/ptuning none", "/set quant default")  # fmt: skip
EARLY = ("/model /nope", "/ptuning /nope")
"""What is refused before the model in memory goes."""
LATE = ("/device cuda", "/device mps", "/set dtype float16")
"""What is refused when it is gone."""
PRESET_LINES = ("/preset precise", "/set temperature 0.3")


class PickyEngine(ScriptedEngine):
    """Loads only what a machine with a CPU has: the former model goes unless the refusal comes early."""

    spec: LocalModel | None = None
    """What is in memory."""

    @staticmethod
    def refuses(spec: LocalModel) -> bool:
        return (
            "/nope" in (spec.source, spec.ptuning)
            or spec.device in ("cuda", "mps")
            or spec.dtype == "float16"
        )

    def finish_load(self) -> None:
        request = self._current
        assert isinstance(request, Load)
        assert isinstance(request.spec, LocalModel)
        early = "/nope" in (request.spec.source, request.spec.ptuning)
        blamed = "/nope" if early else request.spec.device
        self.fail = f"{blamed} cannot be loaded." if self.refuses(request.spec) else None
        self.keeps = early
        loaded = None if self.fail else request.spec
        if not self.fail or not early:
            self.spec = loaded
        super().finish_load()

    def _cancel(self, stream: Any) -> None:
        if self._queue and self._queue[0][1] is stream and self.loading:
            self.spec = None
        super()._cancel(stream)


def started(**values: object) -> Chat:
    """A session whose file of settings holds `values` of the model, which is on its way."""
    for name, value in values.items():
        Settings.load().set(f"model.{name}", value)
    chat = Chat(PickyEngine(hold_load=True))
    chat.load()
    return chat


async def settle(chat: Chat) -> None:
    """Let every load come to its end."""
    for _count in range(50):
        await chat.poll()
        if not chat.loading:
            return
        if chat.engine.loading:
            chat.engine.finish_load()
    raise AssertionError("the loads do not end")


def in_use(chat: Chat) -> LocalModel:
    """What is in memory, checked to be what the session and the file of settings say."""
    engine = chat.engine
    assert isinstance(engine, PickyEngine)
    assert chat.state.activity == "ready", chat.notices()
    assert engine.spec is not None
    assert chat.settings.model_spec() == engine.spec
    assert Settings.load().model_spec() == engine.spec
    assert chat.state.info is not None
    assert (chat.state.info.source, chat.state.info.quant) == (
        engine.spec.source,
        engine.spec.quant or "none",
    )
    return engine.spec


@pytest.mark.parametrize("running", [True, False], ids=["with a model", "while the first one loads"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["/quant 8", "/device cuda", "/threads 1"], LocalModel(quant="8")),
        (["/quant 4", "/model /nope", "/ptuning /nope"], LocalModel(quant="4")),
        (["/device cuda", "/device mps"], LocalModel()),
        (["/model /nope", "/quant 4"], LocalModel()),
        (["/model /nope", "/model nano"], LocalModel()),
        (["/device cuda", "/device cpu"], LocalModel(device="cpu")),
    ],
)
async def test_what_fails_is_taken_back_however_quickly_settings_follow(
    running: bool, lines: list[str], expected: LocalModel
) -> None:
    chat = started()
    if running:
        await settle(chat)
    for line in lines:
        await chat.enter(line)
        await chat.poll()
    await settle(chat)
    assert in_use(chat) == expected


class ModelSettingsMachine(RuleBasedStateMachine):
    """Model settings by every way, at any moment of a load, with cancels in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.before = os.environ.get("GLMTUI_HOME")
        os.environ["GLMTUI_HOME"] = self.folder.name
        self.loop = asyncio.new_event_loop()
        self.chat: Any = None
        self.cancelled = False
        """The person asked for no load since a cancel."""

    def teardown(self) -> None:
        try:
            if self.chat is not None:
                self.settled()
                self.chat.close()
        finally:
            self.loop.close()
            if self.before is None:
                del os.environ["GLMTUI_HOME"]
            else:
                os.environ["GLMTUI_HOME"] = self.before
            self.folder.cleanup()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around what may ask for a load."""
        before = len(self.engine.loads)
        yield
        self.cancelled = self.cancelled and len(self.engine.loads) == before

    def do(self, work: Coroutine[Any, Any, object]) -> None:
        self.loop.run_until_complete(work)

    @initialize(running=st.booleans(), quant=st.sampled_from([None, "8"]))
    def start(self, running: bool, quant: str | None) -> None:
        self.chat = started(quant=quant)
        self.engine = self.chat.engine
        if running:
            self.do(settle(self.chat))

    @rule(line=st.sampled_from([*GOOD, *EARLY, *LATE, *PRESET_LINES]), poll=st.booleans())
    def enter(self, line: str, poll: bool) -> None:
        with self.asking():
            self.do(self.chat.enter(line))
        if poll:
            self.do(self.chat.poll())

    @rule(key=st.sampled_from(["quant", "device", "ptuning", "source"]))
    def clear_in_the_pane(self, key: str) -> None:
        with self.asking(), self.chat.saying_errors():
            self.chat.preferences.clear(BY_KEY[f"model.{key}"])

    @rule(
        text=st.sampled_from(
            ['quant = "4"', 'device = "cuda"', 'source = "/nope"', 'source = "/m"', "", "???"]
        )
    )
    def edit_the_file(self, text: str) -> None:
        self.chat.settings.path.parent.mkdir(parents=True, exist_ok=True)
        self.chat.settings.path.write_text(f"[model]\n{text}\n", "utf-8")
        with self.asking():
            self.chat.preferences.reread()

    @rule(poll=st.booleans())
    def cancel(self, poll: bool) -> None:
        self.cancelled = self.chat.stop() or self.cancelled
        if poll:
            self.do(self.chat.poll())

    @rule()
    def poll(self) -> None:
        self.do(self.chat.poll())

    @precondition(lambda self: self.engine.loading)
    @rule(poll=st.booleans())
    def finish_load(self, poll: bool) -> None:
        self.engine.finish_load()
        if poll:
            self.do(self.chat.poll())

    @rule()
    def settled(self) -> None:
        """In the end there is a model, and the file names it; but for a person who wants none."""
        self.do(settle(self.chat))
        if self.chat.settings.problems:  # a file that is no TOML is left to its author
            self.edit_the_file("")
            self.do(settle(self.chat))
        if self.cancelled and self.chat.state.activity == "none":
            assert not PickyEngine.refuses(self.chat.settings.model_spec())
            assert not PickyEngine.refuses(Settings.load().model_spec())
        else:
            in_use(self.chat)


ModelSettingsMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestModelSettings = ModelSettingsMachine.TestCase


async def test_a_cancelled_load_leads_back_to_what_worked() -> None:
    chat = started(quant="8")
    await settle(chat)
    await chat.enter("/device cuda")
    await chat.poll()
    assert chat.stop()
    await chat.poll()
    assert chat.settings["model.device"] == "auto"
    assert chat.loading, "the model that was in memory is on its way again"
    await settle(chat)
    assert in_use(chat) == LocalModel(quant="8")
    await chat.enter("/device cuda")
    assert chat.stop()
    await chat.poll()
    assert chat.stop()
    await chat.poll()
    assert chat.state.activity == "none", "who stops that as well wants none"
    assert Settings.load().model_spec() == LocalModel(quant="8")


async def test_a_load_that_was_complete_when_it_was_replaced_is_what_is_gone_back_to() -> None:
    chat = started()
    await settle(chat)
    await chat.enter("/quant 8")
    chat.engine.finish_load()  # the session has not heard of it
    await chat.enter("/model /nope")
    await settle(chat)
    assert in_use(chat) == LocalModel(quant="8")


async def test_what_is_asked_for_after_nothing_worked_stands_on_its_own() -> None:
    chat = started(device="cuda", ptuning="/nope")
    await settle(chat)
    assert chat.state.activity == "none"
    assert "/set ptuning default" in chat.notices()[-1], "it is what the failure named"
    await chat.enter("/set ptuning default")
    await settle(chat)
    assert chat.state.activity == "none"
    assert "/set device default" in chat.notices()[-1]
    await chat.enter("/device auto")
    await settle(chat)
    assert in_use(chat) == LocalModel()

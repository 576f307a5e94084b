"""A chat with a model behind a server: choosing it, what is recorded, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai_server import OpenAIServer, openai_server
from session.conftest import Chat

from glmtui.engine.local import LocalEngine
from glmtui.settings.settings import Settings


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server() as state:
        yield state


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    chat = Chat(LocalEngine())
    yield chat
    chat.close()
    assert chat._loader.engine.join(60)


async def until(chat: Chat, condition: Callable[[], object]) -> None:
    for _ in range(2000):
        await chat.poll()
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(chat.state)


def settled(chat: Chat) -> bool:
    return chat.state.activity in ("ready", "none") and not chat.busy


async def test_choose_a_server_and_ask(chat: Chat, server: OpenAIServer) -> None:
    await chat.enter(f"/model {server.url}#tiny")
    await until(chat, lambda: settled(chat))
    assert chat.state.info is not None
    assert chat.state.info.server == server.url.partition("://")[2].partition("/")[0]
    assert chat.state.limit == 256
    assert not server.asked, "nothing is sent before a question"
    chat.draft_changed("half a thought")
    await chat.enter("Hi")
    await until(chat, lambda: settled(chat))
    answer = chat.conversation.branch()[-1]
    assert (answer.text, answer.state) == ("Hello, world!", "done")
    assert answer.meta["model"] == "tiny"
    assert answer.meta["server"] == chat.state.info.server
    assert len(server.asked) == 1


async def test_a_server_of_the_settings(chat: Chat, server: OpenAIServer) -> None:
    path = chat.settings.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[engines.work]\nurl = "{server.url}"\nmodel = "tiny"\ncontext = 99\n')
    chat.preferences.reread()
    await chat.enter("/model work")
    await until(chat, lambda: settled(chat))
    assert chat.state.info is not None
    assert (chat.state.info.name, chat.state.info.max_length) == ("tiny", 99)
    chat.models.refresh()
    await until(chat, lambda: chat.models.models)
    assert chat.models.models is not None
    assert ("work", "server") in [(entry.source, entry.place) for entry in chat.models.models.entries]


async def test_a_server_that_is_not_there_leaves_the_model_and_the_settings(chat: Chat) -> None:
    chat.settings.override({"model.device": "cpu"})
    chat.load()
    await until(chat, lambda: settled(chat))
    await chat.enter("/model http://127.0.0.1:9/v1#tiny")
    await until(chat, lambda: settled(chat))
    assert chat.state.info is not None
    assert chat.state.info.name == "nano"
    assert chat.settings["model.source"] is None
    assert any("127.0.0.1:9" in text for text in chat.notices("error"))


def test_engines_are_checked_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        """
        [engines.good]
        url = "https://host.example/v1/"
        key = "env:KEY"
        headers = { X-Team = "a" }
        [engines.no-url]
        model = "x"
        [engines.plain-key]
        url = "http://h/v1"
        key = "sk-1234"
        [engines.bad-header]
        url = "http://h/v1"
        headers = { "A B" = "c" }
        [engines.connection-header]
        url = "http://h/v1"
        headers = { "Content-Length" = "3" }
        [engines.date]
        url = "http://h/v1"
        body = { since = 2026-01-01 }
        [engines.no-number]
        url = "http://h/v1"
        body = { deep = [{ value = nan }] }
        [engines.bad-context]
        url = "http://h/v1"
        context = true
        [engines.unknown]
        url = "http://h/v1"
        colour = "red"
        """
    )
    settings = Settings.load(path)
    assert list(settings.engines) == ["good"]
    assert settings.engines["good"].base_url == "https://host.example/v1"
    assert len(settings.problems) == 8
    assert all("sk-1234" not in str(problem) for problem in settings.problems)

"""/serve: the app's engine for other programs, while the app runs."""

from __future__ import annotations

import asyncio
import builtins
import re
import sys
from typing import Any

import httpx2
import pytest
from session.conftest import Chat

from glmtui.server.options import listen


def get(url: str, path: str, **body: Any) -> httpx2.Response:
    with httpx2.Client(base_url=url, trust_env=False, timeout=20) as client:
        return client.post(path, json=body) if body else client.get(path)


async def test_the_apps_own_model_answers_others_until_it_is_stopped(chat: Chat) -> None:
    await chat.enter("/serve")
    url = chat.serving.url
    assert url in chat.fake_ui.said[-1]
    assert (await asyncio.to_thread(get, url, "/health")).json() == {"status": "ok"}
    answer = await asyncio.to_thread(get, url, "/", prompt="你好")
    assert answer.json()["response"] == "Hello!"
    await chat.enter("/serve")
    assert chat.serving.url == url, "it is still the same"
    await chat.enter("/serve stop")
    assert chat.serving.url == ""
    await chat.enter("/serve stop")
    assert len(set(chat.fake_ui.said[-2:])) == 2


async def test_a_port_can_be_chosen(chat: Chat) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        await chat.enter(f"/serve {port}")
        assert chat.notices("error"), "it is in use"
        assert chat.serving.url == ""
    await chat.enter(f"/serve {port}")
    assert chat.serving.url == f"http://127.0.0.1:{port}"
    await chat.enter(f"/serve {port}")
    assert len(chat.notices("error")) == 1, "it is served there already"
    assert chat.serving.url == f"http://127.0.0.1:{port}"
    await chat.enter("/serve 0")
    await chat.enter("/serve nowhere")
    assert len(chat.notices("error")) == 3
    chat.close()
    assert chat.serving.url == ""


async def test_a_missing_library_is_named_with_the_way_to_get_it(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def find(name: str, *arguments: Any, **options: Any) -> Any:
        if re.match(r"(starlette|uvicorn)\b", name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
        return real(name, *arguments, **options)

    for name in [name for name in sys.modules if re.match(r"starlette|uvicorn|glmtui\.server\.", name)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", find)
    await chat.enter("/serve")
    assert "pip install starlette uvicorn" in chat.notices("error")[-1]

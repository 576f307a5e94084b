"""Many requests of all kinds, good, bad, left and slow: nothing is lost, nothing stays.

``PYTHONPATH=tests python tests/server/test_soak.py 1000`` does as many with nano, and prints what it took.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections import Counter

import httpx2
import psutil
from served import MakeServer, Served, end, make, wait_for

TEXT = "一二三四五六七八九十"
KINDS = ("complete", "stream", "leave", "leave streaming", "bad", "seed", "count", "slow")


async def ask(client: httpx2.AsyncClient, kind: str, text: str) -> str:
    """Do one request; return what came of it."""
    body: dict[str, object] = {
        "messages": [{"role": "user", "content": "你好"}],
        "max_tokens": 8,
        "temperature": 0,
    }
    path = "/v1/chat/completions"
    if kind == "bad":
        bad: bytes = random.choice([b"{", b"[]", b"{}", json.dumps({**body, "n": 2}).encode()])
        return str((await client.post(path, content=bad)).status_code)
    if kind == "seed":
        answer = (await client.post("/", json={"prompt": "你好", "max_length": 16})).json()
        return "wrong" if answer["history"] != [["你好", answer["response"]]] else "right"
    if kind == "count":
        return str((await client.post("/tokenize", json={"prompt": "你好"})).status_code)
    if kind == "complete":
        answer = (await client.post(path, json=body)).json()
        return "right" if answer["choices"][0]["message"]["content"] == text else "wrong"
    if kind == "leave":
        try:
            await client.post(path, json=body, timeout=random.uniform(0.001, 0.05))
        except httpx2.TimeoutException:
            return "left"
        return "answered"
    said = ""
    async with client.stream("POST", path, json={**body, "stream": True}) as response:
        async for line in response.aiter_lines():
            if kind == "leave streaming" and random.random() < 0.5:
                return "left"
            if kind == "slow":
                await asyncio.sleep(0.01)
            if line.startswith("data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                said += choice["delta"].get("content", "")
    return "right" if said == text else "wrong"


async def soak(url: str, count: int, text: str) -> Counter[str]:
    """Do `count` requests, a dozen at once; return what came of them."""
    limit = asyncio.Semaphore(12)
    told: Counter[str] = Counter()
    async with httpx2.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:

        async def one() -> None:
            async with limit:
                kind = random.choice(KINDS)
                told[f"{kind}: {await ask(client, kind, text)}"] += 1
                if random.random() < 0.05:
                    assert (await client.get("/health")).status_code == 200

        await asyncio.gather(*(one() for _ in range(count)))
    return told


def test_nothing_stays_of_many_requests(serve: MakeServer) -> None:
    served = serve(limits={"slots": 2})
    served.ready(TEXT)
    random.seed(1)
    threads = threading.active_count()
    told = asyncio.run(soak(served.url, 150, TEXT))
    assert not [each for each in told if each.endswith("wrong")]
    assert sum(told.values()) == 150
    at_rest(served)
    assert threading.active_count() <= threads + 1
    assert served.chat().json()["choices"][0]["message"]["content"] == TEXT


def at_rest(served: Served) -> None:
    wait_for(
        lambda: served.figures["glmtui_requests_running"] == served.figures["glmtui_requests_waiting"] == 0
    )
    assert served.health() == "ok"


if __name__ == "__main__":
    from glmtui.engine.local import LocalEngine
    from glmtui.protocol.events import Loaded
    from glmtui.protocol.requests import Load

    engine = LocalEngine(slots=4)
    *_progress, loaded = engine.submit(Load())
    assert isinstance(loaded, Loaded)
    served = make()
    served.engine.current = engine  # type: ignore[assignment]
    served.info = loaded.info
    request = {"messages": [{"role": "user", "content": "你好"}], "max_tokens": 8, "temperature": 0}
    text = served.client.post("/v1/chat/completions", json=request).json()["choices"][0]["message"]["content"]
    memory = psutil.Process().memory_info
    for part in range(4):
        told = asyncio.run(soak(served.url, int(sys.argv[1]) // 4, text))
        at_rest(served)
        print(part, f"{memory().rss / 1e6:.0f} MB, {threading.active_count()} threads", dict(told))
        assert not any(each.endswith("wrong") for each in told)
    end(served)

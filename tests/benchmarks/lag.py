"""Event-loop lag and key echo while an answer streams: python tests/benchmarks/lag.py [messages] [tokens/s].

Prints p50, p95 and p99 of how late the event loop wakes up (above about 100 ms at p95 is visible), of the
time from a key press to the composer holding it, and the CPU time of the interface for each token. "of it
work" is CPU time of the interface between two wake-ups, which other programs do not add to. The engine is a
thread that sends a Chinese list with code at the given speed; no model runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripted_engine import NANO, ScriptedEngine
from textual import events
from tui_helpers import wait_until

from glmtui.protocol.engine import Stream
from glmtui.protocol.events import Done, Started, Stats, Tokens
from glmtui.protocol.requests import Generate
from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui

SECONDS = 15.0
PROBE_EVERY = 0.02
LIST = "\n".join(
    f"{number}. 第 **{number}** 项：量化把权重从十六位压缩到四位，内存大约减少到四分之一，速度取决于设备。"
    for number in range(1, 16)
)
CODE = "\n".join(f"value_{number} = compute(scale={number})" for number in range(20))
ANSWER = f"{LIST}\n\n```python\n{CODE}\n```\n\n"


class StreamingEngine(ScriptedEngine):
    """Sends two characters at a time, as a model does."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed
        self.sent = 0

    def answer(self, request: Generate, stream: Stream) -> None:
        threading.Thread(target=self._stream, args=(stream,), daemon=True).start()

    def _stream(self, stream: Stream) -> None:
        stream.put(Started(100, NANO.max_length, 0))
        begin = time.perf_counter()
        while (now := time.perf_counter() - begin) < SECONDS:
            while self.sent < now * self.speed:
                stream.put(Tokens(ANSWER[2 * self.sent % len(ANSWER) :][:2], 1))
                self.sent += 1
            time.sleep(0.005)
        stream.put(Done(Stats(100, self.sent, 0.1, SECONDS), "stop"))


def percentiles(name: str, seconds: list[float]) -> None:
    """Print p50, p95, p99 and the worst in milliseconds."""
    ordered = sorted(seconds)
    places = [min(int(len(ordered) * share), len(ordered) - 1) for share in (0.5, 0.95, 0.99, 1.0)]
    figures = [ordered[place] * 1000 for place in places]
    print("{:22} p50 {:6.1f}   p95 {:6.1f}   p99 {:6.1f}   worst {:6.1f} ms".format(name, *figures))


async def sample(app: GlmTui, seconds: float, name: str = "") -> None:
    """Press keys for so long; print how late the event loop was, and how long a key took to be seen."""
    lags: list[float] = []
    work: list[float] = []
    echoes: list[float] = []

    async def probe() -> None:
        while True:
            before, before_cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(PROBE_EVERY)
            lags.append(time.perf_counter() - before - PROBE_EVERY)
            work.append(time.thread_time() - before_cpu)

    task = asyncio.create_task(probe())
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        length = len(app.chat.composer.text)
        before = time.perf_counter()
        app.post_message(events.Key("a", "a"))
        while len(app.chat.composer.text) == length and time.perf_counter() - before < 2:
            await asyncio.sleep(0)
        echoes.append(time.perf_counter() - before)
        await asyncio.sleep(0.1)
    task.cancel()
    percentiles(f"{name} event-loop lag".lstrip(), lags)
    percentiles(f"{name} of it work".lstrip(), work)
    percentiles(f"{name} key echo".lstrip(), echoes)


async def measure(messages: int, speed: float) -> None:
    """Stream into a conversation of `messages` messages."""
    engine = StreamingEngine(speed)
    app = GlmTui(AppOptions(), engine=engine)
    for number in range(messages // 2):
        _fill(app, number)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.session.state.activity == "ready")
        await app.session.send("请列出要点")
        cpu = time.process_time()
        print(f"{messages} messages, load average {os.getloadavg()[0]:.1f}")
        await sample(app, SECONDS - 1)
        spent = time.process_time() - cpu
        each = spent / max(engine.sent, 1) * 1000
        print(f"{'CPU per token':22} {each:6.2f} ms for {engine.sent}, the probe and the keys included")


def _fill(app: GlmTui, number: int) -> None:
    conversation = app.session.conversation
    conversation.append("user", f"问题 {number}：怎样量化模型？")
    conversation.append("assistant", f"回答 {number}：\n\n- 先下载\n- 再用 `/quant 4`\n")


def main() -> None:
    """Print the figures for an empty and for a long conversation."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    speed = float(sys.argv[2]) if len(sys.argv) > 2 else 100.0
    for count in (0, messages):
        with tempfile.TemporaryDirectory() as home:
            os.environ["GLMTUI_HOME"] = home
            asyncio.run(measure(count, speed))


if __name__ == "__main__":
    main()

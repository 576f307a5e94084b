"""What a streamed answer costs the interface: run ``python tests/benchmarks/streaming.py``.

Streams texts at 100 tokens a second into a transcript of 1,000 messages and prints, for each, the processor
time of the interface for a token (less what it takes when idle), the delay of the event loop, and how long a
key typed meanwhile takes to be on the screen. Nothing is asserted: times depend on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from textual import events
from textual.pilot import Pilot
from tui_helpers import NOON, Host, dialogue

from glmtui.chat.conversation import Message
from glmtui.tui.composer.composer import Composer
from glmtui.tui.transcript.transcript import Transcript

LIST = "\n".join(
    f"{number}. **第{number}点**：这里是一些说明文字，用来测试列表的速度。" for number in range(1, 16)
)
NESTED = "\n".join(
    f"{number}. 第{number}点\n   - 甲：一些说明\n   - 乙：`code` 和 **重点（括号）。**后面"
    for number in range(1, 13)
)
CODE = (
    "```python\n"
    + "\n".join(
        f"def function_{number}(value):\n    return [value * {number} for _ in range(10)]  # 注释\n"
        for number in range(40)
    )
    + "\n```\n完。"
)
PROSE = "大型语言模型是一种人工智能，它可以**理解**并生成文字。\n" * 25
TABLE = "| 名称 | 大小 | 说明 |\n|---|--:|---|\n" + "| 模型 | 12 | 一些说明文字 |\n" * 30
TEXTS = {
    "15-item Chinese list": LIST,
    "nested list": NESTED,
    "Chinese prose": PROSE,
    "code": CODE,
    "table": TABLE,
}
TOKEN = 2
"""Characters."""


def show(seconds: list[float]) -> str:
    ordered = sorted(seconds) or [0.0]
    p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return f"p50 {1000 * statistics.median(ordered):.0f} p95 {1000 * p95:.0f} ms"


async def lag(samples: list[float], stop: asyncio.Event) -> None:
    while not stop.is_set():
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        samples.append(time.perf_counter() - before - 0.005)


async def type_keys(
    pilot: Pilot[None], composer: Composer, samples: list[float], stop: asyncio.Event
) -> None:
    app = pilot.app
    while not stop.is_set():
        composer.text = ""
        await asyncio.sleep(0.15)
        before = time.perf_counter()
        app.post_message(events.Key("x", "x"))
        while "x" not in composer.text:
            await asyncio.sleep(0.001)
        samples.append(time.perf_counter() - before)


async def measure(name: str, text: str, rate: int, messages: int, keys: bool) -> None:
    transcript, composer = Transcript(), Composer()
    app = Host(transcript, composer)
    async with app.run_test(size=(120, 36)) as pilot:
        transcript.show(dialogue(messages))
        await pilot.pause()
        composer.focus()
        await asyncio.sleep(0.5)
        start = time.process_time()
        await asyncio.sleep(1)
        idle = time.process_time() - start

        view = transcript.begin_answer(Message.of("answer", None, "assistant", "", NOON, state="partial"))
        tokens = [text[at : at + TOKEN] for at in range(0, len(text), TOKEN)]
        lags: list[float] = []
        echoes: list[float] = []
        stop = asyncio.Event()
        watchers = [asyncio.create_task(lag(lags, stop))] if keys else []
        if keys:
            watchers.append(asyncio.create_task(type_keys(pilot, composer, echoes, stop)))
        cpu, clock = time.process_time(), time.perf_counter()
        for number, token in enumerate(tokens, 1):
            view.append(token)
            await asyncio.sleep(max(clock + number / rate - time.perf_counter(), 0))
        view.finish(Message.of("answer", None, "assistant", text, NOON))
        seconds = time.perf_counter() - clock
        used = time.process_time() - cpu - idle * seconds
        stop.set()
        await asyncio.gather(*watchers)
        line = f"{name:22} {len(tokens):5} tokens  {1000 * used / len(tokens):5.2f} ms CPU/token"
        if keys:
            line += f"  loop lag {show(lags)}  key {show(echoes)}"
        sys.__stdout__.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=100, help="tokens a second")
    parser.add_argument("--messages", type=int, default=1000, help="messages in the transcript before")
    parser.add_argument("--no-keys", action="store_true", help="do not type meanwhile (purer CPU figures)")
    parser.add_argument("only", nargs="*", help="names of texts")
    options = parser.parse_args()
    for name, text in TEXTS.items():
        if not options.only or any(word in name for word in options.only):
            asyncio.run(measure(name, text, options.rate, options.messages, not options.no_keys))


if __name__ == "__main__":
    main()

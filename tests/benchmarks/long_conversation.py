"""What a very long conversation costs: python tests/benchmarks/long_conversation.py [messages] [runs].

Writes a conversation of Markdown answers, then prints medians of: opening it until its end is painted (the
file read, the tree built, the transcript shown), scrolling to random places until what is there is painted,
and the memory of the process. No model runs. Nothing is asserted: times depend on the machine.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from textual.pilot import Pilot
from tui.app_support import ScriptedEngine, settled
from tui_helpers import screen_text, wait_until

from glmtui.chat.conversation import Conversation
from glmtui.chat.files import encode
from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui
from glmtui.tui.transcript.transcript import Transcript

ANSWER = """\
回答 {number}：量化把权重从十六位压缩到 **四位（INT4）。**要点：

1. 内存大约减少到四分之一；
2. 质量略有下降，但*通常*够用；
   - 见 `group_size = 32`
3. 速度取决于设备。

```python
model = load("chatglm-6b", quant=4)  # {number}
```
"""


def write(path: Path, messages: int) -> None:
    """Write a conversation of `messages` messages."""
    conversation, when = Conversation(), datetime(2026, 1, 1, tzinfo=timezone.utc)
    meta = {"model": "chatglm-6b", "quant": "4", "tokens": 120, "tokens_per_second": 12.4}
    for number in range(messages // 2):
        when += timedelta(minutes=3)
        conversation.append("user", f"问题 {number}：INT4 量化以后，内存会减少多少？", time=when)
        conversation.append("assistant", ANSWER.format(number=number), time=when, meta=meta)
    path.write_bytes(encode(conversation.records()))


async def painted(pilot: Pilot[None], ready: Callable[[], bool]) -> None:
    """Wait until something is on the screen, without the pilot's pauses, which cost time themselves."""
    while not ready():
        await asyncio.sleep(0.001)


def in_view(transcript: Transcript) -> bool:
    """Whether all that is seen is laid out and painted."""
    near = transcript.column.near(transcript.scroll_y, transcript.view_height)
    drawn = all(transcript.column.entries[index].measured for index in near)
    return drawn and not transcript._repaint_required and not transcript.screen._dirty_widgets


async def measure(path: Path, messages: int, runs: int) -> None:
    """Print the figures."""
    process = psutil.Process()
    app = GlmTui(AppOptions(), engine=ScriptedEngine())
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.session.state.activity == "ready")
        await settled(pilot)
        empty = process.memory_info().rss
        transcript, opened, jumps = app.chat.transcript, [], []
        for _run in range(runs):
            await app.session.new()
            await settled(pilot)
            start = time.perf_counter()
            await app.session.open(path)
            await painted(pilot, lambda: in_view(transcript) and f"{messages // 2 - 1}" in screen_text(app))
            opened.append(time.perf_counter() - start)
            await settled(pilot)
        chooser = random.Random(1)
        for _jump in range(10 * runs):
            start = time.perf_counter()
            transcript.scroll_to(y=chooser.randrange(transcript.max_scroll_y), animate=False, force=True)
            await asyncio.sleep(0)
            await painted(pilot, lambda: in_view(transcript))
            jumps.append(time.perf_counter() - start)
        jumps.sort()
        full = process.memory_info().rss
    print(f"{messages} messages, {path.stat().st_size / 1e6:.1f} MB, load average {os.getloadavg()[0]:.1f}")
    print(f"open to paint    median {statistics.median(opened):.3f} s   worst {max(opened):.3f} s")
    print(f"scroll anywhere  median {statistics.median(jumps):.3f} s   worst {jumps[-1]:.3f} s")
    print(f"memory           {full / 2**20:.0f} MiB   without a conversation {empty / 2**20:.0f} MiB")


def main() -> None:
    """Measure in an empty home."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as home:
        os.environ["GLMTUI_HOME"] = home
        path = Path(home) / "long.jsonl"
        write(path, messages)
        asyncio.run(measure(path, messages, runs))


if __name__ == "__main__":
    main()

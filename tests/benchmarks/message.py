"""What one message costs the session, without a screen: python tests/benchmarks/message.py [messages].

Prints how long it takes until a message is on the disk, synced, and the engine asked, and until its answer,
which is scripted, is there too, with the processor's time and the syncs of a message. Nothing is asserted:
the disk decides.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from scripted_engine import ScriptedEngine
from session.conftest import Chat, ready


async def measure(messages: int) -> None:
    chat = await ready(Chat(ScriptedEngine(*["An answer."] * messages)))
    sync, syncs = os.fsync, 0

    def counted(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        sync(descriptor)

    os.fsync = counted
    sent, answered, worked = [], [], []
    for number in range(messages):
        start, processor = time.perf_counter(), time.process_time()
        await chat.enter(f"question {number}")
        sent.append(time.perf_counter() - start)
        while chat.busy:
            await chat.poll()
        answered.append(time.perf_counter() - start)
        worked.append(time.process_time() - processor)
    chat.close()
    for title, seconds in (("sent", sent), ("answered", answered), ("processor", worked)):
        late = sorted(seconds)[int(0.95 * len(seconds))]
        print(f"{title:10} median {median(seconds) * 1e3:5.1f} ms, p95 {late * 1e3:5.1f} ms")
    print(f"syncs      {syncs / messages:.1f} a message")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["GLMTUI_HOME"] = home
        asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 100))

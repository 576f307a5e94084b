"""How smooth the app stays while a large model has every core: busy_lag.py FOLDER QUANT.

FOLDER is one that ``full_size.py write`` made, with ChatGLM-6B's tokenizer ``ice_text.model`` put into it.
Prints how late the event loop wakes up and how long a key takes to be in the composer, first with the model
idle, then while it reads a prompt and answers, and the speed of the answer.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from lag import sample
from tui_helpers import wait_until

from glmtui.session.options import AppOptions
from glmtui.tui.app import GlmTui

SECONDS = 20.0


async def measure(folder: str, quant: str) -> None:
    app = GlmTui(AppOptions({"model.source": folder, "model.quant": quant}))
    async with app.run_test(size=(120, 36)) as pilot:
        began = time.perf_counter()
        await wait_until(pilot, lambda: app.session.state.activity == "ready", 600)
        print(f"ready after {time.perf_counter() - began:.1f} s, load average {os.getloadavg()[0]:.1f}")
        await sample(app, 3, "idle")
        app.chat.composer.text = ""
        await app.session.submit("请详细介绍一下大型语言模型的量化。" * 12)
        await wait_until(pilot, lambda: app.session.state.activity == "reading", 60)
        await sample(app, 4, "prompt")
        await wait_until(pilot, lambda: app.session.state.activity == "answering", 120)
        await sample(app, SECONDS, "answer")
        print(f"{app.session.state.tokens_per_second or 0:.1f} tokens/s")


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("GLMTUI_HOME", home)
        asyncio.run(measure(sys.argv[1], sys.argv[2]))


if __name__ == "__main__":
    main()

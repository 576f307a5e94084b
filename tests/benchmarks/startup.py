"""Time from process start to the first paint in a real pseudo-terminal: startup.py [runs] [conversations].

Prints the median and the best of several runs, the time until Textual alone would have painted (its imports),
and whether torch or other heavy modules were loaded by then. Run it on a quiet machine: the ratio to the bare
imports is what to compare between machines.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from library import fill
from terminal import Terminal

HEAVY = ("torch", "transformers", "tomlkit", "sentencepiece", "numpy", "pyperclip", "psutil", "sqlite3")
PROBE = """
import sys
from pathlib import Path
from glmtui.tui.app import GlmTui
class Probe(GlmTui):
    CSS_PATH = str(Path(sys.modules["glmtui.tui.app"].__file__).with_name("app.tcss"))
    def on_ready(self):
        print("loaded:", [name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
        self.exit()
import asyncio
async def main():
    async with Probe().run_test(size=(120, 36)):
        pass
asyncio.run(main())
"""


def first_paint(home: str) -> tuple[float, float]:
    """Seconds until the composer's frame is on the screen: on the clock, and of CPU time."""
    terminal = Terminal(
        [sys.executable, "-m", "glmtui"],
        env={"GLMTUI_HOME": home, "LC_ALL": "C.UTF-8", "COLORTERM": "truecolor"},
    )
    while "╰" not in terminal.text:
        terminal.pump(0.002)
    seconds = time.monotonic() - terminal.started
    used = psutil.Process(terminal.child.pid).cpu_times()
    terminal.close()
    return seconds, used.user + used.system


def imports(module: str) -> float:
    """Seconds that a process takes which only imports `module`."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.monotonic() - begin


def main() -> None:
    """Print the figures."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    conversations = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as home:
        fill(Path(home) / "data" / "conversations", conversations, 10)
        # As installed: with compiled bytecode, which the first start writes.
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": f"{home}/bytecode"}
        first_paint(home)
        measured = [first_paint(home) for _run in range(runs)]
        times, used = [clock for clock, _cpu in measured], [cpu for _clock, cpu in measured]
        bare = [imports("textual.app") for _run in range(runs)]
        ours = [imports("glmtui.tui.app") for _run in range(runs)]
        print(f"first paint      median {statistics.median(times):.3f} s   best {min(times):.3f} s")
        print(f"of it CPU time   median {statistics.median(used):.3f} s   best {min(used):.3f} s")
        print(f"import textual   median {statistics.median(bare):.3f} s   best {min(bare):.3f} s")
        print(f"import the app   median {statistics.median(ours):.3f} s   best {min(ours):.3f} s")
        print(f"load average     {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        probe = Path(home) / "probe.py"
        probe.write_text(PROBE.format(heavy=HEAVY), "utf-8")
        subprocess.run([sys.executable, str(probe)], env={**os.environ, "GLMTUI_HOME": home}, check=True)


if __name__ == "__main__":
    main()

"""The program ends within a second at any moment, whatever torch's threads are doing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

QUIT = """
import sys, threading, time
from glmtui.cli import leave
from glmtui.engine.events import *
from glmtui.engine.worker import Worker

worker = Worker()
worker.start()
worker.submit(Load({folder!r}, device="cpu", threads=2))
moment = {moment!r}
if moment == "import":
    while "torch" not in sys.modules:
        time.sleep(0.001)
else:
    while not isinstance(worker.events.get(), Loaded):
        pass
if moment == "generate":
    worker.submit(Generate((Turn("user", "hi"),), Sampling(max_length=10**6)))
    for _ in range(20):
        event = worker.events.get()
        assert isinstance(event, Started | PromptProgress | Tokens), event
if moment == "load":
    from glmtui.engine import loader
    reading = threading.Event()
    def slow(*_args):
        reading.set()
        time.sleep(60)
    loader.assign = slow
    worker.submit(Load({folder!r}, device="cpu"))
    reading.wait()
worker.close()
print("quit", time.time(), flush=True)
leave({code})
sys.exit({code})
"""


@pytest.mark.parametrize("moment", ["import", "load", "generate", "idle"])
def test_quit(moment: str, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "endless", max_length=10**6)
    script = QUIT.format(folder=str(folder), moment=moment, code=3)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    ended = time.time()
    assert done.returncode == 3, done.stderr
    assert done.stderr == ""
    asked = float(done.stdout.split("quit ")[1])
    assert ended - asked < 1.0

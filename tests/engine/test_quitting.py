"""The program ends within a second at any moment, whatever torch's threads are doing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

pytestmark = pytest.mark.slow

QUIT = """
import sys, threading, time
from glmtui.cli.main import leave
from glmtui.engine.local import LocalEngine
from glmtui.protocol.events import Loaded, PromptProgress, Started, Tokens
from glmtui.protocol.messages import ChatMessage
from glmtui.protocol.models import LocalModel
from glmtui.protocol.requests import Generate, Load
from glmtui.protocol.sampling import Sampling

engine = LocalEngine()
loading = engine.submit(Load(LocalModel({folder!r}, device="cpu", threads=2)))
moment = {moment!r}
if moment == "import":
    while "torch" not in sys.modules:
        time.sleep(0.001)
else:
    assert isinstance(list(loading)[-1], Loaded)
if moment == "generate":
    question = (ChatMessage.of("user", "hi"),)
    events = iter(engine.submit(Generate(question, Sampling(max_length=10**6))))
    for _ in range(20):
        event = next(events)
        assert isinstance(event, Started | PromptProgress | Tokens), event
if moment == "load":
    from glmtui.engine import loader
    reading = threading.Event()
    def slow(*_args):
        reading.set()
        time.sleep(60)
    loader.assign = slow
    engine.submit(Load(LocalModel({folder!r}, device="cpu")))
    reading.wait()
engine.close()
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

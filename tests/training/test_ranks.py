"""Two processes that train together, on the CPU, do what one does alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_model import write_tiny_model

from glmtui.training.checkpoints import read_weights
from glmtui.training.ranks import ALONE, Ranks


def test_alone_nothing_is_shared() -> None:
    tensor = torch.ones(2)
    assert ALONE.add_up(tensor) is tensor
    assert ALONE.leads
    assert [ALONE.takes(index) for index in range(3)] == [True] * 3
    assert not ALONE.any(False, tensor.device)
    assert [Ranks(1, 3).takes(index) for index in range(6)] == [False, True, False] * 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_do_together_what_one_does_alone(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    data = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"load {number}", "response": f"model {number}"} for number in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "glmtui", "tune", "--model", str(model), "--data", str(data), "--json"]
    command += ["--device", "cpu", "--threads", "1", "--steps", "4", "--batch", "1", "--accumulate", "3"]
    command += ["--pre-seq-len", "4", "--log-steps", "1", "--samples", "0", "--validation", "0.2"]

    def start(out: str, rank: int = 0, count: int = 1) -> subprocess.Popen[str]:
        environment = {**os.environ, "GLMTUI_HOME": str(tmp_path / f"home-{rank}"), "WORLD_SIZE": str(count)}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
        return subprocess.Popen(
            [*command, "--out", str(tmp_path / out)],
            stdout=subprocess.PIPE,
            env={**environment, "MASTER_PORT": str(port)},
            text=True,
        )

    together = [start("together", rank, 2) for rank in range(2)]
    printed = [process.communicate(timeout=100)[0] for process in together]
    assert [process.returncode for process in together] == [0, 0]
    assert printed[1] == "", "one of them speaks"
    alone = start("alone")
    lines = [json.loads(line) for line in alone.communicate(timeout=100)[0].splitlines()]
    found = [json.loads(line) for line in printed[0].splitlines()]
    assert [each["loss"] for each in found] == pytest.approx([each["loss"] for each in lines], abs=1e-5)
    expected = read_weights(tmp_path / "alone")
    for name, tensor in read_weights(tmp_path / "together").items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=0)

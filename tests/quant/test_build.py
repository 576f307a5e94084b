"""The kernels are compiled once, whole, for the owner only; without a compiler it works all the same."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from time import sleep, time

import psutil
import pytest
import torch
from quant_support import needs_compiler

from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.quant import cpu, formats
from glmtui.quant.cpu import build as building
from glmtui.quant.linear import QuantizedLinear

posix = pytest.mark.skipif(os.name != "posix", reason="about POSIX permissions")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path))
    if os.name == "posix" and (
        found := building.find_compilers()
    ):  # how fast the kernels are is no matter here
        monkeypatch.setenv("CC", compiler(tmp_path, f'exec "{found[0]}" "$@" -O0', "hasty-cc"))
    monkeypatch.setattr(cpu, "_load", cpu._load.__wrapped__)
    monkeypatch.setattr(cpu, "load", lambda: cpu._load()[0])
    return tmp_path


def compiler(folder: Path, script: str, name: str = "fake-cc") -> str:
    """Make a stand-in for a compiler."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@posix
def test_a_compiler_is_killed_when_the_load_is_given_up(home, monkeypatch, tmp_path):
    begun = tmp_path / "begun"
    monkeypatch.setenv(
        "CC", compiler(tmp_path, f"sleep 600 & echo $! >'{begun}.part'; mv '{begun}.part' '{begun}'; wait")
    )
    token = CancelToken()

    def cancel() -> None:
        while not begun.exists():
            sleep(0.01)
        token.cancel()

    threading.Thread(target=cancel).start()
    with token.current(), pytest.raises(OperationCancelled):
        building.build_kernels()
    gone = time() + 10
    while psutil.pid_exists(child := int(begun.read_text())) and time() < gone:
        if psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
    else:
        assert time() < gone, "what the compiler started still runs"
    assert list((tmp_path / "cache" / "kernels").iterdir()) == []


def product() -> torch.Tensor:
    torch.manual_seed(1)
    layer = QuantizedLinear(formats.quantize(torch.randn(20, 300), 4))
    return layer(torch.randn(3, 300))


@needs_compiler
@posix
def test_built_once_and_for_the_owner_only(home, monkeypatch):
    first = building.build_kernels()
    assert stat.S_IMODE(first.path.parent.stat().st_mode) == 0o700
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]
    monkeypatch.setattr(building, "_compile", lambda *_: pytest.fail("compiled again"))
    assert building.build_kernels() == first


@needs_compiler
@posix
def test_a_file_that_others_may_write_is_not_loaded(home):
    made = building.build_kernels()
    made.path.write_bytes(b"not what it was")
    made.path.chmod(0o666)
    again = building.build_kernels()
    assert again.path == made.path
    assert cpu.Kernels(str(again.path)).isa


@needs_compiler
def test_other_source_other_file(home, monkeypatch, tmp_path):
    made = building.build_kernels()
    changed = tmp_path / "source"
    shutil.copytree(building.FOLDER, changed)
    with (changed / "simd.h").open("a") as file:
        file.write("\n/* a comment */\n")
    monkeypatch.setattr(building, "SOURCES", tuple(changed / path.name for path in building.SOURCES))
    assert building.build_kernels().path != made.path


def test_without_a_compiler(home, monkeypatch):
    monkeypatch.setattr(building, "find_compilers", list)
    found = product()
    assert cpu.status().implementation == "torch"
    assert "compiler" in str(cpu.status().reason)
    monkeypatch.undo()
    torch.testing.assert_close(found, product(), rtol=1e-3, atol=1e-3)


@posix
def test_a_compiler_that_fails_is_quoted(home, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", compiler(tmp_path, "echo 'kernels.c:1: error: no such luck' >&2; exit 1"))
    assert product().isfinite().all()
    assert "no such luck" in str(cpu.status().reason)


@posix
def test_a_compiler_that_makes_nonsense_is_not_trusted(home, monkeypatch, tmp_path):
    script = 'while [ "$1" != "-o" ]; do shift; done; echo nonsense > "$2"'
    monkeypatch.setenv("CC", compiler(tmp_path, script))
    assert product().isfinite().all()
    assert cpu.status().implementation == "torch"


@needs_compiler
def test_kernels_that_compute_nonsense_are_not_used(home, monkeypatch):
    monkeypatch.setattr(cpu.Kernels, "multiply", lambda self, matrix, x: torch.zeros(len(x), matrix.rows))
    assert cpu.status().implementation == "torch"
    assert "wrong" in str(cpu.status().reason)


@needs_compiler
@posix
def test_a_cache_that_cannot_be_made(home, monkeypatch):
    (home / "cache").write_text("a file in the way")
    assert cpu.status().implementation != "torch"
    assert product().isfinite().all()


def test_the_variable_chooses(home, monkeypatch):
    monkeypatch.setenv(cpu.VARIABLE, "torch")
    assert cpu.status().implementation == "torch"
    monkeypatch.setenv(cpu.VARIABLE, "sse17")
    assert "sse17" in str(cpu.status().reason)


@needs_compiler
def test_two_processes_at_once(home):
    code = "from glmtui.quant import cpu; s = cpu.status(); print(s.implementation, s.reason)"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ})
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=100)[0].strip() for process in both]
    assert outputs[0] == outputs[1] != ""
    assert not outputs[0].startswith("torch")
    assert len(list((home / "cache" / "kernels").iterdir())) == 1

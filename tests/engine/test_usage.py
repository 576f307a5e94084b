"""Memory in use."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from glmtui.engine.usage import usage


def test_this_process_uses_memory_and_no_accelerators() -> None:
    before = usage("cpu")
    held = bytearray(64 << 20)
    assert usage("cpu").main - before.main > 32 << 20
    assert before.device is None
    del held


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_an_accelerators_memory_is_asked_of_torch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = SimpleNamespace(memory_reserved=lambda: 5, driver_allocated_memory=lambda: 5)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=asked, mps=asked))
    assert usage(kind).device == 5


def test_measuring_does_not_import_torch() -> None:
    code = "import sys, glmtui.engine.usage as u; u.usage('cuda'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Model folders changed at random load, or end in one typed error: soon, and in little memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from model_mutations import run

pytestmark = pytest.mark.slow

COUNT = 40
"""How many in every run; `model_mutations` takes any number by hand."""


def test_changed_folders_load_or_say_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    seed = random.randrange(1 << 32)
    report = run(COUNT, seed, tmp_path)
    assert not report.unexpected, f"seed {seed}: {report}"
    assert report.slowest[0] < 10, f"seed {seed}: {report}"
    assert report.growth < 500, f"seed {seed}: {report}"

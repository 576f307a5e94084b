"""Every test of the app has an empty home of its own, English, and no animations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glmtui import i18n


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Settings, conversations and state of this test."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    i18n.use("en")
    yield tmp_path / "home"
    i18n.use("en")

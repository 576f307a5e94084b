"""A home of their own for tests of documents and the web."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from glmtui import i18n
from glmtui.retrieval import readers
from glmtui.retrieval.collections import Collection, find
from glmtui.retrieval.documents import Block, Reading

Read = Callable[[str, bytes], tuple[list[Block], Reading]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    i18n.use("en")
    yield tmp_path / "home"
    i18n.use("en")


@pytest.fixture
def read() -> Read:
    """Read a document that is in memory."""

    def read(name: str, data: bytes) -> tuple[list[Block], Reading]:
        reading = Reading(BytesIO(data), name)
        return list(readers.read(reading)), reading

    return read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for documents."""
    path = tmp_path / "documents"
    path.mkdir()
    return path


@pytest.fixture
def collection(folder: Path) -> Collection:
    """What stands in the folder, without a name."""
    return find(str(folder))

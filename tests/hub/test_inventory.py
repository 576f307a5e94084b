"""The list of models: which one is recommended for the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmtui.hub import cache as hub_cache
from glmtui.hub import catalog, inventory
from glmtui.protocol.models import ModelEntry, Quant

GB = 1_000_000_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_cache, "free_bytes", lambda: 200 * GB)


def recommended(device: str, free: int) -> list[ModelEntry]:
    found = inventory.list_models(device, "", free * GB)
    return [entry for entry in found.entries if entry.recommended]


@pytest.mark.parametrize(
    ("device", "free", "name", "quant"),
    [
        ("cpu", 8, "glm-4-9b-0414", "4"),
        ("cpu", 64, "glm-4-9b-0414", "4"),
        ("cpu", 4, "glm-edge-4b-chat", "4"),
        ("cuda", 8, "glm-4-9b-0414", "4"),
        ("cuda", 16, "glm-4-9b-0414", "8"),
        ("cuda", 80, "glm-4-32b-0414", "none"),
    ],
)
def test_the_best_that_fits_is_recommended_and_first(device: str, free: int, name: str, quant: Quant) -> None:
    [entry] = recommended(device, free)
    assert (entry.name, entry.recommended) == (name, quant)
    absent = [each for each in inventory.list_models(device, "", free * GB).entries if each.place == "absent"]
    assert absent[0] == entry


def test_none_is_recommended_that_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recommended("cpu", 1) == []
    monkeypatch.setattr(hub_cache, "free_bytes", lambda: GB)
    assert recommended("cpu", 64) == []


def test_what_is_recommended_is_known_and_answers() -> None:
    for name in catalog.BEST:
        known = catalog.find(name)
        assert known is not None
        assert known.chats


def test_base_models_are_marked() -> None:
    found = {entry.name: entry.chats for entry in inventory.list_models().entries}
    assert not found["chatglm3-6b-base"]
    assert found["chatglm3-6b"]

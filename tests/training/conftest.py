"""What the tests of training share: the published trainer's runs, and small networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from golden_data import GOLDEN

from glmtui.training import PrefixTrainer

CASES = ("v1", "v1-projection", "v2")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


class Published(NamedTuple):
    """A run of the published trainer: five steps of two micro-batches of two rows."""

    folder: Path
    settings: dict[str, Any]
    arrays: Any

    @classmethod
    def of(cls, case: str) -> Published:
        folder = GOLDEN / f"ptuning-train-{case}"
        settings = json.loads((folder / "settings.json").read_text())
        return cls(folder, settings, np.load(folder / "expected.npz"))

    def named(self, kind: str) -> dict[str, np.ndarray]:
        return {name[len(kind) :]: self.arrays[name] for name in self.arrays.files if name.startswith(kind)}

    def trainer(self, **options: Any) -> PrefixTrainer:
        given: dict[str, Any] = {
            "pre_seq_len": 6,
            "prefix_projection": self.folder.name.endswith("projection"),
            "initial": self.named("initial/"),
            "learning_rate": self.settings["learning_rate"],
            "max_steps": self.settings["max_steps"],
            "max_grad_norm": self.settings["max_grad_norm"],
        }
        return PrefixTrainer(self.folder, **{**given, **options})

    def batches(self, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(self.arrays["input_ids"][step], self.arrays["labels"][step], strict=True))


@pytest.fixture(params=CASES)
def published(request: pytest.FixtureRequest) -> Published:
    return Published.of(request.param)

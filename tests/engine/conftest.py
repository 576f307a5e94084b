"""A tiny model that reads and writes text, in the published layout, and one that says what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_model import write_tiny_model, write_tiny_visualglm
from torch import Tensor

from glmtui.engine.chat_model import ChatModel
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.base import KVCache, State
from glmtui.protocol.models import ModelInfo

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that reads and writes text."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def seeing_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, and it sees pictures."""
    return write_tiny_visualglm(tmp_path_factory.mktemp("models") / "seeing")


@dataclass
class Scripted:
    """A language model that says the tokens `says`, calling `on_token` before each, then stops."""

    says: list[int]
    config: SimpleNamespace
    on_token: Callable[[], None] = lambda: None
    prompts: list[list[int]] = field(default_factory=list)
    """What every forward pass was given."""
    takes_any_state = sees_images = False
    _prompt_end = _rows = 0

    def embed(self, ids: Tensor) -> Tensor:
        self.prompts.append(ids[0].tolist())
        return ids[..., None].float()

    def hidden(self, x: Tensor, positions: Tensor, mask: Tensor | None, state: State) -> Tensor:
        for layer in range(self.config.num_layers):
            state.append(layer, x[:, None], x[:, None])
        self.on_token()
        self._rows = x.shape[1]
        return positions[:, -x.shape[1] :, None]

    def logits(self, hidden: Tensor) -> Tensor:
        places = hidden[0, :, 0].tolist()
        if (
            len(places) < self._rows or places[0] < self._prompt_end
        ):  # a prompt: only its last one is asked for
            self._prompt_end = places[-1]
        said = [place - self._prompt_end for place in places]
        tokens = [self.says[i] if i < len(self.says) else self.config.stop_ids[0] for i in said]
        logits = torch.zeros(1, len(tokens), self.config.vocab_size)
        return logits.scatter(2, torch.tensor(tokens)[None, :, None], 20.0)

    def new_cache(self, capacity: int = 0) -> KVCache:
        return KVCache(self.config.num_layers, capacity)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        yield torch.zeros(1)


Script = Callable[..., ChatModel]


@pytest.fixture
def script(text_folder: Path) -> Script:
    """Make a model with the tiny one's tokenizer that says `text`."""
    folder = ModelFolder.open(text_folder)

    def make(text: str, *, max_length: int = 256, on_token: Callable[[], None] = lambda: None) -> ChatModel:
        info = ModelInfo(
            "scripted", None, "chatglm", max_length, supports_system=False, device="cpu", dtype="float32"
        )
        config = SimpleNamespace(
            vocab_size=folder.config["vocab_size"],
            num_layers=10,
            max_length=max_length,
            stop_ids=(folder.config["eos_token_id"],),
        )
        model = ChatModel(Scripted([], config, on_token), folder, info)
        model.network.says = model.tokenizer.encode_text(text)
        return model

    return make

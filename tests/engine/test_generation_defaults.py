"""A model samples as its makers chose and talks as long as it was made for, unless told otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden_data import GOLDEN

import glmtui
from glmtui.engine.generation_defaults import LONGEST, LONGEST_THINKING, published_sampling
from glmtui.hub.model_dir import Family, ModelFolder
from glmtui.protocol.sampling import Sampling


def folder(tmp_path: Path, family: Family, generation: object = None, **config: Any) -> ModelFolder:
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    return ModelFolder(tmp_path, config, family, ())


@pytest.mark.parametrize(
    ("family", "config", "made_for", "expected"),
    [
        ("chatglm", {}, 2048, Sampling(2048)),
        ("chatglm2", {}, 32768, Sampling(8192, temperature=0.8, top_p=0.8)),
        ("chatglm2", {"rope_ratio": 16}, 32768, Sampling(32768, temperature=0.8, top_p=0.8)),
        ("chatglm3", {"rope_ratio": 500}, 131_072, Sampling(LONGEST, temperature=0.8, top_p=0.8)),
        ("codegeex2", {}, 4096, Sampling(4096, temperature=0.8, top_p=0.8)),
    ],
)
def test_the_older_ones_are_as_their_published_chat(
    family: Family, config: dict[str, Any], made_for: int, expected: Sampling, tmp_path: Path
) -> None:
    assert published_sampling(folder(tmp_path, family, **config), made_for) == expected


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        (None, Sampling(LONGEST, temperature=0.8, top_p=0.8)),
        ({"eos_token_id": [1]}, Sampling(LONGEST, temperature=0.8, top_p=0.8)),
        ({"do_sample": True}, Sampling(LONGEST, temperature=1.0, top_p=1.0)),
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.1},
            Sampling(LONGEST, temperature=0.6, top_p=0.95, top_k=40, repetition_penalty=1.1),
        ),
        ({"do_sample": False, "temperature": 0.6}, Sampling(LONGEST, temperature=0.0)),
        ({"temperature": "hot", "top_p": 7, "top_k": True}, Sampling(LONGEST, temperature=0.8, top_p=0.8)),
    ],
)
@pytest.mark.parametrize("family", ["chatglm4", "glm4"])
def test_newer_ones_are_as_their_folder_says(
    family: Family, generation: object, expected: Sampling, tmp_path: Path
) -> None:
    assert published_sampling(folder(tmp_path, family, generation), 131_072) == expected


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_model_that_thinks_has_more_room(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{% if not thinking %}<think></think>{% endif %}")
    assert published_sampling(folder(tmp_path, "glm4_moe"), 131_072).max_length == LONGEST_THINKING
    assert published_sampling(folder(tmp_path, "glm4_moe"), 16_384).max_length == 16_384


def test_a_loaded_model_tells_and_uses_them() -> None:
    model = glmtui.load(str(GOLDEN / "chatglm3-fp16"), device="cpu")
    assert model.default_sampling == model.info.sampling
    assert model.info.sampling == Sampling(model.info.max_length, temperature=0.8, top_p=0.8)
    assert glmtui.load(device="cpu").info.sampling == Sampling(1024)

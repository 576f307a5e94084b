"""GLMs that see against transformers' own forward pass, on models that it made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from glm_vision_support import KINDS, make_seeing_model
from torch import Tensor

pytest.importorskip("PIL", reason="pictures need Pillow")

from picture_files import BAD, png

import glmtui
from glmtui import images
from glmtui.engine import pictures
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.generate import Generation
from glmtui.engine.prefill import read
from glmtui.errors import UserError
from glmtui.hub import inventory
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.base import ImageRows, PlacedImage
from glmtui.models.checkpoint import new_network
from glmtui.models.glm_vision import SeeingCache
from glmtui.protocol.messages import ChatMessage, Image, Text
from glmtui.protocol.sampling import Sampling

WIDE, TALL = png(200, 120), png(60, 170)
GREEDY = Sampling(max_new_tokens=4, temperature=0.0)


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("seeing") / request.param
    return make_seeing_model(request.param, folder), folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeing") / "glm4v"
    make_seeing_model("glm4v", folder)
    return folder


def digest(data: bytes) -> Image:
    return pictures.given(data)[0]


def files(*datas: bytes) -> dict[str, bytes]:
    return {digest(data).sha256: data for data in datas}


def asked(text: str, *datas: bytes) -> ChatMessage:
    return ChatMessage("user", (*map(digest, datas), Text(text)))


def inputs(theirs: Any, folder: Path, ids: list[int], *datas: bytes) -> dict[str, Tensor]:
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)
    prepared = processor(images=[images.decode(data) for data in datas], return_tensors="pt")
    tokens = torch.tensor([ids])
    kinds = (tokens == theirs.config.image_token_id).int()
    return {"input_ids": tokens, "mm_token_type_ids": kinds, **prepared}


def prompt_of(model: ChatModel, *messages: ChatMessage, images: dict[str, bytes]) -> Any:
    return model.stream(messages, GREEDY, images=images).generation


@torch.inference_mode()
def test_two_pictures_are_seen_as_transformers_sees_them(made: tuple[Any, Path]) -> None:
    theirs, folder = made
    model = glmtui.load(folder, device="cpu", dtype="float32")
    assert model.info.sees_images
    said = ChatMessage.of("assistant", "A wall.")
    messages = asked("What is it?", WIDE), said, asked("And this?", TALL)
    generation = prompt_of(model, *messages, images=files(WIDE, TALL))
    given = inputs(theirs, folder, generation.prompt, WIDE, TALL)
    expected = theirs.generate(**given, max_new_tokens=8, do_sample=False, eos_token_id=None)
    placed = [PlacedImage(each.at, each.look(None)) for each in generation.images]
    logits = read(model.network, given["input_ids"][0], images=placed)
    torch.testing.assert_close(logits, theirs(**given).logits[0], rtol=0, atol=2e-5)
    assert [len(each.image.rows) for each in placed] == [
        model.network.image_rows(200, 120),
        model.network.image_rows(60, 170),
    ]
    generation.max_new_tokens, generation._stop_ids = 8, frozenset()
    assert list(generation) == expected[0, len(generation.prompt) :].tolist()


def test_the_python_interface(made: tuple[Any, Path]) -> None:
    theirs, folder = made
    model = glmtui.load(folder, device="cpu", dtype="float32")
    generation = prompt_of(model, asked("What?", WIDE), images=files(WIDE))
    at = generation.images[0].at
    logits = model.logits(generation.prompt, image=WIDE, image_at=at)
    with torch.inference_mode():
        expected = theirs(**inputs(theirs, folder, generation.prompt, WIDE)).logits[0]
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-5)
    response, _history = model.chat("What?", image=WIDE, max_new_tokens=4, temperature=0.0)
    ids = list(model.generate(generation.prompt, max_new_tokens=4, image=WIDE, image_at=at))
    assert response == model.tokenizer.decode(ids[: ids.index(0)] if 0 in ids else ids).strip()


@pytest.mark.parametrize("quant", ["8", "4"])
def test_quantised_weights_leave_the_eyes_as_they_are(made: tuple[Any, Path], quant: Any) -> None:
    _theirs, folder = made
    model = glmtui.load(folder, device="cpu", quant=quant)
    exact = glmtui.load(folder, device="cpu", dtype="float32")
    assert torch.equal(model.image_embeds(WIDE), exact.image_embeds(WIDE))
    assert "QuantizedLinear" in repr(model.network.text.layers)
    assert "Quantized" not in repr(model.network.model.visual)


def test_weights_are_counted_without_torch(made: tuple[Any, Path]) -> None:
    _theirs, folder = made
    opened = ModelFolder.open(folder)
    network = new_network(opened)
    eyes = sum(each.numel() for name, each in network.named_parameters() if "visual" in name)
    assert opened.sizes.vision == eyes
    routers = sum(each.numel() for name, each in network.named_buffers() if "e_score" in name)
    assert opened.sizes.parameters == sum(each.numel() for each in network.parameters()) + routers
    assert inventory.examine(folder).max_length == 2048


def test_the_next_question_is_read_behind_what_is_cached(folder: Path) -> None:
    model = glmtui.load(folder, device="cpu", dtype="float32")
    first = model.stream([asked("What?", WIDE)], GREEDY, images=files(WIDE))
    for _piece in first:
        pass
    said = ChatMessage.of("assistant", first.text)
    again = asked("What?", WIDE), said, asked("And this?", TALL)
    second = prompt_of(model, *again, images=files(WIDE, TALL))
    assert second.cache is not None
    assert second.cache.length > first.generation.images[0].at + 15
    placed = [(first.generation.images[0].at, digest(WIDE)), (second.images[1].at, digest(TALL))]
    seen = model._pictures.in_prompt(placed, files(WIDE, TALL))
    fresh = Generation(model.network, second.prompt, GREEDY, images=seen)
    assert list(second) == list(fresh)


def test_positions_of_pictures() -> None:
    """A picture of 2 by 3 rows at index 2: text goes on after its longer side."""
    cache = SeeingCache(1)
    cache.see([PlacedImage(2, ImageRows(torch.zeros(6, 1), (2, 3)))])
    assert cache.positions(torch.arange(10))[0].tolist() == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
    cache.length = 8
    cache.see([PlacedImage(9, ImageRows(torch.zeros(4, 1), (1, 4)))])
    assert len(cache.images) == 2
    cache.truncate(2)
    assert cache.images == ()


def test_what_a_person_types_is_no_picture(folder: Path) -> None:
    model = glmtui.load(folder, device="cpu", dtype="float32")
    token = model.tokenizer.raw.special_ids["<|image|>"]
    assert token not in model.prompt_ids([asked("<|image|> <|begin_of_image|>")])
    ids = model.prompt_ids([asked("<|image|>", WIDE)], files(WIDE))
    assert ids.count(token) == model.network.image_rows(200, 120)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        ("{", "preprocessor_config"),
        ('{"image_processor_type": "No"}', "preprocessor_config"),
    ],
)
def test_a_folder_without_a_good_processor(tmp_path: Path, content: str | None, message: str) -> None:
    make_seeing_model("glm4v", tmp_path / "glm4v")
    file = tmp_path / "glm4v" / "preprocessor_config.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    model = glmtui.load(tmp_path / "glm4v", device="cpu", dtype="float32")
    assert model.logits([1, 2, 3]).isfinite().all()
    with pytest.raises(UserError, match=message):
        model.image_embeds(WIDE)


def test_bad_pictures_are_told(folder: Path) -> None:
    model = glmtui.load(folder, device="cpu", dtype="float32")
    for data in BAD.values():
        with pytest.raises(UserError, match="cannot be used"):
            model.image_embeds(data)


def test_a_config_that_cannot_be_is_named(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["depth"] = -1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"vision_config\.depth is -1"):
        ModelFolder.open(tmp_path)

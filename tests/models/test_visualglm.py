"""VisualGLM-6B against its goldens, in every layout, and folders that are broken."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_data import GOLDEN, TOKENIZERS, golden_json, needs_published_tokenizers, read_network
from safetensors.torch import save_file
from torch import Tensor

import glmtui
from glmtui import host, images
from glmtui.engine.prefill import read
from glmtui.engine.sampling import distribution, penalize
from glmtui.errors import UserError
from glmtui.hub import catalog
from glmtui.hub.model_dir import ModelFolder
from glmtui.models import sat
from glmtui.models.base import PlacedImage
from glmtui.models.chat_formats import formats
from glmtui.models.checkpoint import Checkpoint, new_network
from glmtui.models.tokenizers.chatglm import VisualGLMTokenizer
from glmtui.models.visualglm import VisualGLM, to_pixels
from glmtui.protocol.messages import ChatMessage, Image, Text
from glmtui.quant.tiled import tile

TINY, SAT = GOLDEN / "visualglm-tiny", GOLDEN / "visualglm-tiny-sat"
PICTURE = TINY / "image.png"
WEIGHTS = "300/mp_rank_00_model_states.pt"


@pytest.fixture(scope="module")
def expected() -> Any:
    return dict(np.load(TINY / "expected.npz"))


@pytest.fixture(scope="module")
def network() -> VisualGLM:
    found = read_network(TINY)
    assert isinstance(found, VisualGLM)
    return found


def picture() -> Any:
    return images.decode(PICTURE.read_bytes())


def state_of(file: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = torch.load(file, weights_only=True)
    return found


def check(actual: Tensor, wanted: Any, tolerance: float) -> None:
    """Compare, `tolerance` relative to the largest value."""
    np.testing.assert_allclose(actual.detach(), wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


# --- numbers ---


def test_pixels_are_those_of_the_published_code_bit_for_bit(expected: Any) -> None:
    assert np.array_equal(to_pixels(picture(), (224, 224)).numpy(), expected["pixel_values"])


@torch.inference_mode()
def test_the_image_encoder(network: VisualGLM, expected: Any) -> None:
    encoder: Any = network.image_encoder
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda _module, _given, out: seen.__setitem__(name, out[0])

    layers = {
        "vit_layer_0": encoder.vit.transformer.layers[0],
        "qformer_layer_0": encoder.qformer.transformer.layers[0],
        "qformer_layer_1": encoder.qformer.transformer.layers[1],
        "vit_output": encoder.vit,
        "qformer_output": encoder.qformer,
    }
    hooks = [module.register_forward_hook(note(name)) for name, module in layers.items()]
    found = network.encode_image(picture())
    for hook in hooks:
        hook.remove()
    seen["vit_input"] = encoder.vit.embed(to_pixels(picture(), (224, 224))[None])[0]
    for name, actual in seen.items():
        check(actual, expected[name], 1e-5)
    check(found.rows, expected["image_embeds"], 1e-5)


@pytest.mark.parametrize("rows", [256, 7])
def test_prompt_and_answer(
    network: VisualGLM, expected: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glmtui.engine import prefill

    monkeypatch.setattr(prefill, "ROWS", rows)
    placed = [PlacedImage(int(expected["pre_image_length"]), network.encode_image(picture()))]
    cache = network.new_cache()
    logits = read(network, torch.from_numpy(expected["input_ids"]), cache, images=placed)
    check(logits, expected["prompt_logits"], 2e-4)
    for token, step in zip(expected["greedy_ids"], expected["step_logits"], strict=False):
        check(logits[-1], step, 2e-4)
        assert logits[-1].argmax() == token
        logits = read(network, torch.tensor([token]), cache)
    check(logits[-1], expected["step_logits"][-1], 2e-4)


def test_text_alone(network: VisualGLM, expected: Any) -> None:
    check(read(network, torch.from_numpy(expected["text_input_ids"])), expected["text_logits"], 2e-4)


def test_how_the_first_token_is_chosen(expected: Any) -> None:
    ids, scores = expected["input_ids"].tolist(), torch.from_numpy(expected["sampling_scores"])
    logits = torch.from_numpy(expected["prompt_logits"])[-1]
    config = golden_json("visualglm-tiny/config.json")
    logits = penalize(logits, ids, 1.2).index_fill(0, torch.tensor([config["eos_token_id"]]), -torch.inf)
    tokens, probabilities = distribution(logits, 0.8, 100, 0.4)
    assert set(tokens.tolist()) == set(scores.isfinite().nonzero().flatten().tolist())
    torch.testing.assert_close(probabilities, scores.softmax(0)[tokens], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("folder", [TINY, SAT], ids=lambda folder: folder.name)
def test_the_python_interface(folder: Path, expected: Any) -> None:
    model = glmtui.load(folder, device="cpu", dtype="float32")
    assert model.info.sees_images
    assert model.capabilities.images
    ids, at = expected["input_ids"], int(expected["pre_image_length"])
    embeds = model.image_embeds(PICTURE)
    assert (embeds.dtype, tuple(embeds.shape)) == (torch.float32, expected["image_embeds"].shape)
    check(embeds, expected["image_embeds"], 1e-5)
    tolerance = 2e-4 if folder == TINY else 0.1 / float(np.abs(expected["prompt_logits"]).max())
    check(model.logits(ids, image=str(PICTURE), image_at=at), expected["prompt_logits"], tolerance)
    answer = model.generate(ids, max_new_tokens=12, image=PICTURE.read_bytes(), image_at=at)
    assert list(answer) == expected["greedy_ids"].tolist()
    with pytest.raises(UserError, match=r"ice_text\.model is missing"):
        model.chat("描述这张图片。", image=PICTURE)


@pytest.mark.parametrize("at", [-1, 24, 1000, 3.0, True])
def test_a_picture_has_to_have_room(network: VisualGLM, expected: Any, at: Any) -> None:
    model = glmtui.load(TINY, device="cpu", dtype="float32")
    with pytest.raises(UserError, match="takes 32 tokens"):
        model.logits(expected["input_ids"], image=PICTURE, image_at=at)


@pytest.mark.parametrize("quant", ["8", "4"])
def test_quantised_weights_leave_the_eyes_as_they_are(quant: Any, expected: Any) -> None:
    model = glmtui.load(TINY, device="cpu", quant=quant)
    check(model.image_embeds(PICTURE), expected["image_embeds"], 1e-5)
    assert "QuantizedLinear" in repr(model.network.transformer.layers)
    assert "Quantized" not in repr(model.network.image_encoder)


def test_eyes_of_16_bits(expected: Any) -> None:
    """Products in bfloat16 between norms and sums in float32, as next to quantised weights of full size."""
    found = read_network(TINY, torch.bfloat16).encode_image(picture()).rows
    assert found.dtype == torch.float32
    check(found, expected["image_embeds"], 0.03)
    assert not torch.equal(found, torch.from_numpy(expected["image_embeds"]))


def test_eyes_of_16_bits_where_the_processor_does_not_multiply_them(
    expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "has_native_bfloat16", lambda: False)
    network = read_network(TINY, torch.bfloat16)
    tile(network)
    assert "TiledLinear" in repr(network.image_encoder.vit)
    check(network.encode_image(picture()).rows, expected["image_embeds"], 0.03)


def test_published_sizes() -> None:
    known = catalog.find("THUDM/visualglm-6b")
    assert known is not None
    assert known.sizes.vision == 985_952_256 + 105_162_240 + 3_149_824
    assert known.sizes.parameters == 7_267_550_720
    assert known.sizes.memory_bytes("4", 1) < 6.2e9


@pytest.mark.parametrize("folder", [TINY, SAT], ids=lambda folder: folder.name)
def test_sizes_are_counted_as_the_network_has_them(folder: Path) -> None:
    opened = ModelFolder.open(folder)
    assert opened.family == "visualglm"
    counted = sum(parameter.numel() for parameter in new_network(opened).parameters())
    assert opened.sizes.parameters == counted


# --- layouts ---


def test_shards_with_eyes_of_float32(tmp_path: Path, expected: Any) -> None:
    state = state_of(TINY / "pytorch_model.bin")
    shards = [{}, {}]
    for number, (name, tensor) in enumerate(state.items()):
        shards[number % 2][name] = tensor.float() if name.startswith("image_encoder.") else tensor
    for number, shard in enumerate(shards):
        torch.save(shard, tmp_path / f"pytorch_model-{number}.bin")
    where = {name: f"pytorch_model-{number}.bin" for number, shard in enumerate(shards) for name in shard}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    shutil.copy(TINY / "config.json", tmp_path)
    check(read_network(tmp_path).encode_image(picture()).rows, expected["image_embeds"], 1e-5)


@pytest.mark.parametrize(
    "left_out", [("auto_map",), ("image_length", "auto_map"), ("auto_map", "architectures", "torch_dtype")]
)
def test_it_is_recognised_by_what_it_has(tmp_path: Path, left_out: tuple[str, ...], expected: Any) -> None:
    config = {
        name: value
        for name, value in golden_json("visualglm-tiny/config.json").items()
        if name not in left_out
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = {name: tensor.clone() for name, tensor in state_of(TINY / "pytorch_model.bin").items()}
    save_file(state, tmp_path / "model.safetensors")
    check(read_network(tmp_path).encode_image(picture()).rows, expected["image_embeds"], 1e-5)


def sat_folder(
    tmp_path: Path,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda state: state,
    *,
    step: str = "300",
    **config: Any,
) -> Path:
    """Copy the golden with its weights changed, and values in ``model_config.json``."""
    (tmp_path / step).mkdir()
    state: Any = state_of(SAT / WEIGHTS)
    torch.save({"iteration": 7, "module": change(state["module"])}, tmp_path / step / Path(WEIGHTS).name)
    (tmp_path / "latest").write_text(f"{step}\n")
    found = json.loads((SAT / "model_config.json").read_text()) | config
    (tmp_path / "model_config.json").write_text(json.dumps(found))
    return tmp_path


def per_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write the rows of queries, keys and values as the files of May 2023 had them."""
    return {
        name: sat.head_by_head(tensor, 2) if ".query_key_value." in name and "mixins" not in name else tensor
        for name, tensor in state.items()
    }


def trained(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make the rows of values shorter than others, as training does."""
    for name, tensor in state.items():
        if ".query_key_value.weight" in name and "mixins" not in name:
            tensor[-len(tensor) // 3 :] *= 0.5
    return state


def logits_of(folder: Path, expected: Any) -> Tensor:
    network = read_network(folder)
    placed = [PlacedImage(int(expected["pre_image_length"]), network.encode_image(picture()))]
    return read(network, torch.from_numpy(expected["input_ids"]), images=placed)


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (lambda state: state, {}, False),
        (per_head, {"step": "1"}, False),  # the release of May 2023
        (lambda state: state, {"step": "1", "query_key_value_rows": "thirds"}, True),
        (per_head, {"query_key_value_rows": "per head"}, True),
    ],
    ids=["later", "first", "first but said", "later but said"],
)
def test_row_orders_of_sat_files(
    tmp_path: Path, change: Any, options: dict[str, Any], told: bool, expected: Any
) -> None:
    folder = sat_folder(tmp_path, change, **options)
    check(logits_of(folder, expected), expected["prompt_logits"], 0.004)
    order = sat.RowOrder.of(ModelFolder.open(folder))
    assert order.told == told
    note = str(order.note(ModelFolder.open(folder)))
    assert ("model_config.json" in note) == (not told)


@pytest.mark.parametrize("step", ["1", "300"])
def test_weights_that_were_trained_tell_the_order_themselves(
    tmp_path: Path, step: str, expected: Any
) -> None:
    for name in ("thirds", "heads"):
        (tmp_path / name).mkdir()
    thirds = sat_folder(tmp_path / "thirds", trained, step=step)
    heads = sat_folder(tmp_path / "heads", lambda state: per_head(trained(state)), step=step)
    found = [sat.RowOrder.of(ModelFolder.open(folder)) for folder in (thirds, heads)]
    assert found == [sat.RowOrder(False, told=True), sat.RowOrder(True, told=True)]
    torch.testing.assert_close(logits_of(thirds, expected), logits_of(heads, expected))


def test_a_sat_folder_becomes_one_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glmtui.quant import cache

    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    cache.write_folder(ModelFolder.open(SAT), 8, tmp_path / "int8")
    source = glmtui.load(SAT, device="cpu", quant="8")
    model = glmtui.load(tmp_path / "int8", device="cpu")
    assert (model.info.quant, model.info.architecture, model.info.sees_images) == ("8", "visualglm", True)
    check(model.image_embeds(PICTURE), source.image_embeds(PICTURE).numpy(), 0.03)
    check(model.logits([5, 6, 301, 304]), source.logits([5, 6, 301, 304]).numpy(), 1e-4)


@pytest.mark.parametrize("home", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_random_numbers_of_training_next_to_the_weights(tmp_path: Path, home: bytes, expected: Any) -> None:
    """As DeepSpeed writes them, with a NumPy before or since 2.0."""
    sat_folder(tmp_path)
    state: Any = state_of(SAT / WEIGHTS)
    state |= {"random_rng_state": random.getstate(), "np_rng_state": np.random.RandomState(0).get_state()}
    written = io.BytesIO()
    torch.save(state, written)
    with zipfile.ZipFile(written) as archive, zipfile.ZipFile(tmp_path / WEIGHTS, "w") as target:
        for part in archive.infolist():
            content = archive.read(part)
            if part.filename.endswith("data.pkl"):
                content = re.sub(rb"numpy\._?core\.multiarray", home, content)
            target.writestr(part.filename, content)
    check(logits_of(tmp_path, expected), expected["prompt_logits"], 0.004)


# --- broken ---


def with_lora(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"transformer.layers.0.attention.query_key_value.matrix_A.0": torch.zeros(10, 64), **state}


def with_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"mixins.ptuning.prefix": torch.zeros(4, 64), **state}


def without_queries(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if ".qformer." not in name}


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (with_lora, {}, "Merge it into the model"),
        (with_prefix, {}, "Merge it into the model"),
        (without_queries, {}, "lacks 105 tensors|lacks .* tensors"),
        (None, {"model_class": "CogVLMModel", "eva_args": {}, "qformer_args": {}}, "VisualGLM alone"),
        (None, {"query_key_value_rows": "upside down"}, 'one of "per head", "thirds"'),
        (None, {"eva_args": {"hidden_size": "wide"}}, "eva_config.hidden_size"),
        (None, {"eva_args": [1]}, "an object with fields"),
        (None, {"qformer_args": None}, "model_config.json does not say qformer_args"),
        (None, {"eva_args": {}}, "model_config.json does not say eva_args"),
        (None, {"num_layers": None}, "model_config.json does not say num_layers"),
        (None, {"bos_token_id": None}, "model_config.json does not say bos_token_id"),
    ],
)
def test_broken_sat_folders(tmp_path: Path, change: Any, config: dict[str, Any], message: str) -> None:
    folder = sat_folder(tmp_path, change or (lambda state: state), **config)
    with pytest.raises(UserError, match=message):
        glmtui.load(folder, device="cpu")


@pytest.mark.parametrize(
    ("latest", "message"),
    [(None, "no file latest"), ("", "names no folder"), ("../300", "names no folder"), ("7", "7/mp_rank_00")],
)
def test_a_sat_folder_whose_weights_are_not_found(tmp_path: Path, latest: str | None, message: str) -> None:
    sat_folder(tmp_path)
    (tmp_path / "latest").unlink()
    if latest is not None:
        (tmp_path / "latest").write_text(latest)
    with pytest.raises(UserError, match=message):
        ModelFolder.open(tmp_path)


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("eva_config", "patch_size", 0, "eva_config.patch_size is 0"),
        ("eva_config", "patch_size", None, "eva_config.patch_size"),
        ("eva_config", "image_size", [224, -1], "eva_config.image_size"),
        ("eva_config", "image_size", [448, 448], "448×448 pixels make 1024 patches"),
        ("eva_config", "num_attention_heads", 5, "cannot be divided among 5"),
        ("qformer_config", "is_decoder", [True], "is_decoder is of 1 layers"),
        ("qformer_config", "is_decoder", "yes", "qformer_config.is_decoder"),
        ("qformer_config", "vocab_size", 16, "image_length is 32"),
        ("qformer_config", "hidden_size", 44, "do not belong together"),
    ],
)
def test_broken_configs(tmp_path: Path, part: str, field: str, value: Any, message: str) -> None:
    config = golden_json("visualglm-tiny/config.json")
    config[part][field] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(TINY / "pytorch_model.bin", tmp_path)
    with pytest.raises(UserError, match=message):
        glmtui.load(tmp_path, device="cpu")


def test_a_pickle_that_would_run_code_is_refused_in_a_sat_folder_too(tmp_path: Path) -> None:
    sat_folder(tmp_path)
    torch.save({"module": {}, "args": Path("x")}, tmp_path / WEIGHTS)
    with pytest.raises(UserError, match="asks to run code"):
        list(Checkpoint.open(tmp_path).tensors())


# --- prompts ---


@pytest.fixture(scope="module")
def form() -> formats.ChatFormat:
    return formats.chat_format(VisualGLMTokenizer(TOKENIZERS / "chatglm-6b" / "ice_text.model"))


@needs_published_tokenizers
@pytest.mark.parametrize("case", golden_json("visualglm-prompts.json"), ids=lambda case: case["query"])
def test_prompts(form: formats.ChatFormat, case: Any) -> None:
    image = Image("a" * 64, "image/png") if case["image"] else None
    messages = formats.messages_of(case["query"], map(tuple, case["history"]), image=image)
    prompt = form.fit(messages, 1000)
    # SAT fills with <pad>, transformers with <unk>, which counts for the repetition penalty
    assert prompt.ids == [0 if token == 3 else token for token in case["input_ids"]]
    assert [at for at, _image in prompt.images] == ([case["pre_image_length"]] if case["image"] else [])


def asked(text: str, *pictures: str) -> ChatMessage:
    return ChatMessage("user", (*(Image(name * 64, "image/png") for name in pictures), Text(text)))


@needs_published_tokenizers
def test_what_was_said_about_another_picture_is_left_out(form: formats.ChatFormat) -> None:
    said = ChatMessage.of("assistant", "好")
    messages = [asked("一", "a"), said, asked("二"), said, asked("三", "b"), said, asked("四")]
    prompt = form.fit(messages, 1000)
    assert (prompt.dropped_rounds, prompt.images[0][1].sha256) == (2, "b" * 64)
    assert prompt.ids == form.fit(messages[4:], 1000).ids


@needs_published_tokenizers
def test_the_picture_stays_where_its_round_has_no_room(form: formats.ChatFormat) -> None:
    said = ChatMessage.of("assistant", "好" * 50)
    messages = [asked("一", "a"), said, asked("二"), said, asked("三")]
    prompt = form.fit(messages, 60)
    assert prompt.dropped_rounds == 2
    assert prompt.images == ((3, Image("a" * 64, "image/png")),)
    assert len(prompt.ids) <= 60


@needs_published_tokenizers
def test_an_answer_about_a_picture_is_continued(form: formats.ChatFormat) -> None:
    asked_only = form.fit([asked("一", "a")], 1000).ids
    continued = form.fit([asked("一", "a"), ChatMessage.of("assistant", "好的")], 1000).ids
    assert continued[: len(asked_only)] == asked_only
    assert len(continued) > len(asked_only)

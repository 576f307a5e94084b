"""LoRA: the files are PEFT's, the products are where they belong, and several are kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from glm_support import make_model
from golden_data import GOLDEN, read_network
from safetensors.torch import load_file, save_file
from torch import nn

import glmtui
from glmtui.engine.local import LocalEngine
from glmtui.errors import BadFileError, BadValueError, NotFoundError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.base import LanguageModel
from glmtui.models.lora import Lora, Shape, new_lora, read_lora, save_lora
from glmtui.models.merging import merge
from glmtui.protocol.events import Failed, Loaded
from glmtui.protocol.models import LocalModel
from glmtui.protocol.requests import Load
from glmtui.training.forward import TrainingState, loss_of
from glmtui.training.lora import LoraTuning
from glmtui.training.trainer import Trainer

V1, V2 = GOLDEN / "chatglm-fp16-sharded", GOLDEN / "chatglm2-fp16-sharded"
IDS = [75, 134, 22, 301, 304, 17, 9]


def logits(network: LanguageModel) -> torch.Tensor:
    from glmtui.engine.prefill import read

    return read(network, torch.tensor(IDS))


def filled(lora: Lora, seed: int = 0) -> Lora:
    """Give B values: a new adapter changes nothing."""
    torch.manual_seed(seed)
    for _name, product in lora.named():
        product.b.data.normal_(0, 0.05)
    return lora


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA for the first golden model."""
    folder = tmp_path / "lora"
    folder.mkdir()
    shape = Shape(4, 8.0)
    save_lora(filled(new_lora(read_network(V1), shape)), folder, shape, 0.1, "chatglm-6b")
    return folder


def test_the_files_are_those_of_peft(adapter: Path) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 8.0)
    assert config["target_modules"] == ["query_key_value"]
    stored = load_file(adapter / "adapter_model.safetensors")
    name = "base_model.model.transformer.layers.0.attention.query_key_value.lora_A.weight"
    assert stored[name].shape == (4, 64)
    assert stored[name.replace("lora_A", "lora_B")].shape == (192, 4)


def test_a_product_adds_what_changed_weights_would(adapter: Path) -> None:
    network, changed = read_network(V1), read_network(V1)
    lora = read_lora(adapter, network)
    for name, product in lora.named():
        changed.get_submodule(name).weight.data += product.weight
    plain = logits(network)
    lora.attach(network)
    torch.testing.assert_close(logits(network), logits(changed), rtol=1e-4, atol=1e-3)
    lora.detach()
    assert torch.equal(logits(network), plain)


def test_peft_reads_and_applies_it_alike(adapter: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    network = read_network(V2)
    lora = filled(new_lora(network, Shape(4, 8.0)))
    folder = adapter.with_name("second")
    folder.mkdir()
    save_lora(lora, folder, Shape(4, 8.0), 0.0, "chatglm2-6b")
    config = peft.PeftConfig.from_pretrained(folder)
    assert (config.r, config.lora_alpha, set(config.target_modules)) == (4, 8.0, {"query_key_value"})
    theirs = read_network(V2)
    theirs.prepare_inputs_for_generation = None  # of transformers' models
    theirs = peft.PeftModel.from_pretrained(theirs, folder).base_model.model
    lora.attach(network)
    torch.testing.assert_close(logits(network), logits(theirs))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "target_modules": ["query_key_value", "dense_4h_to_h"]},
        {
            "rank_pattern": {r"layers\.0\..*query_key_value": 2},
            "alpha_pattern": {r"^transformer.encoder.layers.\d+.self_attention.query_key_value": 32},
        },
    ],
)
def test_what_peft_saves_is_applied_as_there(options: dict[str, Any], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    given = {"r": 4, "lora_alpha": 8, "target_modules": ["query_key_value"], "init_lora_weights": False}
    theirs = peft.get_peft_model(read_network(V2), peft.LoraConfig(**{**given, **options})).eval()
    theirs.save_pretrained(tmp_path)
    network = read_network(V2)
    read_lora(tmp_path, network).attach(network)
    torch.testing.assert_close(logits(network), logits(theirs.base_model.model))


@pytest.mark.parametrize("quant", ["8", "4"])
def test_quantised_models_take_it_token_by_token(adapter: Path, quant: Any) -> None:
    """The kernels that run all layers in one call know nothing of it, and must step aside."""
    plain = glmtui.load(V1, device="cpu", quant=quant)
    model = glmtui.load(V1, device="cpu", quant=quant, lora=adapter)
    complete = model.logits(IDS)
    ids = list(model.generate(IDS, max_new_tokens=5))
    assert ids[0] == int(complete[-1].argmax())
    for count in range(1, 5):
        assert ids[count] == int(model.logits([*IDS, *ids[:count]])[-1].argmax())
    assert not torch.allclose(complete, plain.logits(IDS))
    model.adapt(None, None)
    assert torch.equal(model.logits(IDS), plain.logits(IDS))


@pytest.mark.parametrize("quant", ["8", "4"])
def test_only_without_it_are_tokens_together_exactly_those_alone(adapter: Path, quant: Any) -> None:
    model = glmtui.load(V1, device="cpu", quant=quant)
    before = model.network.exact_rows
    for _time in range(2):
        model.adapt(None, str(adapter))
        assert model.network.exact_rows == 1
        model.adapt(None, None)
        assert model.network.exact_rows == before


def test_several_are_kept_and_switched_without_reading_the_model(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save_lora(filled(new_lora(read_network(V1), Shape(2, 2.0)), 1), other, Shape(2, 2.0), 0.0, "x")
    model = glmtui.load(V1, device="cpu")
    found = {}
    for lora in (None, adapter, other):
        model.adapt(None, lora and str(lora))
        found[lora] = model.logits(IDS)
    assert not torch.allclose(found[None], found[adapter])
    assert not torch.allclose(found[other], found[adapter])
    monkeypatch.setattr("glmtui.engine.adapters.read_lora", None)
    for lora in (other, None, adapter):
        model.adapt(None, lora and str(lora))
        assert torch.equal(model.logits(IDS), found[lora])
    monkeypatch.undo()
    with pytest.raises(NotFoundError, match="holds no LoRA"):
        model.adapt(None, str(tmp_path))
    assert torch.equal(model.logits(IDS), found[adapter]), "all is as it was"


def test_a_prefix_and_a_lora_go_on_and_off_in_the_engine(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    config = json.loads((GOLDEN / "chatglm2-ptuning" / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "pre_seq_len": None}))
    (base / "pytorch_model.bin").symlink_to(GOLDEN / "chatglm2-ptuning" / "pytorch_model.bin")
    engine = LocalEngine(lambda spec: lambda _progress: glmtui.load(base, device="cpu"))
    reads: list[Any] = []

    def load(**options: Any) -> Any:
        (*_before, end) = engine.submit(Load(LocalModel(source=str(base), **options)))
        return end

    try:
        assert isinstance(load(), Loaded)
        assert engine.capabilities.adapters
        model = engine._model
        assert model is not None
        monkeypatch.setattr("glmtui.load", reads.append)
        ids = [64, 65, 66]
        plain = model.logits(ids)
        assert isinstance(load(ptuning=str(GOLDEN / "chatglm2-ptuning")), Loaded)
        assert engine._model is model
        assert not torch.allclose(model.logits(ids), plain)
        wrong = load(lora=str(adapter))
        assert isinstance(wrong, Failed)
        assert "another model" in str(wrong.phrase)
        assert isinstance(load(), Loaded)
        assert torch.equal(model.logits(ids), plain)
        assert reads == []
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "no plain LoRA"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"r": "eight"}, "whole number"),
        ({"alpha_pattern": {"(a+)+": 2}}, "alpha_pattern"),
        ({"alpha_pattern": {".*a.*b.*c.*": 2}}, "alpha_pattern"),
        ({"alpha_pattern": ["value"]}, "alpha_pattern"),
    ],
)
def test_what_is_no_plain_lora_is_refused(adapter: Path, change: dict[str, Any], said: str) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(BadFileError, match=said):
        glmtui.load(V1, device="cpu", lora=adapter)


@pytest.mark.parametrize("damage", ["half", "name", "shape", "empty", "cut", "rank", "nan"])
def test_damaged_weights_are_refused(adapter: Path, damage: str) -> None:
    file = adapter / "adapter_model.safetensors"
    stored = load_file(file)
    first = next(name for name in stored if "lora_A" in name)
    if damage == "half":
        del stored[first]
    elif damage == "name":
        stored["base_model.model.lm_head.bias"] = torch.zeros(3)
    elif damage == "shape":
        stored[first] = torch.zeros(4, 63)
    elif damage == "empty":
        stored = {}
    elif damage == "rank":
        stored = {name: each[:0] if "lora_A" in name else each[:, :0] for name, each in stored.items()}
    elif damage == "nan":
        stored[first][0, 0] = math.nan
    save_file(stored, file)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BadFileError):
        glmtui.load(V1, device="cpu", lora=adapter)


def test_scales_are_those_of_peft(adapter: Path) -> None:
    assert Shape(4, 8.0).scale == 2.0
    assert Shape(4, 8.0, rank_stabilised=True).scale == 4.0
    config = json.loads((adapter / "adapter_config.json").read_text())
    config |= {"use_rslora": True, "alpha_pattern": {"layers.1.attention.query_key_value": 16}}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    scales = [product.scale for _name, product in read_lora(adapter, read_network(V1)).named()]
    assert sorted(scales) == [4.0, 8.0]
    config["alpha_pattern"] = {r"transformer\.layers.\d+\..*value": 16}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert {product.scale for _name, product in read_lora(adapter, read_network(V1)).named()} == {8.0}


def batch(vocabulary: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(3)
    ids = torch.randint(5, min(vocabulary, 290), (2, 9))
    labels = ids.clone()
    labels[:, :5] = -100
    return [(ids, labels)]


@pytest.mark.parametrize("kind", ["glm", "glm4", "glm4_moe", "glm4_moe_lite"])
def test_newer_models_learn_by_it(kind: str, tmp_path: Path) -> None:
    make_model(kind, tmp_path / kind)
    network = glmtui.load(tmp_path / kind, device="cpu", dtype="float32").network
    tuning = LoraTuning(network, kind, shape=Shape(4, 16.0))
    trainer = Trainer(network, tuning, learning_rate=0.02, steps=8)
    plain_gradients(network, tuning)
    losses = [trainer.step(batch(512))[0] for _step in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    with tuning.switched_off(), torch.no_grad():
        assert float(loss_of(network, *batch(512)[0], TrainingState(None, checkpointing=False), 0)[0]) == (
            pytest.approx(losses[0], abs=1e-5)
        )


def plain_gradients(network: LanguageModel, tuning: LoraTuning) -> None:
    """With and without layers that are computed again, gradients are the same."""
    found = []
    parameters = list(tuning.parameters().values())
    for checkpointing in (True, False):
        network.checkpoint_layers(checkpointing)
        loss, _count = loss_of(network, *batch(512)[0], TrainingState(None, checkpointing=checkpointing), 0)
        found.append(torch.autograd.grad(loss, parameters))
    assert sum(float(each.abs().sum()) for each in found[0]) > 0
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("folder", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("quant", [None, "8", "4"])
def test_the_gradient_is_the_slope_of_the_loss(folder: Path, quant: Any) -> None:
    network = glmtui.load(folder, device="cpu", quant=quant, dtype="float32").network
    tuning = LoraTuning(network, "x", shape=Shape(4, 16.0), targets=("query_key_value", "dense_4h_to_h"))
    for name, parameter in tuning.parameters().items():
        if "lora_B" in name:
            nn.init.normal_(parameter, 0, 0.02)
    parameters = list(tuning.parameters().values())
    ids, labels = batch(290)[0]

    def loss() -> torch.Tensor:
        return loss_of(network, ids, labels, TrainingState(None, checkpointing=True), 0)[0]

    gradients = torch.autograd.grad(loss(), parameters)
    norm = math.sqrt(sum(float(each.square().sum()) for each in gradients))
    step = 3e-3

    def moved(by: float) -> float:
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(gradient, alpha=by / norm)
            return float(loss())

    above = moved(step)
    below = moved(-2 * step)
    assert (above - below) / (2 * step) == pytest.approx(norm, rel=0.03)


def test_targets_that_are_not_there_are_named() -> None:
    for name, said in (("lm_head", "repeated"), ("word_embeddings", "repeated"), ("q_proj", "no linear")):
        with pytest.raises(BadValueError, match=rf"{name}.*{said}|{said}.*{name}") as caught:
            new_lora(read_network(V1), Shape(4, 8.0), ("dense", name))
        assert "query_key_value" in str(caught.value)
    names = new_lora(read_network(V1), Shape(4, 8.0), ("dense", "dense_h_to_4h")).names
    assert {name.rpartition(".")[2] for name in names} == {"dense", "dense_h_to_4h"}
    assert len(new_lora(read_network(V1), Shape(4, 8.0), ("all",)).names) == 2 * len(names)


def test_what_it_adds_outside_the_layers_is_named(adapter: Path) -> None:
    network = read_network(V1)
    tensors = load_file(adapter / "adapter_model.safetensors")
    a, b = torch.zeros(4, 64), torch.zeros(network.config.vocab_size, 4)
    tensors |= {f"base_model.model.lm_head.lora_{x}.weight": y for x, y in (("A", a), ("B", b))}
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(BadFileError, match="adds to lm_head"):
        read_lora(adapter, network)


def test_what_looks_at_pictures_is_left_alone() -> None:
    """Its rows are kept by the picture alone, whatever LoRA is on."""
    network = read_network(GOLDEN / "visualglm-tiny")
    names = new_lora(network, Shape(4, 8.0), ("all",)).names
    assert names
    assert all(name.startswith("transformer.layers.") for name in names)


@pytest.mark.parametrize("folder", [V1, V2], ids=["v1", "v2"])
def test_it_is_merged_into_the_weights(folder: Path, tmp_path: Path) -> None:
    lora = tmp_path / "lora"
    lora.mkdir()
    save_lora(filled(new_lora(read_network(folder), Shape(4, 8.0))), lora, Shape(4, 8.0), 0.0, "x")
    merge(ModelFolder.open(folder), lora, tmp_path / "merged")
    expected = glmtui.load(folder, device="cpu", lora=lora).logits(IDS)
    found = glmtui.load(tmp_path / "merged", device="cpu").logits(IDS)
    assert float((found - expected).abs().max()) < 0.01 * float(expected.abs().max())  # weights are float16
    with pytest.raises(OSError, match="not empty"):
        merge(ModelFolder.open(folder), lora, tmp_path / "merged")


def test_a_quantised_model_is_not_merged_into(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValueError, match="quantised"):
        merge(ModelFolder.open(GOLDEN / "chatglm-int4"), adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()

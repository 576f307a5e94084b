"""Several GPUs: who gets what, and a forward pass over a border, with devices that every machine has."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_data import GOLDEN, check_golden

import glmtui
from glmtui.engine import device as devices
from glmtui.engine import loader
from glmtui.engine.device_map import Placement, layers_name
from glmtui.engine.prefill import read
from glmtui.errors import UserError
from glmtui.host import Memory
from glmtui.hub.model_dir import ModelFolder
from glmtui.protocol.models import LocalModel
from glmtui.quant.linear import QuantizedLinear

GIB = 1 << 30
FIRST, SECOND = GOLDEN / "chatglm-fp16-sharded", GOLDEN / "chatglm2-fp16-sharded"
LAYERS = {FIRST: "transformer.layers", SECOND: "transformer.encoder.layers"}
ENDS = {
    FIRST: ("transformer.word_embeddings", "transformer.final_layernorm", "lm_head"),
    SECOND: ("transformer.embedding", "transformer.encoder.final_layernorm", "transformer.output_layer"),
}
IDS = [5, 6, 7, 8, 9, 10]


def folder_of(path: Path, layers: int) -> ModelFolder:
    folder = ModelFolder.open(path)
    return ModelFolder(
        folder.path, {**folder.config, "num_layers": layers}, folder.family, folder.weight_files
    )


def gpus(count: int) -> list[str]:
    return [f"cuda:{index}" for index in range(count)]


@pytest.mark.parametrize("path", [FIRST, SECOND])
@pytest.mark.parametrize(
    ("count", "held"),
    [(1, [28]), (2, [13, 15]), (3, [8, 10, 10]), (4, [6, 8, 8, 6]), (8, [2] + [4] * 6 + [2])],
)
def test_layers_fill_the_gpus_one_after_another(path: Path, count: int, held: list[int]) -> None:
    folder = folder_of(path, 28)
    placement = Placement.balanced(folder, gpus(count))
    counts = Counter(placement.of(f"{LAYERS[path]}.{layer}.some.weight") for layer in range(28))
    assert [counts[gpu] for gpu in gpus(count)] == held
    assert {placement.of(f"{name}.weight") for name in ENDS[path]} == {"cuda:0"}
    assert placement.of("transformer.prefix_encoder.embedding.weight") == "cuda:0"
    assert sum(placement.shares(folder).values()) == pytest.approx(1)


def write_map(file: Path, content: object) -> str:
    file.write_text(json.dumps(content))
    return str(file)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    device = devices.Device(
        "cuda", "GPU", True, "", Memory(8 * GIB, 8 * GIB), True, (Memory(8 * GIB, 8 * GIB),)
    )
    monkeypatch.setattr(devices, "choose", lambda _wanted: device)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("path", [FIRST, SECOND])
def test_a_file_says_what_goes_where(path: Path, tmp_path: Path) -> None:
    content = {**dict.fromkeys(ENDS[path], 0), f"{LAYERS[path]}.0": 0, f"{LAYERS[path]}.1": "cuda:1"}
    content |= {"transformer.rotary_pos_emb": 0}
    plan = loader.plan(LocalModel(str(path), gpus=write_map(tmp_path / "map.json", content)))
    assert [plan.placement.of(f"{LAYERS[path]}.{layer}.mlp") for layer in range(2)] == gpus(2)
    assert {plan.placement.of(f"{name}.weight") for name in ENDS[path]} == {"cuda:0"}


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1], "no device map"),
        ({"": 2}, "cuda:2.*only cuda:0, cuda:1"),
        ({"": 0, "transformer.nonsense": 1}, "no module transformer.nonsense"),
        ({"transformer": 0}, "no place for lm_head.weight"),
        ({"": 0, "lm_head": 1}, "must be together; .*lm_head"),
        ({"": 0, "transformer.layers.1.mlp": 1}, "a layer must be on one GPU"),
    ],
)
def test_a_wrong_file_is_named(content: object, words: str, tmp_path: Path) -> None:
    folder = GOLDEN / "chatglm-ptuning"
    with pytest.raises(UserError, match=words) as raised:
        loader.plan(LocalModel(str(folder), gpus=write_map(tmp_path / "map.json", content)))
    assert "map.json" in str(raised.value)


@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_there_are() -> None:
    with pytest.raises(UserError, match="There are 2 GPUs, not 3"):
        loader.plan(LocalModel(str(FIRST), gpus="3"))
    with pytest.raises(UserError, match=r"no-such-map\.json"):
        loader.plan(LocalModel(str(FIRST), gpus="no-such-map.json"))


def test_gpus_are_for_cuda() -> None:
    with pytest.raises(UserError, match=r"GPUs need CUDA"):
        loader.plan(LocalModel(str(FIRST), device="cpu", gpus="2"))


def test_what_fits_is_reckoned_for_each_gpu() -> None:
    small, large = Memory(4 * GIB, 4 * GIB), Memory(16 * GIB, 16 * GIB)
    place = devices.Device("cuda", "GPU", True, "", large, True, (small,))
    folder = folder_of(FIRST, 28)
    placement = Placement.balanced(folder, gpus(2))
    plan = loader.Plan(None, folder, None, place, "none", torch.float16, 1, placement)
    assert plan.free == 8 * GIB  # the second holds half
    assert (
        loader.Plan(None, folder, None, place, "none", torch.float16, 1, Placement.single("cuda")).free
        == 16 * GIB
    )
    plan.check_fits()


def connected(name: str, second_half: str) -> tuple[Any, list[str]]:
    """Return a golden network with its second half on another device, and the devices of its layers."""
    folder = ModelFolder.open(GOLDEN / name)
    network = glmtui.load(str(folder.path), device="cpu", dtype="float32").network
    count = network.config.num_layers
    encoder = getattr(network.transformer, "encoder", network.transformer)
    devices = ["cpu"] * (count // 2) + [second_half] * (count - count // 2)
    for layer, device in zip(encoder.layers, devices, strict=True):
        layer.to(device)
    layers = {f"{layers_name(folder)}.{index}": device for index, device in enumerate(devices)}
    Placement({"": "cpu", **layers}).connect(network, folder)
    return network, devices


NAMES = ["chatglm-fp16-sharded", "chatglm2-fp16-sharded", "chatglm2-ptuning", "chatglm-int4", "chatglm2-int8"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_numbers_come_out(name: str) -> None:
    network, _devices = connected(name, "cpu:0")  # another name for the same, so that the hooks are there
    check_golden(name, network)


@pytest.mark.parametrize(
    ("name", "quant"), [(FIRST.name, "8"), (SECOND.name, "4"), ("chatglm-int4", "4"), ("chatglm2-int8", "8")]
)
def test_quantised_layers_are_read_to_where_they_belong(name: str, quant: Any) -> None:
    plan = loader.plan(LocalModel(str(GOLDEN / name), device="cpu", dtype="float32", quant=quant))
    layers = layers_name(plan.folder)
    network = loader.read(replace(plan, placement=Placement({"": "cpu", f"{layers}.1": "meta"})))
    linear = [module for module in network.modules() if isinstance(module, QuantizedLinear)]
    assert len(linear) >= 8
    for key, tensor in [*network.named_buffers(), *network.named_parameters()]:
        assert tensor.device.type == ("meta" if key.startswith(f"{layers}.1.") else "cpu"), key
    with pytest.raises(NotImplementedError, match="meta"):  # the way home, after the last layer
        read(network, torch.arange(20))


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_computes_and_caches_where_it_lies(name: str) -> None:
    """The second half is on the meta device, which computes shapes and refuses tensors of another one."""
    network, devices = connected(name, "meta")
    cache = network.new_cache()
    with pytest.raises(NotImplementedError, match="meta"):  # the way home, after the last layer
        read(network, torch.arange(20), cache)
    assert [buffer.device.type for buffer in cache._buffers] == devices

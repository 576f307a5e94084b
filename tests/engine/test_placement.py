"""Several GPUs: who gets what, and a forward pass over a border, with devices that every machine has."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import accelerate.utils
import pytest
import torch
from golden_data import GOLDEN

from glmtui.engine import device as devices
from glmtui.engine import loader
from glmtui.engine.host import Memory
from glmtui.engine.placement import Placement
from glmtui.errors import UserError
from glmtui.models.checkpoint import new_network, read_network
from glmtui.models.folder import ModelFolder
from glmtui.models.spread import Spread

GIB = 1 << 30
FIRST, SECOND = GOLDEN / "chatglm-fp16-sharded", GOLDEN / "chatglm2-fp16-sharded"
LAYERS = {FIRST: "transformer.layers", SECOND: "transformer.encoder.layers"}
ENDS = {
    FIRST: ("transformer.word_embeddings", "transformer.final_layernorm", "lm_head"),
    SECOND: ("transformer.embedding", "transformer.encoder.final_layernorm", "transformer.output_layer"),
}
IDS = [5, 6, 7, 8, 9, 10]
CPU, META = torch.device("cpu"), torch.device("meta")


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
    plan = loader.plan(str(path), gpus=write_map(tmp_path / "map.json", content))
    assert plan.placement.spread(plan.folder) == Spread(
        torch.device("cuda:0"), (torch.device("cuda:0"), torch.device("cuda:1"))
    )


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
        loader.plan(str(folder), gpus=write_map(tmp_path / "map.json", content))
    assert "map.json" in str(raised.value)


@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_there_are() -> None:
    with pytest.raises(UserError, match="There are 2 GPUs, not 3"):
        loader.plan(str(FIRST), gpus=3)
    with pytest.raises(UserError, match=r"no-such-map\.json"):
        loader.plan(str(FIRST), gpus="no-such-map.json")


def test_gpus_are_for_cuda() -> None:
    with pytest.raises(UserError, match=r"--gpus is for CUDA"):
        loader.plan(str(FIRST), device="cpu", gpus=2)


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


@pytest.mark.parametrize("path", [FIRST, SECOND])
def test_the_same_numbers_come_out(path: Path) -> None:
    network = read_network(path)
    ids = torch.tensor(IDS)
    expected = network(ids)
    network.spread = Spread(CPU, (CPU,) * network.config.num_layers)
    cache = network.new_cache()
    assert torch.equal(network(ids, cache), expected)
    step = network(torch.tensor([4]), cache)
    network.spread = None
    cache = network.new_cache()
    network(ids, cache)
    assert torch.equal(network(torch.tensor([4]), cache), step)


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-fp16-sharded", "chatglm2-ptuning"])
def test_every_layer_computes_and_caches_where_it_lies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half is on the meta device, which computes shapes and refuses tensors of another one."""
    folder = ModelFolder.open(GOLDEN / name)
    network = new_network(folder).to_empty(device="cpu")
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    count = network.config.num_layers
    encoder = getattr(network.transformer, "encoder", network.transformer)
    for layer in range(count // 2, count):
        encoder.layers[layer].to("meta")
    network.spread = Spread(CPU, (CPU,) * (count // 2) + (META,) * (count - count // 2))
    copies = []
    send = accelerate.utils.send_to_device
    monkeypatch.setattr(
        accelerate.utils, "send_to_device", lambda what, device: copies.append(device) or send(what, device)
    )
    cache = network.new_cache()
    with pytest.raises(NotImplementedError, match="meta"):  # the way home, after the last layer
        network(torch.arange(20), cache)
    assert [buffer.device for buffer in cache._buffers] == list(network.spread.layers)
    assert copies == [META]  # masks and rotations, once

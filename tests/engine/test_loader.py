"""Loading real checkpoints: the original code's numbers, memory, devices, errors for people."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import glmtui
from glmtui.engine import device as devices
from glmtui.engine import loader, preflight
from glmtui.engine.device_map import Placement
from glmtui.errors import BadValueError, NotFoundError, OutOfMemoryError, UserError
from glmtui.host import Memory
from glmtui.hub.model_dir import ModelFolder
from glmtui.protocol.cancellation import OperationCancelled
from glmtui.protocol.models import LocalModel

torch.set_num_threads(1)
GOLDEN = Path(__file__).parents[1] / "golden"
FLOAT = [
    "chatglm-fp16-sharded",
    "chatglm-mask-token",
    "chatglm-ptuning",
    "chatglm-ptuning-projection",
    "chatglm2-fp16-sharded",
    "chatglm2-ptuning",
    "chatglm3-fp16",
]


@pytest.mark.parametrize("name", FLOAT)
def test_logits_and_greedy_tokens_are_the_original_codes(name: str) -> None:
    model = glmtui.load(str(GOLDEN / name), device="cpu", dtype="float32", threads=1)
    expected = np.load(GOLDEN / name / "expected.npz")
    ids = expected["input_ids"].tolist()
    logits = model.logits(ids)
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits.numpy(), expected["prompt_logits"], atol=1e-3, rtol=1e-4)
    greedy = expected["greedy_ids"].tolist()
    assert list(model.generate(ids, max_new_tokens=len(greedy))) == greedy


def test_generate_stops_only_where_told() -> None:
    model = glmtui.load(str(GOLDEN / FLOAT[0]), device="cpu", threads=1)
    expected = np.load(GOLDEN / FLOAT[0] / "expected.npz")
    ids, greedy = expected["input_ids"].tolist(), expected["greedy_ids"].tolist()
    assert list(model.generate(ids, max_new_tokens=12, stop_ids=[greedy[5]])) == greedy[:5]
    assert list(model.generate(ids, max_new_tokens=0)) == []


def test_info_says_what_is_loaded() -> None:
    info = glmtui.load(str(GOLDEN / FLOAT[0]), device="cpu", threads=1).info
    assert (info.name, info.architecture, info.device, info.quant, info.dtype) == (
        FLOAT[0],
        "chatglm",
        "cpu",
        "none",
        "float32",
    )
    assert info.memory_bytes == 4 * info.parameters
    assert info.max_length == 256
    assert not info.builtin


def test_ptuning_prefix_goes_on_top_of_a_base_model(tmp_path: Path) -> None:
    """The golden checkpoint is a whole one; split it into what the base and the tuned folder would hold."""
    golden = GOLDEN / "chatglm-ptuning"
    state = torch.load(golden / "pytorch_model.bin", weights_only=True)
    config = json.loads((golden / "config.json").read_text())
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    for folder, is_prefix, sizes in ((base, False, {"pre_seq_len": None}), (tuned, True, {})):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**config, **sizes}))
        part = {name: tensor for name, tensor in state.items() if ("prefix_encoder" in name) == is_prefix}
        torch.save(part, folder / "pytorch_model.bin")
    expected = np.load(golden / "expected.npz")
    model = glmtui.load(str(base), ptuning=str(tuned), device="cpu", threads=1)
    np.testing.assert_allclose(
        model.logits(expected["input_ids"]).numpy(), expected["prompt_logits"], atol=1e-3, rtol=1e-4
    )
    without = glmtui.load(str(base), device="cpu", threads=1).logits(expected["input_ids"]).numpy()
    assert np.abs(without - expected["prompt_logits"]).max() > 0.05


def test_a_folder_that_is_no_ptuning_checkpoint_is_named() -> None:
    with pytest.raises(UserError, match=r"chatglm-mask-token.*pre_seq_len"):
        glmtui.load(str(GOLDEN / FLOAT[0]), ptuning=str(GOLDEN / "chatglm-mask-token"), device="cpu")


def test_progress_counts_up_to_the_file_sizes_and_may_stop() -> None:
    folder = GOLDEN / "chatglm-fp16-sharded"
    seen: list[tuple[str, int, int]] = []
    glmtui.load(str(folder), device="cpu", threads=1, progress=lambda *step: seen.append(step))
    assert len(seen) > 10
    assert [done for _stage, done, _total in seen] == sorted(done for _stage, done, _total in seen)
    assert {total for _stage, _done, total in seen} == {ModelFolder.open(folder).file_bytes}

    def stop(_stage: str, done: int, total: int) -> None:
        if done > total / 2:
            raise OperationCancelled

    with pytest.raises(OperationCancelled):
        glmtui.load(str(folder), device="cpu", threads=1, progress=stop)


def test_a_model_too_big_is_refused_before_reading_with_what_would_fit(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / FLOAT[0] / "config.json").read_text())
    config |= {"hidden_size": 4096, "inner_hidden_size": 16384, "num_layers": 28, "num_attention_heads": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    folder = ModelFolder.open(tmp_path)
    place = replace(devices.probe("cpu"), memory=Memory(free=6_000_000_000, total=8_000_000_000))
    big = loader.Plan(None, folder, None, place, "none", torch.bfloat16, 1, Placement.single("cpu"))
    with pytest.raises(OutOfMemoryError, match=r"12\.\d GB.*6\.0 GB.*--quant 4 \(\d\.\d GB\)") as caught:
        big.check_fits()
    assert "--quant 8" not in str(caught.value)
    with pytest.raises(OutOfMemoryError, match="smaller model"):
        replace(big, place=replace(place, memory=Memory(10**9, 10**9)), quant="4").check_fits()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "tpu"}, BadValueError, "'tpu'.*auto, cuda, mps, cpu"),
        ({"quant": "5"}, BadValueError, "'5'.*none, 8, 4"),
        ({"dtype": "int3"}, BadValueError, "'int3'.*float32"),
        ({"source": "/no/such/folder"}, NotFoundError, "/no/such/folder"),
    ],
)
def test_wrong_values_are_named_with_the_choices(
    options: dict[str, str], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=message):
        glmtui.load(**{"source": str(GOLDEN / FLOAT[0]), "device": "cpu", **options})


def test_a_folder_without_tokenizer_names_the_file_when_text_is_needed() -> None:
    model = glmtui.load(str(GOLDEN / FLOAT[0]), device="cpu", threads=1)
    with pytest.raises(UserError, match=r"ice_text\.model"):
        model.chat("你好")
    with pytest.raises(UserError, match=r"ice_text\.model"):
        preflight.prepare(LocalModel(str(GOLDEN / FLOAT[0]), device="cpu"))


def test_python_may_give_numbers_paths_and_torchs_own_types() -> None:
    model = glmtui.load(GOLDEN / FLOAT[0], quant=4, device="cpu", dtype=torch.float32, threads=1)
    assert (model.info.quant, model.info.dtype) == ("4", "float32")
    assert model.info.source == str(GOLDEN / FLOAT[0])

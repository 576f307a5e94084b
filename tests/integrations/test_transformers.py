"""The networks behind transformers' own front: `from_pretrained`, `generate`, `save_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import attach_align_device_hook_on_blocks
from golden_data import GOLDEN

import glmtui
from glmtui.engine.prefill import read
from glmtui.errors import UserError

CASES = sorted(path.name for path in GOLDEN.glob("chatglm*") if path.is_dir())
BATCHED = ["chatglm-fp16-sharded", "chatglm2-fp16-sharded", "chatglm3-fp16"]


def load(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    glmtui.register()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)


def expected(name: str) -> dict[str, Any]:
    return dict(np.load(GOLDEN / name / "expected.npz"))


@pytest.mark.parametrize("name", CASES)
def test_logits_and_greedy_ids_are_the_goldens(name: str) -> None:
    model, golden = load(GOLDEN / name), expected(name)
    ids = torch.from_numpy(golden["input_ids"])[None]
    logits = model(ids).logits[0]
    close = 1.5e-5 * np.abs(golden["prompt_logits"]).max()
    np.testing.assert_allclose(logits, golden["prompt_logits"], rtol=0, atol=close)
    count = len(golden["greedy_ids"])
    found = model.generate(ids, max_new_tokens=count, do_sample=False, eos_token_id=None)
    assert found[0, ids.shape[1] :].tolist() == golden["greedy_ids"].tolist()


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_padded_on_the_left_is_as_each_alone(name: str) -> None:
    model, golden = load(GOLDEN / name), expected(name)
    long = torch.from_numpy(golden["input_ids"])
    short = torch.cat((long[2:5], long[-3:]))
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 3}
    alone = [model.generate(each[None], **options)[0, len(each) :] for each in (long, short)]
    padding = len(long) - len(short)
    batch = torch.stack((long, torch.cat((torch.full((padding,), 3), short))))
    mask = torch.ones_like(batch)
    mask[1, :padding] = 0
    together = model.generate(batch, attention_mask=mask, **options)[:, len(long) :]
    assert together.tolist() == [each.tolist() for each in alone]


@pytest.mark.parametrize("name", BATCHED)
def test_beam_search_finds_nothing_less_likely_than_greedy(name: str) -> None:
    model, golden = load(GOLDEN / name), expected(name)
    ids = torch.from_numpy(golden["input_ids"])[None]
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}

    def score(found: torch.Tensor) -> float:
        chances = model(found).logits[0, ids.shape[1] - 1 : -1].log_softmax(-1)
        return float(chances.gather(1, found[0, ids.shape[1] :, None]).sum())

    beams = model.generate(ids, num_beams=3, **options)
    assert score(beams) >= score(model.generate(ids, **options)) - 1e-4
    without_cache = model.generate(ids, num_beams=3, use_cache=False, **options)
    assert beams.tolist() == without_cache.tolist()


@pytest.mark.parametrize("name", ["chatglm-fp16-sharded", "chatglm2-ptuning", "chatglm3-fp16"])
def test_saving_and_loading_gives_the_same(name: str, tmp_path: Path) -> None:
    model, golden = load(GOLDEN / name), expected(name)
    model.save_pretrained(tmp_path)
    again = glmtui.load(str(tmp_path), device="cpu", dtype="float32")
    ids = golden["input_ids"].tolist()
    torch.testing.assert_close(again.logits(ids), model(torch.tensor([ids])).logits[0])
    assert torch.equal(load(tmp_path)(torch.tensor([ids])).logits, model(torch.tensor([ids])).logits)


def device_map_of(model: Any, layers: str) -> dict[str, str]:
    """Map all of a model to the CPU, but its layers from the second on to `layers`."""
    stack = "transformer.layers" if hasattr(model, "lm_head") else "transformer.encoder.layers"
    names = [name for name, module in model.named_modules() if name and not list(module.children())]
    count = model.config.num_layers
    found = {name: "cpu" for name in names if not name.startswith(stack)}
    return found | {f"{stack}.{index}": layers if index else "cpu" for index in range(count)}


@pytest.mark.parametrize("name", [*BATCHED, "chatglm-ptuning-projection", "chatglm2-ptuning"])
def test_a_device_map_may_leave_layers_and_prefix_on_the_disk(name: str, tmp_path: Path) -> None:
    model, golden = load(GOLDEN / name), expected(name)
    ids = torch.from_numpy(golden["input_ids"])[None]
    device_map = device_map_of(model, "disk")
    device_map |= {name: "disk" for name in device_map if "prefix_encoder" in name}
    spread = load(GOLDEN / name, device_map=device_map, offload_folder=tmp_path)
    assert any(parameter.is_meta for parameter in spread.parameters())
    assert torch.equal(spread(ids).logits, model(ids).logits)
    options = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    assert torch.equal(spread.generate(ids, **options), model.generate(ids, **options))


@pytest.mark.parametrize("name", [*BATCHED, "chatglm2-ptuning"])
def test_layers_on_two_devices_are_given_what_they_need_where_they_are(name: str) -> None:
    """The second device is the meta device, which computes shapes and refuses tensors of another one."""
    model = load(GOLDEN / name)
    seen: list[tuple[Any, ...]] = []
    blocks = [module for module in model.modules() if type(module).__name__ == "Block"]
    for block in blocks:
        block.register_forward_hook(lambda _module, _given, out: seen.append(out.device.type))
    device_map = device_map_of(model, "meta")
    for block in blocks[1:]:
        block.to("meta")
    attach_align_device_hook_on_blocks(
        model, execution_device=device_map, offload=dict.fromkeys(device_map, False)
    )
    with pytest.raises(NotImplementedError, match="meta"):  # the way home, after the last layer
        model(torch.arange(20)[None])
    assert seen == ["cpu"] + ["meta"] * (len(blocks) - 1)


def test_a_quantised_model_is_not_saved_in_another_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="glmtui quantize"):
        load(GOLDEN / "chatglm2-int4").save_pretrained(tmp_path)


def test_a_cache_that_is_copied_goes_on_by_itself() -> None:
    network = glmtui.load(str(GOLDEN / "chatglm2-fp16-sharded"), device="cpu", dtype="float32").network
    cache = network.new_cache()
    read(network, torch.tensor([5, 6, 7]), cache)
    other = cache.copy()
    first = read(network, torch.tensor([8]), cache)
    read(network, torch.tensor([9]), other)
    cache.truncate(3)
    assert torch.equal(read(network, torch.tensor([8]), cache), first)

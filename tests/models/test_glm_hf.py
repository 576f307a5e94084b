"""Newer GLMs against transformers' own forward pass, on models that it made."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from glm_support import CONFIGS, make_model, make_tokenizer
from torch import nn

import glmtui
from glmtui.engine.loader import plan
from glmtui.engine.prefill import ROWS, read
from glmtui.errors import UserError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.checkpoint import new_network
from glmtui.models.glm_hf import GLM, Experts
from glmtui.models.weight_files import read_file
from glmtui.protocol.models import LocalModel
from glmtui.quant.linear import QuantizedLinear

PROMPT = [5, 9, 301, 77, 12, 410, 8, 8, 33, 250, 499, 100]


@pytest.fixture(scope="module", params=sorted(CONFIGS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    return make_model(request.param, folder), folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glm")
    make_model("glm", folder)
    make_tokenizer(folder)
    return folder


def reference(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits


def test_logits_and_greedy_ids_are_those_of_transformers(made: tuple[Any, Path]) -> None:
    theirs, folder = made
    assert len(list(folder.glob("*.safetensors"))) > 1
    ours = glmtui.load(str(folder), device="cpu", dtype="float32")
    torch.testing.assert_close(ours.logits(PROMPT), reference(theirs, PROMPT), rtol=0, atol=2e-5)
    expected = theirs.generate(torch.tensor([PROMPT]), max_new_tokens=10, do_sample=False, eos_token_id=None)
    assert list(ours.generate(PROMPT, max_new_tokens=10)) == expected[0, len(PROMPT) :].tolist()


def test_a_long_prompt_goes_through_in_chunks(made: tuple[Any, Path]) -> None:
    theirs, folder = made
    ids = [(7 * i) % 500 for i in range(ROWS + 20)]
    fractions: list[float] = []
    network = glmtui.load(str(folder), device="cpu", dtype="float32").network
    cache = network.new_cache()
    logits = read(network, torch.tensor(ids), cache, check=fractions.append)
    torch.testing.assert_close(logits, reference(theirs, ids), rtol=0, atol=5e-5)
    assert fractions == sorted(fractions)
    assert len(fractions) == 4  # two chunks through two layers


@pytest.mark.parametrize(("quant", "most"), [("8", 0.06), ("4", 0.6)])
def test_quantised_logits_are_near(made: tuple[Any, Path], quant: Any, most: float) -> None:
    theirs, folder = made
    ours = glmtui.load(str(folder), device="cpu", quant=quant)
    expected = reference(theirs, PROMPT)
    error = (ours.logits(PROMPT) - expected).norm() / expected.norm()
    assert error < most
    assert len(list(ours.generate(PROMPT, max_new_tokens=3))) == 3


def test_every_product_is_quantised_but_for_the_routers(made: tuple[Any, Path]) -> None:
    _theirs, folder = made
    network = glmtui.load(str(folder), device="cpu", quant="4").network
    assert isinstance(network, GLM)
    assert not [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    for name, module in network.named_modules():
        if isinstance(module, Experts):
            assert len(module) == 6, name
            assert all(isinstance(expert.down_proj, QuantizedLinear) for expert in module)


@pytest.mark.parametrize("kind", ["glm4_moe", "glm4_moe_lite"])
def test_experts_in_one_tensor_are_read_one_by_one(kind: str, tmp_path: Path) -> None:
    theirs = make_model(kind, tmp_path / "apart")
    theirs.save_pretrained(tmp_path / "stacked", save_original_format=False)
    names = [name for name, _tensor in read_file(tmp_path / "stacked" / "model.safetensors")]
    assert "model.layers.1.mlp.experts.gate_up_proj" in names
    for quant in ("none", "4"):
        stacked, apart = (
            glmtui.load(str(tmp_path / name), device="cpu", quant=quant) for name in ("stacked", "apart")
        )
        assert torch.equal(stacked.logits(PROMPT), apart.logits(PROMPT))


def test_a_network_is_built_without_memory(made: tuple[Any, Path]) -> None:
    _theirs, folder = made
    network = new_network(ModelFolder.open(folder))
    assert all(parameter.is_meta for parameter in network.parameters())
    assert isinstance(network, GLM)
    assert not network.model.rotary_emb.inv_freq.is_meta, "what no file holds is computed"


def test_weights_are_counted_without_torch(made: tuple[Any, Path]) -> None:
    theirs, folder = made
    sizes = ModelFolder.open(folder).sizes
    assert sizes.parameters == pytest.approx(sum(each.numel() for each in theirs.parameters()), rel=2e-3)
    network = glmtui.load(str(folder), device="cpu", dtype="float32").network
    cache = network.new_cache()
    read(network, torch.tensor(PROMPT), cache)
    assert cache.nbytes == sizes.kv_per_token * 4 * cache.STEP


def test_routers_stay_float32(tmp_path: Path) -> None:
    make_model("glm4_moe", tmp_path)
    network = glmtui.load(str(tmp_path), device="cpu", dtype="bfloat16").network
    kept = {name for name, tensor in network.named_parameters() if tensor.dtype == torch.float32}
    assert kept == {"model.layers.1.mlp.gate.weight", "model.layers.1.mlp.gate.e_score_correction_bias"}


def test_what_check_raises_leaves_the_cache_as_it_was(folder: Path) -> None:
    network = glmtui.load(str(folder), device="cpu", dtype="float32").network
    cache = network.new_cache()
    read(network, torch.tensor(PROMPT), cache)

    def stop(fraction: float) -> None:
        if fraction > 0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        read(network, torch.tensor([3, 4]), cache, check=stop)
    assert cache.length == len(PROMPT)
    again = read(network, torch.tensor([9]), cache)
    torch.testing.assert_close(again[0], read(network, torch.tensor([*PROMPT, 9]))[-1], rtol=0, atol=2e-5)


def test_stop_ids_are_those_of_generation_config(folder: Path) -> None:
    assert glmtui.load(str(folder), device="cpu").network.config.stop_ids == (0, 4)


def test_the_second_question_costs_only_its_own_tokens(folder: Path) -> None:
    model = glmtui.load(str(folder), device="cpu", dtype="float32")
    counts: list[int] = []
    embed = model.network.embed

    def counted(ids: torch.Tensor) -> torch.Tensor:
        counts.append(ids.numel())
        return embed(ids)

    model.network.embed = counted
    options: dict[str, Any] = {"max_new_tokens": 4, "temperature": 0.0}
    _answer, history = model.chat("How do I load a model? " * 8, **options)
    counts.clear()
    model.chat("你好", history, **options)
    own = len(model.tokenizer.raw.encode_text("你好"))
    assert counts[0] <= own + 5  # <|user|>, <|assistant|>, two newlines, the last token generated


def test_a_quantised_folder_can_be_written_and_read(made: tuple[Any, Path], tmp_path: Path) -> None:
    from glmtui.quant.cache import write_folder

    _theirs, folder = made
    write_folder(ModelFolder.open(folder), 4, tmp_path / "int4")
    ours = glmtui.load(str(tmp_path / "int4"), device="cpu").logits(PROMPT)
    torch.testing.assert_close(ours, glmtui.load(str(folder), device="cpu", quant="4").logits(PROMPT))


# --- bad input ---


def change(folder: Path, target: Path, **config: Any) -> Path:
    """Copy `folder` with another config.json."""
    import shutil

    shutil.copytree(folder, target)
    file = target / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | config), encoding="utf-8")
    return target


def test_foreign_quantisation_is_named(folder: Path, tmp_path: Path) -> None:
    bad = change(folder, tmp_path / "awq", quantization_config={"quant_method": "awq", "bits": 4})
    with pytest.raises(UserError, match="quantised by awq"):
        plan(LocalModel(str(bad)))


def test_a_config_that_transformers_refuses_is_named(folder: Path, tmp_path: Path) -> None:
    bad = change(folder, tmp_path / "bad", hidden_act=7)
    with pytest.raises(UserError, match=r"config\.json: transformers does not take it"):
        glmtui.load(str(bad), device="cpu")


def test_ptuning_does_not_apply(folder: Path) -> None:
    prefix = Path(__file__).parents[1] / "golden" / "chatglm2-ptuning"
    with pytest.raises(UserError, match="takes no P-tuning prefix"):
        plan(LocalModel(str(folder), ptuning=str(prefix)))


@pytest.mark.parametrize(
    ("content", "said"), [(None, "is missing"), ("{", "Download it again"), ("", "Download it again")]
)
def test_a_bad_tokenizer_is_named(folder: Path, tmp_path: Path, content: str | None, said: str) -> None:
    bad = change(folder, tmp_path / "bad")
    (bad / "tokenizer.json").unlink()
    if content is not None:
        (bad / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=rf"tokenizer\.json.*{said}"):
        glmtui.load_tokenizer(bad)


def test_what_makes_the_tokenizers_parser_panic_is_refused_in_silence(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = change(folder, tmp_path / "copy")
    file = copy / "tokenizer.json"
    contents = json.loads(file.read_text("utf-8"))
    contents["model"]["continuing_subword_prefix"] = "x" * 300
    file.unlink()  # it is a link
    file.write_text(json.dumps(contents), "utf-8")
    with pytest.raises(UserError, match="continuing_subword_prefix"):
        glmtui.load_tokenizer(copy)
    assert "panicked" not in capfd.readouterr().err


def test_a_tokenizer_with_too_many_tokens_is_foreign(folder: Path, tmp_path: Path) -> None:
    bad = change(folder, tmp_path / "bad", vocab_size=200)
    with pytest.raises(UserError, match="does not belong to this model"):
        glmtui.load_tokenizer(bad)


def test_layers_on_several_devices_give_the_same(folder: Path) -> None:
    from glmtui.engine.device_map import Placement

    model = glmtui.load(str(folder), device="cpu", dtype="float32")
    expected = model.logits([5, 6, 7, 8])
    last = f"model.layers.{model.network.config.num_layers - 1}"
    Placement({"": "cpu", last: "cpu:0"}).connect(model.network, model.folder)
    assert torch.equal(model.logits([5, 6, 7, 8]), expected)
    model.network.get_submodule(last).to("meta")  # it refuses tensors of another device
    Placement({"": "cpu", last: "meta"}).connect(model.network, model.folder)
    with pytest.raises(NotImplementedError, match="meta"):  # the way home, behind the last layer
        model.logits([5, 6, 7, 8])

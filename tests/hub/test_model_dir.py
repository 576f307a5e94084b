import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from golden_data import GOLDEN, golden_json

from glmtui.errors import UserError
from glmtui.hub.model_dir import ModelFolder, quant_of, recognise, sizes_of
from glmtui.models.checkpoint import new_network

V2 = golden_json("chatglm2-fp16-sharded/config.json")


@pytest.mark.parametrize(
    "name",
    ["chatglm-fp16-sharded", "chatglm-int4", "chatglm2-int8", "chatglm3-fp16", "chatglm2-fp16-sharded"],
)
def test_sizes_are_counted_as_the_network_has_them(name: str):
    folder = ModelFolder.open(GOLDEN / name)
    network = new_network(folder)
    parameters = dict(network.named_parameters())
    assert folder.sizes.parameters == sum(parameter.numel() for parameter in parameters.values())
    scales = sum(p.shape[0] for n, p in parameters.items() if p.dim() == 2 and ".layers." in n)
    assert folder.sizes.rows == scales
    assert folder.sizes.memory_bytes("none", 2) == 2 * folder.sizes.parameters


def test_published_sizes():
    published = {"num_layers": 28, "hidden_size": 4096, "inner_hidden_size": 16384, "vocab_size": 130528}
    sizes = sizes_of(published)
    assert sizes.parameters == 6_173_286_400
    assert sizes.kv_per_token * 2 == 458_752
    assert round(sizes.memory_bytes("4", 2) / 1e9, 1) == 3.9


def test_a_config_without_sizes_is_named():
    with pytest.raises(UserError, match="inner_hidden_size"):
        sizes_of({"num_layers": 1, "hidden_size": 8})


@pytest.mark.parametrize(
    "config",
    [
        {**V2, "padded_vocab_size": 151552, "vision_config": {"hidden_size": 1792}, "boi_token_id": 151339},
        {"model_type": "glm", "num_hidden_layers": 28, "vision_config": {"hidden_size": 1152}},
    ],
    ids=["glm-4v-9b", "glm-edge-v"],
)
def test_models_that_see_by_code_of_their_own_are_told_from_those_without_eyes(
    tmp_path: Path, config: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=r"sees by code of its own.*GLM-4\.1V"):
        recognise(tmp_path, config)


def test_an_unknown_quantisation_is_named():
    with pytest.raises(UserError, match="quantization_bit is 3"):
        quant_of({"quantization_bit": 3})


@pytest.mark.parametrize(
    ("name", "files", "family"),
    [
        ("x", {}, "chatglm2"),
        ("chatglm3-6b", {}, "chatglm3"),
        ("x", {"tokenizer_config.json": {"name_or_path": "THUDM/chatglm3-6b"}}, "chatglm3"),
        (
            "chatglm2-6b",
            {"tokenizer_config.json": {"added_tokens_decoder": {"64795": {"content": "<|user|>"}}}},
            "chatglm3",
        ),
        ("x", {"config.json": V2 | {"_name_or_path": "THUDM/codegeex2-6b"}}, "codegeex2"),
        ("x", {"config.json": V2 | {"torch_dtype": "bfloat16"}}, "chatglm2"),  # how it was saved says nothing
        ("x", {"MODEL_LICENSE": "The CodeGeeX License"}, "codegeex2"),
        ("x", {"tokenization_chatglm.py": 'role_special_tokens = ["<|system|>", "<|user|>"]'}, "chatglm3"),
        ("models--THUDM--chatglm3-6b/snapshots/0123abc", {}, "chatglm3"),
        ("x", {"config.json": golden_json("chatglm-int4/config.json")}, "chatglm"),
    ],
)
def test_families_are_told_apart(tmp_path: Path, name: str, files: dict[str, object], family: str):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
    config = files.get("config.json", V2)
    assert isinstance(config, dict)
    assert recognise(folder, config) == family


def test_recognising_a_folder_needs_no_torch():
    code = (
        "import sys, time\n"
        "from glmtui.hub.model_dir import ModelFolder\n"
        "folder = ModelFolder.open(sys.argv[1])\n"
        "folder.sizes.memory_bytes('4'), folder.file_bytes\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'textual'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(GOLDEN / "chatglm-fp16-sharded")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


def test_recognising_a_folder_is_quick():
    started = time.perf_counter()
    for _repeat in range(10):
        assert ModelFolder.open(GOLDEN / "chatglm-fp16-sharded").file_bytes
    print(f"recognised in {(time.perf_counter() - started) * 100:.2f} ms")

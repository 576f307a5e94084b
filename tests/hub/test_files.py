"""Files of other people's making: what is opened, how much is read, what a field may be."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from golden_data import GOLDEN
from tiny_model import write_tiny_model, write_tiny_model2

from glmtui.errors import BadFileError, ModelNotHereError, NotFoundError, UserError
from glmtui.hub import catalog, config, files, integrity, inventory
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.checkpoint import Checkpoint, expected_shapes, new_network

posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes and devices in folders")
DEEP = "[" * 100_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "model")


def change(folder: Path, **fields: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))
    return folder


def put(folder: Path, name: str, what: str) -> None:
    """Put something that is no regular file under a name in a model folder."""
    file = folder / name
    file.unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    else:
        file.symlink_to(name if what == "itself" else what)


@posix
@pytest.mark.parametrize("what", ["pipe", "folder", "itself", "/dev/zero", "/dev/null"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.safetensors.index.json"])
def test_what_is_no_file_is_refused(model: Path, name: str, what: str) -> None:
    put(model, name, what)
    if what == "itself" and name.endswith("index.json"):
        return  # as if there were none
    with pytest.raises(UserError, match=r"regular file|it is a folder|no config\.json|no weights"):
        ModelFolder.open(model)


@posix
@pytest.mark.parametrize("what", ["pipe", "folder", "itself", "/dev/zero"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("tokenizer_config.json", config.read_tokenizer_config),
        ("generation_config.json", config.read_generation_config),
    ],
)
def test_nor_in_the_place_of_settings(model: Path, name: str, read, what: str) -> None:
    put(model, name, what)
    with pytest.raises(BadFileError, match=name):
        read(model)


def test_no_more_is_read_than_a_file_may_have(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert files.read(tmp_path / "x", 5) == b"12345"
    with pytest.raises(BadFileError, match="at most"):
        files.read(tmp_path / "x", 4)


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("num_layers", None, "does not say"),
        ("num_layers", 0, "is 0"),
        ("num_layers", True, "is true"),
        ("num_layers", 2_000_000_000, "2000000000"),
        ("hidden_size", "256", '"256"'),
        ("hidden_size", 256.0, "256.0"),
        ("hidden_size", -8, "is -8"),
        ("hidden_size", [1], "[…]"),
        ("hidden_size", 10**4000, "…"),
        ("max_sequence_length", 10**12, "1000000000000"),
        ("layernorm_epsilon", float("nan"), "NaN"),
        ("layernorm_epsilon", float("inf"), "Infinity"),
        ("tie_word_embeddings", "yes", '"yes"'),
        ("quantization_bit", "4", '"4"'),
        ("eos_token_id", {"a": 1}, "{…}"),
        ("model_type", "x" * 100_000, "…"),
        ("model_type", "\x1b]52;c;QQ==\x07\nx\ud800", "type x�"),
    ],
)
def test_a_field_that_cannot_be_is_named_in_one_short_line(
    model: Path, field: str, value: object, word: str
) -> None:
    change(model, **{field: value})
    with pytest.raises(BadFileError) as caught:
        _ = ModelFolder.open(model).sizes
    said = str(caught.value)
    assert "config.json" in said
    assert field in said or field == "model_type"
    assert word in said
    assert said.isprintable()
    assert len(said) < 600


@pytest.mark.parametrize(
    "text", [DEEP, '{"a":' * 5000, '{"num_layers": %s}' % ("9" * 5000), "[]", "", "{", "\x00"]
)
def test_json_that_cannot_be_read_is_named(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(BadFileError, match=r"config\.json"):
        ModelFolder.open(model)


def test_a_byte_order_mark_is_no_fault(model: Path) -> None:
    file = model / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert ModelFolder.open(model).family == "chatglm"


@pytest.mark.parametrize(
    "index",
    [{}, {"weight_map": []}, {"weight_map": {"a": ["x"]}}, {"weight_map": {"a": "../../etc/passwd"}}, []],
)
def test_an_index_that_cannot_be_is_named(model: Path, index: object) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json"):
        ModelFolder.open(model)


@pytest.mark.parametrize(
    "entry", [7, {"dtype": "F16"}, {"dtype": "F16", "shape": [1], "data_offsets": [0, -2]}]
)
def test_a_table_of_tensors_that_cannot_be_is_named(model: Path, entry: object) -> None:
    header = json.dumps({"x": entry}).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(BadFileError, match=r"model\.safetensors .* header"):
        integrity.check_complete(ModelFolder.open(model))


def test_a_network_is_not_built_for_files_that_cannot_fill_it(model: Path) -> None:
    change(model, num_layers=1000, hidden_size=4096, inner_hidden_size=16384)
    with pytest.raises(BadFileError, match="do not belong together"):
        new_network(ModelFolder.open(model))


# --- one bad folder costs itself ---


def test_one_bad_folder_is_named_and_the_others_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    models = tmp_path / "models"
    write_tiny_model(models / "good")
    bad = {"null": None, "text": "256", "float": 256.0, "none": 0, "list": []}
    for name, value in bad.items():
        change(write_tiny_model(models / name), hidden_size=value)
    if sys.platform != "win32":
        put(write_tiny_model(models / "pipe"), "config.json", "pipe")
        bad["pipe"] = ""
    inventory.add_folder(models)
    entries = {entry.name: entry for entry in inventory.list_models().entries if entry.place == "folder"}
    assert {name for name, entry in entries.items() if entry.problem} == set(bad)
    assert not entries["good"].problem


@posix
def test_names_that_are_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / os.fsdecode("模型".encode("gbk"))
    try:
        write_tiny_model(folder)
    except OSError:
        pytest.skip("the file system takes no such name")
    assert inventory.add_folder(folder) in inventory.added_folders()
    shapes = expected_shapes(new_network(ModelFolder.open(folder)))
    assert len(list(Checkpoint.open(folder).tensors(shapes))) == len(shapes)


# --- what people take for a model ---


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("chatglm3.Q4.gguf", b"GGUF....", "GGUF"),
        ("pytorch_model.bin", b"lmgg" + bytes(100), "GGML"),
        ("model.onnx", b"\x08\x07", "ONNX"),
        ("notes.txt", b"hello", "folder that holds it"),
    ],
)
def test_files_of_other_programs_are_told_by_name(
    tmp_path: Path, name: str, content: bytes, word: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UserError, match=word):
        catalog.resolve(str(file))
    if word != "folder that holds it":
        with pytest.raises(UserError, match=word):
            catalog.resolve(str(tmp_path))
        (tmp_path / "config.json").write_bytes((GOLDEN / "chatglm-int4/config.json").read_bytes())
        with pytest.raises(UserError, match=word):
            integrity.check_complete(ModelFolder.open(tmp_path))


def test_a_lora_adapter_is_told(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "THUDM/chatglm3-6b"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(NotFoundError, match=r"LoRA adapter.*THUDM/chatglm3-6b.*--lora"):
        ModelFolder.open(tmp_path)


@pytest.mark.parametrize(
    ("address", "name", "revision"),
    [
        ("https://huggingface.co/THUDM/chatglm-6b", "THUDM/chatglm-6b", None),
        ("https://huggingface.co/zai-org/glm-4-9b-chat/tree/v1.0", "zai-org/glm-4-9b-chat", "v1.0"),
        ("hf-mirror.com/THUDM/chatglm-6b/", "THUDM/chatglm-6b", None),
        ("https://huggingface.co/THUDM/chatglm-6b.git", "THUDM/chatglm-6b", None),
        ("https://huggingface.co/a/b/blob/main/config.json?x=1#y", "a/b", "main"),
        ("chatglm-6b@v1.0", "chatglm-6b", "v1.0"),
        ("./folder@home", "./folder@home", None),
    ],
)
def test_the_address_of_a_model_is_its_name(address: str, name: str, revision: str | None) -> None:
    assert catalog.split(address) == (name, revision)


def test_advice_names_the_model_and_not_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelNotHereError) as refused:
        catalog.resolve("https://huggingface.co/THUDM/chatglm-6b/tree/v1.0")
    assert refused.value.source == "THUDM/chatglm-6b@v1.0"
    assert "https" not in str(refused.value)


def test_another_address_is_said_to_be_none() -> None:
    with pytest.raises(NotFoundError, match="owner/name"):
        catalog.resolve("https://example.org/model.bin")


def test_a_folder_that_does_not_tell_its_family_is_known_not_to(tmp_path: Path) -> None:
    silent = change(write_tiny_model2(tmp_path / "merged"), _name_or_path="output")
    assert ModelFolder.open(silent).family == "chatglm2"
    assert not ModelFolder.open(silent).tells_its_family
    assert ModelFolder.open(write_tiny_model2(tmp_path / "chatglm2-tuned")).tells_its_family
    assert ModelFolder.open(write_tiny_model(tmp_path / "first")).tells_its_family

import json
import os
import pickle
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch
from golden_data import GOLDEN, read_network
from safetensors.torch import save_file

from glmtui import memory
from glmtui.errors import UserError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models import weight_files
from glmtui.models.checkpoint import Checkpoint, expected_shapes, new_network
from glmtui.models.weight_files import read_file

SHARDED = GOLDEN / "chatglm-fp16-sharded"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 1234567890\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a sharded checkpoint, to be damaged."""
    return Path(shutil.copytree(SHARDED, tmp_path / "model"))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(Checkpoint.open(folder).tensors())


def single_file(folder: Path, state: dict[str, object], **options: object) -> Path:
    """Put `state` in the place of the shards."""
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    file = folder / "pytorch_model.bin"
    torch.save(state, file, **options)
    return file


def assert_same_network(one: Path, other: Path) -> None:
    expected = read_network(one).state_dict()
    for name, tensor in read_network(other).state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_reads_every_tensor_once_and_leaves_out_derived_ones():
    names = [name for name, _tensor in Checkpoint.open(SHARDED).tensors()]
    assert len(names) == len(set(names)) == 28
    assert not any("inv_freq" in name for name in names)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_tensors_are_mapped_not_read(folder: Path):
    name, _tensor = next(Checkpoint.open(folder).tensors())
    assert name == "transformer.word_embeddings.weight"
    assert str(folder / "pytorch_model-00001") in Path("/proc/self/maps").read_text()


def test_a_single_safetensors_file_gives_the_same_network(folder: Path):
    state = {name: tensor.clone() for name, tensor in weights_of(folder).items()}
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    save_file(state, folder / "model.safetensors")
    assert_same_network(folder, SHARDED)


def test_sharded_safetensors_give_the_same_network(folder: Path):
    items = [(name, tensor.clone()) for name, tensor in weights_of(folder).items()]
    weight_map = {}
    for i, part in enumerate((items[:11], items[11:]), start=1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file(dict(part), folder / file)
        weight_map |= {name: file for name, _tensor in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    assert_same_network(folder, SHARDED)


def test_files_from_before_torch_1_6_are_read_unmapped(folder: Path):
    single_file(folder, weights_of(SHARDED), _use_new_zipfile_serialization=False)
    assert_same_network(folder, SHARDED)


@pytest.mark.parametrize("kept", ["transformer.word_embeddings.weight", "lm_head.weight"])
def test_an_output_layer_stored_once_is_enough(folder: Path, kept: str):
    tied = {"transformer.word_embeddings.weight", "lm_head.weight"} - {kept}
    state = {name: tensor for name, tensor in weights_of(SHARDED).items() if name not in tied}
    single_file(folder, state)
    assert_same_network(folder, SHARDED)


def test_an_aliased_output_layer_is_read_once(folder: Path):
    state = weights_of(SHARDED)
    state["lm_head.weight"] = state["transformer.word_embeddings.weight"]
    single_file(folder, state)
    network = read_network(folder)
    assert network.lm_head.weight.data_ptr() == network.transformer.word_embeddings.weight.data_ptr()


def test_an_output_layer_of_its_own_is_read(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    state = weights_of(SHARDED)
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    single_file(folder, state)
    network = read_network(folder)
    torch.testing.assert_close(network.lm_head.weight.half(), state["lm_head.weight"])
    assert not torch.equal(network.lm_head.weight, network.transformer.word_embeddings.weight)


def test_published_int4_shapes_are_expected():
    for name, quant in (
        ("chatglm-int4", "4"),
        ("chatglm-int8", "8"),
        ("chatglm2-int4", "4"),
        ("chatglm2-int8", "8"),
    ):
        checkpoint = Checkpoint.open(GOLDEN / name)
        assert checkpoint.folder.quant == quant
        network = new_network(checkpoint.folder)
        expected = expected_shapes(network, quant)
        assert {n: tuple(t.shape) for n, t in checkpoint.tensors(expected, network.TIED)} == expected


@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_embeddings_and_their_scales_are_tied(folder: Path, bits: int):
    """The discontinued int4-qe: embedding and output layer share packed weights and scales."""
    config = json.loads((GOLDEN / f"chatglm-int{bits}" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_embeddings": True}))
    state = dict(Checkpoint.open(GOLDEN / f"chatglm-int{bits}").tensors())
    packed, scale = torch.zeros(320, 64 * bits // 8, dtype=torch.int8), torch.ones(320, dtype=torch.float16)
    for name in ("transformer.word_embeddings", "lm_head"):
        state |= {f"{name}.weight": packed, f"{name}.weight_scale": scale}
    single_file(folder, state)
    checkpoint = Checkpoint.open(folder)
    network = new_network(checkpoint.folder)
    expected = expected_shapes(network, checkpoint.folder.quant, embeddings=True)
    names = [name for name, _tensor in checkpoint.tensors(expected, network.TIED)]
    assert sorted(names) == sorted(expected)
    assert "transformer.word_embeddings.weight_scale" in names


# --- bad files: one line that names the file and says what to do ---


def fails(folder: Path, *words: str) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()} if folder.is_dir() else {}
    with pytest.raises(UserError) as caught:
        read_network(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert {file: file.read_bytes() for file in before} == before


def test_no_such_folder(tmp_path: Path):
    fails(tmp_path / "nothing", "There is no folder", "nothing")


def test_a_folder_without_config(folder: Path):
    (folder / "config.json").unlink()
    fails(folder, str(folder), "config.json")


def test_a_config_that_is_no_json(folder: Path):
    (folder / "config.json").write_text("{")
    fails(folder, "config.json", "Download it again")


def test_an_unknown_architecture(folder: Path):
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    fails(folder, "llama", "config.json")


def test_a_git_lfs_pointer(folder: Path):
    (folder / "pytorch_model-00002-of-00003.bin").write_text(LFS_POINTER)
    fails(folder, "pytorch_model-00002-of-00003.bin", "git lfs pull")


def test_a_missing_shard(folder: Path):
    (folder / "pytorch_model-00002-of-00003.bin").unlink()
    fails(folder, "pytorch_model-00002-of-00003.bin", "pytorch_model.bin.index.json", "Download it again")


def test_no_weights_at_all(folder: Path):
    for file in folder.glob("pytorch_model*"):
        file.unlink()
    fails(folder, str(folder), "model.safetensors", "pytorch_model.bin")


@pytest.mark.parametrize("keep", [0, 3, 500, 40_000, -1])
def test_a_file_cut_short(folder: Path, keep: int):
    file = folder / "pytorch_model-00002-of-00003.bin"
    file.write_bytes(file.read_bytes()[:keep])
    fails(folder, str(file), "damaged or cut short", "Download it again")


def test_a_zip_with_a_broken_pickle(folder: Path):
    file = folder / "pytorch_model-00002-of-00003.bin"
    content = bytearray(file.read_bytes())
    start = content.index(b"data.pkl") + 80
    content[start : start + 60] = b"\xff" * 60
    file.write_bytes(content)
    fails(folder, str(file), "Download it again")


def test_weights_that_are_not_what_was_written(folder: Path):
    file = folder / "pytorch_model-00003-of-00003.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    fails(folder, str(file), "checksum", "Download it again")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_used_before_it_is_checked(folder: Path):
    file = folder / "pytorch_model-00003-of-00003.bin"
    content = bytearray(file.read_bytes())
    content[len(content) // 8] ^= 1
    file.write_bytes(content)
    expected, used = weights_of(SHARDED), []
    with pytest.raises(UserError, match="checksum"):
        used.extend(torch.equal(tensor, expected[name]) for name, tensor in read_file(file))
    assert all(used)


def test_checking_waits_for_those_who_use_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weight_files._Checksums, "_AHEAD", 1 << 12)
    monkeypatch.setattr(weight_files._Checksums, "_CHUNK", 1 << 10)
    found = {name: tensor.clone() for name, tensor in Checkpoint.open(folder).tensors(once=True)}
    expected = weights_of(folder)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_are_let_go_of_when_nobody_refers_to_their_tensor(monkeypatch: pytest.MonkeyPatch):
    gone: list[int] = []
    monkeypatch.setattr(memory, "_advise", lambda start, _count, _advice: gone.append(start))
    tensors = read_file(SHARDED / "pytorch_model-00002-of-00003.bin", once=True)
    kept, count = next(tensors)[1], 1
    count += sum(1 for _each in tensors)
    assert len(gone) == count - 1
    del kept
    assert len(gone) == count > 2


def test_leaving_off_early_leaves_nothing_running(folder: Path):
    tensors = Checkpoint.open(folder).tensors()
    next(tensors)
    tensors.close()
    assert "checksums" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("keep", [4, 100, 5000])
def test_safetensors_cut_short(folder: Path, keep: int):
    save_file({n: t.clone() for n, t in weights_of(folder).items()}, folder / "model.safetensors")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:keep])
    fails(folder, "model.safetensors", "damaged or cut short", "Download it again")


def test_a_wrong_shape(folder: Path):
    state = weights_of(SHARDED)
    state["transformer.layers.1.mlp.dense_h_to_4h.weight"] = torch.zeros(8, 64)
    single_file(folder, state)
    fails(
        folder, "transformer.layers.1.mlp.dense_h_to_4h.weight", "[8, 64]", "[256, 64]", "pytorch_model.bin"
    )


def test_missing_tensors(folder: Path):
    state = weights_of(SHARDED)
    del state["transformer.final_layernorm.bias"], state["transformer.layers.1.attention.dense.bias"]
    single_file(folder, state)
    fails(folder, str(folder), "2 tensors", "transformer.layers.1.attention.dense.bias")


def test_a_file_that_is_no_table(folder: Path):
    single_file(folder, [torch.zeros(2)])  # type: ignore[arg-type]
    fails(folder, "pytorch_model.bin", "not a table of weights")


@pytest.mark.parametrize("wrapper", ["module.", "base_model.model.", "_orig_mod.module."])
def test_names_that_training_wrote_are_read(folder: Path, tmp_path: Path, wrapper: str):
    plain = shutil.copytree(folder, tmp_path / "plain")
    state = dict(Checkpoint.open(folder).tensors())
    single_file(folder, {f"{wrapper}{name}": tensor.clone() for name, tensor in state.items()})
    assert_same_network(folder, plain)


def test_names_of_nobody_are_shown_next_to_those_wanted(folder: Path):
    single_file(folder, {"encoder.x": torch.zeros(2)})
    fails(folder, "encoder.x", "transformer.", "names")


def test_adapters_among_the_weights_are_told(folder: Path):
    single_file(folder, {"base_model.model.transformer.layers.0.lora_A.weight": torch.zeros(2)})
    fails(folder, "LoRA", "--lora")


def test_a_sparse_tensor_is_refused(folder: Path):
    single_file(folder, {"transformer.final_layernorm.bias": torch.ones(4).to_sparse()})
    fails(folder, "pytorch_model.bin", "transformer.final_layernorm.bias", "sparse")


def test_a_prefix_alone_is_no_model(folder: Path):
    single_file(folder, {"transformer.prefix_encoder.embedding.weight": torch.zeros(6, 256)})
    fails(folder, "--ptuning", str(folder))


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_executes_is_refused_and_never_run(folder: Path, tmp_path: Path, zipped: bool):
    target = tmp_path / "executed"
    state = {**weights_of(SHARDED), "lm_head.weight": Malicious(target)}
    file = single_file(folder, state, _use_new_zipfile_serialization=zipped)
    fails(folder, str(file), "refused", "mkdir")
    assert not target.exists()
    pickle.loads(pickle.dumps(Malicious(target)))
    assert target.exists()  # as it would have been


def test_a_plain_pickle_that_executes_is_refused(folder: Path, tmp_path: Path):
    target = tmp_path / "executed"
    file = single_file(folder, {})
    file.write_bytes(pickle.dumps({"lm_head.weight": Malicious(target)}, protocol=2))
    fails(folder, str(file))
    assert not target.exists()


def test_an_open_folder_needs_no_weights_read(folder: Path):
    opened = ModelFolder.open(folder)
    assert opened.file_bytes == sum(file.stat().st_size for file in folder.glob("*.bin"))

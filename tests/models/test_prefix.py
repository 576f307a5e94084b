import json
import shutil
from pathlib import Path

import pytest
import torch
from golden_data import GOLDEN, check_golden

import glmtui
from glmtui.errors import UserError
from glmtui.hub.model_dir import ModelFolder
from glmtui.models.checkpoint import Checkpoint, expected_shapes, new_network
from glmtui.models.prefix import KEYS, PrefixEncoder, with_prefix

GOLDENS = ("chatglm-ptuning", "chatglm-ptuning-projection", "chatglm2-ptuning")


def base_of(golden: str, folder: Path) -> Path:
    """The golden's model as it was before P-tuning."""
    folder.mkdir()
    config = json.loads((GOLDEN / golden / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"pre_seq_len": None, "prefix_projection": False})
    )
    state = {n: t for n, t in Checkpoint.open(GOLDEN / golden).tensors() if not n.startswith(KEYS)}
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def prefix_of(golden: str, folder: Path, **changes: object) -> Path:
    """What P-tuning saves: the prefix alone."""
    folder.mkdir()
    config = json.loads((GOLDEN / golden / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    state = {n: t for n, t in Checkpoint.open(GOLDEN / golden).tensors() if n.startswith(KEYS)}
    torch.save(state, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("golden", GOLDENS)
@pytest.mark.parametrize("full", [False, True], ids=["prefix only", "full checkpoint"])
def test_a_prefix_on_its_model_gives_the_golden(golden: str, full: bool, tmp_path: Path):
    base = base_of(golden, tmp_path / "base")
    prefix = GOLDEN / golden if full else prefix_of(golden, tmp_path / "prefix")
    model = glmtui.load(str(base), ptuning=str(prefix), device="cpu", dtype="float32")
    check_golden(golden, model.network)


def load_with(base: Path, prefix: Path) -> None:
    folder, trained = ModelFolder.open(base), ModelFolder.open(prefix)
    network = new_network(with_prefix(folder, trained))
    shapes = {name: shape for name, shape in expected_shapes(network).items() if name.startswith(KEYS)}
    list(Checkpoint(trained).tensors(shapes))


@pytest.mark.parametrize("start", ["", "prefix_encoder.", "module.transformer.prefix_encoder."])
def test_names_without_their_beginning_are_read(tmp_path: Path, start: str):
    prefix = prefix_of("chatglm2-ptuning", tmp_path / "prefix")
    file = prefix / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    torch.save({f"{start}{name.removeprefix(KEYS)}": tensor for name, tensor in state.items()}, file)
    load_with(GOLDEN / "chatglm2-ptuning", prefix)


def test_a_wrong_length_is_named(tmp_path: Path):
    base, prefix = (
        GOLDEN / "chatglm-ptuning",
        prefix_of("chatglm-ptuning", tmp_path / "prefix", pre_seq_len=9),
    )
    with pytest.raises(
        UserError, match=r"pytorch_model\.bin: the P-tuning prefix has 6 rows.*pre_seq_len is 9"
    ):
        load_with(base, prefix)


def test_a_wrong_width_is_named(tmp_path: Path):
    prefix = prefix_of(
        "chatglm2-ptuning", tmp_path / "prefix", multi_query_group_num=None, num_attention_heads=2
    )
    with pytest.raises(UserError, match=r"embedding\.weight has the shape \[6, 128\].* takes \[6, 256\]"):
        load_with(GOLDEN / "chatglm-ptuning", prefix)


def test_a_wrong_projection_is_named(tmp_path: Path):
    prefix = prefix_of("chatglm-ptuning", tmp_path / "prefix", prefix_projection=True)
    with pytest.raises(UserError, match="prefix_projection"):
        load_with(GOLDEN / "chatglm-ptuning", prefix)


@pytest.mark.parametrize("kind", [torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_values_that_are_no_numbers_are_named(tmp_path: Path, kind: torch.dtype):
    """As trainers left them whose loss was 0.0 in float16."""
    base = base_of("chatglm2-ptuning", tmp_path / "base")
    prefix = prefix_of("chatglm2-ptuning", tmp_path / "prefix")
    state = torch.load(prefix / "pytorch_model.bin", weights_only=True)
    state[f"{KEYS}embedding.weight"][0, 3] = float("nan")
    state = {name: tensor.to(kind) for name, tensor in state.items()}
    torch.save(state, prefix / "pytorch_model.bin")
    with pytest.raises(UserError, match="no numbers"):
        load_with(base, prefix)


def test_another_model_is_named(tmp_path: Path):
    prefix = prefix_of("chatglm-ptuning", tmp_path / "prefix", num_layers=28)
    with pytest.raises(UserError, match="num_layers is 28, this model's 2"):
        load_with(GOLDEN / "chatglm-ptuning", prefix)


def test_a_folder_without_a_prefix_is_named(tmp_path: Path):
    plain = Path(shutil.copytree(GOLDEN / "chatglm3-fp16", tmp_path / "plain"))
    with pytest.raises(UserError, match=r"plain is no P-tuning checkpoint.*pre_seq_len"):
        load_with(GOLDEN / "chatglm3-fp16", plain)


def test_layers_take_turns_in_a_row():
    encoder = PrefixEncoder(rows=2, width=2 * 3 * 4 * 5, table=2 * 3 * 4 * 5, hidden=None)
    prefix = encoder.keys_values(num_layers=3, heads=4, head_dim=5, dtype=torch.float32)
    assert prefix.shape == (3, 2, 4, 2, 5)
    row = encoder.embedding.weight[1]
    torch.testing.assert_close(prefix[1, 0, :, 1], row[40:60].view(4, 5))  # layer 1's keys: slot 2
    torch.testing.assert_close(prefix[1, 1, :, 1], row[60:80].view(4, 5))

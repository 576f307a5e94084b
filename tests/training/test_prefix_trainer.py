"""P-tuning against the published trainer: every loss, gradient and weight of its runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training.conftest import Published

import glmtui
from glmtui.errors import BadFileError, BadValueError
from glmtui.models.weight_files import read_file
from glmtui.training import PrefixTrainer
from glmtui.training.forward import TrainingState, loss_of
from glmtui.training.trainer import NotFiniteError


@pytest.mark.parametrize("optimizer", ["published", "adamw"])
def test_five_steps_are_those_of_the_published_trainer(published: Published, optimizer: str) -> None:
    trainer = published.trainer(optimizer=optimizer)
    kind = "" if optimizer == "published" else "_torch_adamw"
    losses, norms, rates = [], [], []
    for step in range(5):
        rates.append(trainer.trainer.learning_rate)
        losses.append(trainer.step(published.batches(step)))
        norms.append(trainer.trainer.grad_norm)
    np.testing.assert_allclose(losses, published.arrays[f"losses{kind}"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(rates, published.arrays["learning_rates"], rtol=1e-6)
    if optimizer == "published":
        np.testing.assert_allclose(norms, published.arrays["grad_norms"], atol=1e-5)
    expected = published.named(f"final{kind}/")
    found = trainer.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor, expected[name], atol=1e-3, rtol=0)


def test_dropout_takes_keys_and_values_of_each_sample(published: Published) -> None:
    trainer = published.trainer()
    prefix = trainer.adapter.prefix(2, training=False)
    assert prefix is not None
    layers, _two, batch, groups, rows, size = prefix.shape
    mask = torch.from_numpy(published.arrays["dropout_mask"])  # [batch, rows, 2 * layers, groups, size]
    kept = mask.view(batch, rows, layers, 2, groups, size).permute(2, 3, 0, 4, 1, 5)
    ids, labels = (torch.from_numpy(each).long() for each in published.batches(0)[0])
    state = TrainingState(prefix * kept / 0.9, checkpointing=True)
    loss, _count = loss_of(trainer.trainer.network, ids, labels, state, rows)
    assert float(loss) == pytest.approx(float(published.arrays["loss_with_dropout"]), abs=1e-5)
    dropped = published.trainer(dropout=0.1).adapter.prefix(2, training=True)
    assert dropped is not None
    share = (dropped == 0).float().mean(dim=(0, 1, 3, 4, 5))
    assert 0.02 < float(share.min()) <= float(share.max()) < 0.25
    assert not torch.equal(dropped[:, :, 0], dropped[:, :, 1]), "each sample has its own"


def test_checkpointing_changes_no_gradient(published: Published) -> None:
    trainer = published.trainer()
    ids, labels = (torch.from_numpy(each).long() for each in published.batches(0)[0])
    (parameter, *_rest) = trainer.adapter.parameters().values()
    found = []
    for checkpointing in (True, False):
        state = TrainingState(trainer.adapter.prefix(2, training=True), checkpointing=checkpointing)
        loss, _count = loss_of(trainer.trainer.network, ids, labels, state, 6)
        found.append(torch.autograd.grad(loss, parameter)[0])
    assert torch.equal(*found)
    assert found[0].abs().sum() > 0


def test_what_is_saved_is_loaded_by_the_chat_and_looks_as_published(
    published: Published, tmp_path: Path
) -> None:
    trainer = published.trainer(initial=published.named("final/"))
    trainer.save(tmp_path / "saved")
    saved = {name: tensor.clone() for name, tensor in read_file(tmp_path / "saved" / "pytorch_model.bin")}
    theirs = {
        name: tensor.clone() for name, tensor in read_file(published.folder / "prefix_pytorch_model.bin")
    }
    assert {name: (each.shape, each.dtype) for name, each in saved.items()} == {
        name: (each.shape, each.dtype) for name, each in theirs.items()
    }
    for name, tensor in saved.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-3, rtol=0)
    base = tmp_path / "base"
    base.mkdir()
    config = json.loads((published.folder / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "pre_seq_len": None}))
    (base / "pytorch_model.bin").symlink_to(published.folder / "pytorch_model.bin")
    ids, _labels = published.batches(0)[0]
    tuned = glmtui.load(base, device="cpu", ptuning=tmp_path / "saved").logits(ids[0])
    expected = published.arrays["final_logits_batch0"][0]
    np.testing.assert_allclose(tuned, expected, atol=2e-3 * np.abs(expected).max(), rtol=0)


def test_training_goes_on_from_what_the_published_trainer_saved(published: Published) -> None:
    theirs = {
        name: tensor.numpy().copy()
        for name, tensor in read_file(published.folder / "prefix_pytorch_model.bin")
    }
    trainer = published.trainer(initial=theirs, learning_rate=1e-9)
    losses = trainer.step([published.batches(step)[micro] for step in range(5) for micro in range(2)])
    np.testing.assert_allclose(losses, published.arrays["losses_after"].ravel(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("spoil", ["none", "flat", "longer", "floats", "empty"])
def test_batches_that_are_none_are_refused(published: Published, spoil: str) -> None:
    trainer = published.trainer()
    ids, labels = published.batches(0)[0]
    bad = {
        "none": [],
        "flat": [(ids[0], labels[0])],
        "longer": [(ids, labels[:, 1:])],
        "floats": [(ids * 1.0, labels)],
        "empty": [(ids[:0], labels[:0])],
    }[spoil]
    with pytest.raises(BadValueError, match="ids and labels"):
        trainer.step(bad)
    assert trainer.trainer.done == 0


def test_a_prefix_is_not_saved_over_its_model(published: Published) -> None:
    before = sorted(published.folder.iterdir())
    with pytest.raises(BadValueError, match="the model itself"):
        published.trainer().save(published.folder)
    assert sorted(published.folder.iterdir()) == before


@pytest.mark.parametrize("name", ["pre_seq_len", "max_steps"])
def test_there_is_at_least_one_row_and_one_step(published: Published, name: str) -> None:
    with pytest.raises(BadValueError, match=name):
        published.trainer(**{name: 0})


def test_a_prefix_of_another_shape_is_refused(published: Published) -> None:
    with pytest.raises(BadFileError, match="length"):
        published.trainer(pre_seq_len=5)
    with pytest.raises(BadValueError, match="optimizer"):
        published.trainer(optimizer="sgd")


def test_a_loss_that_is_no_number_changes_nothing() -> None:
    published = Published.of("v1")
    trainer = published.trainer()
    trainer.step(published.batches(0))
    before = trainer.state_dict()
    batches = published.batches(1)
    network = trainer.trainer.network
    norm = network.get_submodule("transformer.final_layernorm")
    weight = norm.weight.data.clone()
    norm.weight.data[0] = float("nan")
    with pytest.raises(NotFiniteError, match="Step 2: the loss") as error:
        trainer.step(batches)
    assert error.value.step == 2
    assert trainer.trainer.done == 1
    for name, tensor in trainer.state_dict().items():
        assert torch.equal(tensor, before[name])
    norm.weight.data = weight
    np.testing.assert_allclose(trainer.step(batches), published.arrays["losses"][1], atol=1e-4)


def test_a_gradient_that_is_no_number_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    published = Published.of("v2")
    trainer = published.trainer()
    before = trainer.state_dict()
    for parameter in trainer.adapter.parameters().values():
        parameter.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NotFiniteError, match="Step 1: the gradient"):
        trainer.step(published.batches(0))
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.state_dict().items())


@pytest.mark.parametrize("case", ["v1", "v2"])
@pytest.mark.parametrize("quant", [8, 4])
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_the_gradient_through_quantised_weights_is_the_slope_of_the_loss(
    case: str, quant: int, dtype: str | None
) -> None:
    """With float32 as numbers say it; where activations are rounded or bfloat16, as near to that as these
    are."""
    published = Published.of(case)
    trainer = published.trainer(quant=quant, dtype=dtype)
    ids, labels = (torch.from_numpy(each).long() for each in published.batches(0)[0])
    (parameter,) = trainer.adapter.parameters().values()

    def loss(*, training: bool = True) -> torch.Tensor:
        state = TrainingState(trainer.adapter.prefix(2, training=training), checkpointing=training)
        return loss_of(trainer.trainer.network, ids, labels, state, 6)[0]

    (gradient,) = torch.autograd.grad(loss(), parameter)
    exact = published.trainer(quant=quant, dtype="float32")
    state = TrainingState(exact.adapter.prefix(2, training=True), checkpointing=False)
    (expected,) = torch.autograd.grad(
        loss_of(exact.trainer.network, ids, labels, state, 6)[0], *exact.adapter.parameters().values()
    )
    cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0)
    assert float(cosine) > (0.98 if dtype != "float32" else 0.9999)
    if dtype == "float32":
        direction, step = gradient / gradient.norm(), 1e-2
        with torch.no_grad():
            parameter.add_(direction, alpha=step)
            above = float(loss())
            parameter.add_(direction, alpha=-2 * step)
            below = float(loss())
        assert (above - below) / (2 * step) == pytest.approx(float(gradient.norm()), rel=0.02)


@pytest.mark.parametrize("quant", [8, 4])
def test_quantised_training_learns(quant: int) -> None:
    published = Published.of("v1")
    trainer = published.trainer(quant=quant, dtype=None, max_steps=12)
    losses = [sum(trainer.step(published.batches(0))) for _step in range(12)]
    assert losses[-1] < losses[0] - 0.5


def test_it_is_found_where_it_is_promised() -> None:
    import glmtui.training

    assert glmtui.training.PrefixTrainer is PrefixTrainer
    with pytest.raises(AttributeError):
        glmtui.training.NoSuchThing  # noqa: B018

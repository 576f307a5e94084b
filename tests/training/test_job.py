"""A whole run: what it tells, what it leaves, and that it goes on as if nothing had ended it."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import write_tiny_model

import glmtui
from glmtui.errors import BadFileError, BadValueError, NotFoundError, StorageError
from glmtui.locking import only_one
from glmtui.models.weight_files import read_file
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.models import LocalModel
from glmtui.training import checkpoints
from glmtui.training.job import TuneJob
from glmtui.training.options import TuneOptions
from glmtui.training.order import Order
from glmtui.training.progress import Began, DataRead, Ended, Event, Preparing, Sampled, Saved, Step, Validated
from glmtui.training.trainer import NotFiniteError, Trainer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def options(model: Path, tmp_path: Path) -> TuneOptions:
    data = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"load {number}", "response": f"model {number % 3}"} for number in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TuneOptions(
        data=(str(data),),
        out=str(tmp_path / "out"),
        model=LocalModel(source=str(model), device="cpu", threads=1),
        validation=0.1,
        pre_seq_len=4,
        steps=6,
        batch=2,
        accumulate=2,
        learning_rate=0.01,
        samples=1,
        tensorboard=False,
    )


def run(options: TuneOptions, cancel_at: int | None = None) -> list[Event]:
    """Run; return what it told. It is given up after step `cancel_at`."""
    told: list[Event] = []
    token = CancelToken()

    def take(event: Event) -> None:
        told.append(event)
        if isinstance(event, Step) and event.step == cancel_at:
            token.cancel()

    TuneJob(options).run(take, token)
    return told


def of(told: list[Event], kind: type) -> list[Any]:
    return [event for event in told if isinstance(event, kind)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = [folder / name for name in checkpoints.WEIGHTS if (folder / name).exists()]
    return {name: tensor.clone() for name, tensor in read_file(file)}


@pytest.mark.parametrize("method", ["ptuning", "lora"])
@pytest.mark.parametrize("quant", [None, "4"])
def test_a_run_tells_its_course_and_leaves_what_the_chat_loads(
    options: TuneOptions, method: Any, quant: Any
) -> None:
    options = replace(options, method=method, model=replace(options.model, quant=quant))
    told = run(options)
    kinds = [type(event) for event in told]
    assert kinds.index(DataRead) < kinds.index(Began) < kinds.index(Step)
    assert kinds[-1] is Ended
    assert {Preparing, Saved, Validated} < set(kinds)
    began = of(told, Began)[0]
    assert (began.rows, began.validation_rows, began.first_step, began.steps) == (18, 2, 0, 6)
    assert 0 < began.estimate.memory <= began.estimate.free_memory
    assert began.estimate.seconds > 0
    steps = of(told, Step)
    assert [each.step for each in steps] == [1, 2, 3, 4, 5, 6]
    assert [each.learning_rate for each in steps] == pytest.approx([0.01 * (6 - k) / 6 for k in range(6)])
    assert steps[0].smoothed == steps[0].loss
    assert steps[-1].seconds_left == 0
    assert all(each.tokens_per_second > 0 and each.memory > 0 for each in steps)
    assert [(each.when, len(each.samples)) for each in of(told, Sampled)] == [("before", 1), ("after", 1)]
    out = Path(options.out)
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [each["loss"] for each in logged if each["event"] == "step"] == [each.loss for each in steps]
    plain = glmtui.load(options.model.source, device="cpu", quant=quant)
    tuned = glmtui.load(options.model.source, device="cpu", quant=quant, **{method: out})
    prompt = plain.tokenizer.encode_chat("load 3")
    assert not torch.allclose(plain.logits(prompt), tuned.logits(prompt))


@pytest.mark.parametrize("method", ["ptuning", "lora"])
def test_a_run_that_was_ended_goes_on_as_if_it_had_not(
    options: TuneOptions, tmp_path: Path, method: Any
) -> None:
    """With dropout, shuffled rows, and the optimizer's means: all of it must be where it was."""
    options = replace(options, method=method, prefix_dropout=0.2, lora_dropout=0.2, save_steps=2)
    complete = of(run(replace(options, out=str(tmp_path / "complete"))), Step)
    first = run(options, cancel_at=3)
    assert of(first, Ended)[0].reason == "cancelled"
    second = run(replace(options, resume=True))
    assert of(second, Began)[0].first_step == 3
    found = of(first, Step) + of(second, Step)
    for name in ("step", "loss", "smoothed", "learning_rate"):
        values = [getattr(each, name) for each in found]
        assert values == pytest.approx([getattr(each, name) for each in complete], abs=1e-6), name
    for name, tensor in weights(tmp_path / "out" / "checkpoint-6").items():
        torch.testing.assert_close(
            tensor, weights(tmp_path / "complete" / "checkpoint-6")[name], atol=1e-6, rtol=0
        )


def test_a_run_goes_on_only_with_what_it_began_with(options: TuneOptions) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint"):
        run(replace(options, resume=True))
    run(options, cancel_at=2)
    with pytest.raises(BadValueError, match="holds a run already"):
        run(options)
    with pytest.raises(BadValueError, match=r"learning_rate 0\.01, now 0\.02.*batch 2, now the usual"):
        run(replace(options, resume=True, learning_rate=0.02, batch=None))
    with pytest.raises(BadValueError, match="seed 42, now 7"):  # which also keeps other rows apart
        run(replace(options, resume=True, seed=7))
    with pytest.raises(BadValueError, match="start_from"):
        run(replace(options, resume=True, start_from=options.out))
    with pytest.raises(BadValueError, match="quant none, now 8"):
        run(replace(options, resume=True, model=replace(options.model, quant="8")))
    data = Path(options.data[0])
    data.write_text(data.read_text() + '{"prompt": "new", "response": "row"}\n')
    with pytest.raises(BadValueError, match="other data"):
        run(replace(options, resume=True))


def test_a_run_does_not_go_on_with_another_model_of_the_same_shape(
    options: TuneOptions, model: Path, tmp_path: Path
) -> None:
    run(options, cancel_at=2)
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(model, moved)
    shutil.copytree(model, other)
    tensors = load_file(other / "model.safetensors")
    (name,) = [name for name in tensors if name.endswith("layers.1.mlp.dense_4h_to_h.weight")]
    save_file(tensors | {name: tensors[name] * 1.5}, other / "model.safetensors")
    with pytest.raises(BadValueError, match="another model"):
        run(replace(options, resume=True, model=replace(options.model, source=str(other))))
    told = run(replace(options, resume=True, model=replace(options.model, source=str(moved))))
    assert of(told, Ended)[0].reason == "done"


@pytest.mark.parametrize("method", ["ptuning", "lora"])
@pytest.mark.parametrize("name", ["config.json", "pytorch_model.bin", "adapter_model.safetensors"])
def test_nothing_is_written_over(options: TuneOptions, method: Any, name: str) -> None:
    """Such as the model itself, where its folder was given for the result."""
    out = Path(options.out)
    out.mkdir()
    (out / name).write_text("of something else")
    with pytest.raises(BadValueError, match=name):
        run(replace(options, method=method))
    assert [each.name for each in out.iterdir()] == [name]
    assert (out / name).read_text() == "of something else"


def test_two_runs_do_not_share_a_folder(options: TuneOptions) -> None:
    out = Path(options.out)
    out.mkdir()
    with only_one(out) as alone:
        assert alone
        with pytest.raises(BadValueError, match="Another run"):
            run(options)
        assert not list(out.iterdir())
    assert of(run(options), Ended)


def test_a_run_that_does_not_begin_leaves_no_folder(options: TuneOptions) -> None:
    with pytest.raises(NotFoundError):
        run(replace(options, data=("nothing.json",)))
    assert not Path(options.out).exists()


def test_a_checkpoint_of_the_published_trainer_is_gone_on_from(options: TuneOptions) -> None:
    """Its optimizer has two groups; of the run itself it tells the step alone."""
    run(options, cancel_at=2)
    folder = Path(options.out) / "checkpoint-2"
    optimizer = torch.load(folder / "optimizer.pt", weights_only=True)
    (group,) = optimizer["param_groups"]
    optimizer["param_groups"] = [{**group, "correct_bias": True}, {**group, "params": []}]
    torch.save(optimizer, folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 2, "max_steps": 6}))
    told = run(replace(options, resume=True))
    assert [each.step for each in of(told, Step)] == [3, 4, 5, 6]


def test_another_run_begins_with_saved_weights(options: TuneOptions, tmp_path: Path) -> None:
    run(options)
    trained = weights(tmp_path / "out" / "checkpoint-6")
    again = replace(options, out=str(tmp_path / "again"), start_from=f"{options.out}/checkpoint-6", steps=1)
    run(replace(again, learning_rate=1e-12))
    for name, tensor in weights(tmp_path / "again" / "checkpoint-1").items():
        torch.testing.assert_close(tensor, trained[name])
    with pytest.raises(BadFileError, match="length"):
        run(replace(again, out=str(tmp_path / "third"), pre_seq_len=5))
    with pytest.raises(BadFileError, match="the other method"):
        run(replace(again, out=str(tmp_path / "fourth"), method="lora"))


def test_what_is_no_number_is_never_the_best(options: TuneOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([math.nan, 2.0, math.inf, 1.0])
    monkeypatch.setattr(Trainer, "validate", lambda _self, _batches: next(losses))
    told = run(replace(options, validate_steps=1, steps=4))
    assert [each.best for each in of(told, Validated)] == [False, True, False, True]


def test_the_best_state_is_left_and_a_run_without_gain_ends(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.4, 1.0])
    monkeypatch.setattr(Trainer, "validate", lambda _self, _batches: next(losses))
    told = run(replace(options, validate_steps=1, patience=2, save_steps=1, keep=9))
    assert [(each.loss, each.best) for each in of(told, Validated)] == [
        (3.0, True),
        (2.0, True),
        (2.5, False),
        (2.4, False),
    ]
    assert (told[-1].reason, told[-1].step) == ("early", 4)
    out = Path(options.out)
    for name, tensor in weights(out).items():
        assert torch.equal(tensor, weights(out / "checkpoint-2")[name])
        assert not torch.equal(tensor, weights(out / "checkpoint-4")[name])


def test_only_the_last_checkpoints_stay_and_time_makes_them_too(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints.Clock, "due", property(lambda _self: True))
    told = run(options)
    assert [each.step for each in of(told, Saved)] == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in Path(options.out).glob("checkpoint-*")) == [
        "checkpoint-5",
        "checkpoint-6",
    ]


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_state_before(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(replace(options, out=f"{options.out}-good"), cancel_at=3)
    real = Trainer._loss

    def spoiled(self: Trainer, *arguments: Any, **named: Any) -> Any:
        loss, count = real(self, *arguments, **named)
        return (loss * math.nan if self.done == 3 and named["training"] else loss), count

    monkeypatch.setattr(Trainer, "_loss", spoiled)
    with pytest.raises(NotFiniteError, match="Step 4"):
        run(options)
    *_before, last = (Path(options.out) / "log.jsonl").read_text().splitlines()
    assert json.loads(last)["code"] == NotFiniteError.code
    kept, good = (weights(Path(f"{options.out}{end}") / "checkpoint-3") for end in ("", "-good"))
    assert all(torch.equal(tensor, good[name]) for name, tensor in kept.items())
    monkeypatch.undo()
    assert of(run(replace(options, resume=True)), Began)[0].first_step == 3


def test_before_the_first_step_there_is_nothing_to_save(options: TuneOptions) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(OperationCancelled):
        TuneJob(options).run(lambda _event: None, token)
    assert not Path(options.out).exists()


def test_a_disk_that_is_full_costs_nothing_that_was_saved(
    options: TuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(options, cancel_at=2)
    before = sorted(path.relative_to(options.out) for path in Path(options.out).rglob("*"))

    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "sync_file", full)
    with pytest.raises(StorageError, match="No space left"):
        run(replace(options, resume=True, validation=0.1, validate_steps=9, save_steps=1))
    assert sorted(path.relative_to(options.out) for path in Path(options.out).rglob("*")) == before


CHILD = """
import os, sys
from pathlib import Path
from glmtui.training import checkpoints
calls = 0
def dying(real):
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        return real(*arguments, **named)
    return call
for name in ("sync_file", "sync_directory"):
    setattr(checkpoints, name, dying(getattr(checkpoints, name)))
checkpoints.os.replace = dying(os.replace)
def write(folder):
    (folder / "pytorch_model.bin").write_bytes(b"new" * 1000)
checkpoints.save_checkpoint(Path(sys.argv[1]), 2, write, {"state": {}}, {}, keep=1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(1, 7))
def test_a_kill_while_a_checkpoint_is_written_leaves_a_complete_one(tmp_path: Path, moment: int) -> None:
    def write(folder: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(b"old" * 1000)

    checkpoints.save_checkpoint(tmp_path, 1, write, {"state": {}}, {}, keep=1)
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), str(moment)], check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    last = checkpoints.last_checkpoint(tmp_path)
    assert last is not None
    assert {file.name for file in last.iterdir()} == {
        "optimizer.pt",
        "pytorch_model.bin",
        "trainer_state.json",
    }
    expected = b"new" if last.name == "checkpoint-2" else b"old"
    assert (last / "pytorch_model.bin").read_bytes() == expected * 1000
    checkpoints.save_checkpoint(tmp_path, 3, write, {"state": {}}, {}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"], "what was half made is gone"


def test_a_damaged_checkpoint_is_refused(options: TuneOptions) -> None:
    run(options, cancel_at=2)
    (Path(options.out) / "checkpoint-2" / "optimizer.pt").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(BadFileError, match=r"optimizer\.pt"):
        run(replace(options, resume=True))


def test_every_row_comes_once_an_epoch_and_in_the_same_order_again() -> None:
    order = Order(5, seed=1)
    flat = [row for step in range(5) for micro in order.step(step, 1, 2) for row in micro]
    assert sorted(flat[:5]) == sorted(flat[5:]) == [0, 1, 2, 3, 4]
    assert flat[:5] != flat[5:]
    assert Order(5, seed=1).step(3, 1, 2) == [[each] for each in flat[6:8]]


@pytest.mark.parametrize(
    "wrong",
    [{"method": "full"}, {"lora_rank": 0}, {"learning_rate": 0.0}, {"validation": 1.0}, {"save_seconds": 1}],
)
def test_an_option_out_of_range_is_named(options: TuneOptions, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadValueError, match=next(iter(wrong))):
        TuneJob(replace(options, **wrong))


def test_defaults_fit_the_size_of_model_and_data() -> None:
    options = TuneOptions(data=("x",), out="y")
    assert options.rate_for(4096) == 0.02
    assert options.rate_for(256) == pytest.approx(0.08)
    assert replace(options, method="lora").rate_for(256) == pytest.approx(0.0048)
    assert replace(options, learning_rate=0.3).rate_for(256) == 0.3
    assert options.rows_of_a_step(6_000_000_000) == (1, 16)
    assert options.rows_of_a_step(7_000_000) == (8, 1)
    assert replace(options, method="lora").targets_for(7_000_000) == ("all",)
    assert replace(options, batch=4).rows_of_a_step(6_000_000_000) == (4, 4)
    assert replace(options, batch=4).rows_of_a_step(1) == (4, 2)
    assert (options.dropout_for(6_000_000_000), options.dropout_for(7_000_000)) == (0.1, 0.0)
    assert options.steps_for(200, 16, 6_000_000_000) == 200
    assert options.steps_for(200, 8, 7_000_000) == 600
    assert replace(options, method="lora").targets_for(6_000_000_000) == ()
    assert (options.checkpoints(6_000_000_000), options.checkpoints(7_000_000)) == (True, False)
    assert options.steps_for(114_599, 16, 6_000_000_000) == round(3 * 114_599 / 16)

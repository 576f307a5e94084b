"""``glmtui tune`` and ``glmtui merge`` as programs use them: lines of JSON, exit codes, Ctrl+C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted_run import ESTIMATE
from tiny_model import write_tiny_model

from glmtui.cli.main import main
from glmtui.models.lora import Shape, new_lora, save_lora
from glmtui.protocol.cancellation import CancelToken
from glmtui.training.checkpoints import last_checkpoint
from glmtui.training.job import TuneJob
from glmtui.training.progress import Began, Event


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "rows.json"
    rows = [{"prompt": f"load {number}", "response": f"model {number}"} for number in range(12)]
    file.write_text(json.dumps([*rows, {"prompt": "no answer"}]))
    return file


def arguments(model: Path | None, data: Path, *more: str) -> list[str]:
    chosen = ["--model", str(model)] if model else []
    return ["tune", *chosen, "--data", str(data), "--device", "cpu", "--threads", "1", *more]


SMALL = ("--pre-seq-len", "4", "--samples", "1", "--accumulate", "2")


@pytest.mark.slow
def test_every_logged_step_is_an_object(
    model: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("glmtui.engine.bench.READ_AT_LEAST", 1 << 20)
    out = tmp_path / "with a space"
    options = ("--out", str(out), "--steps", "4", "--log-steps", "2", "--learning-rate", "0.1", "--json")
    assert main(arguments(model, data, *SMALL, *options)) == 0
    printed, said = capsys.readouterr()
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [sorted(line) for line in lines] == [["loss", "lr", "step", "tokens_per_s"]] * 2
    assert [line["step"] for line in lines] == [2, 4]
    assert [line["lr"] for line in lines] == pytest.approx([0.075, 0.025])
    assert "1 row is skipped" in said
    last = said.splitlines()[-1]
    assert shlex.split(last, posix=os.name != "nt")[-2:] == ["--ptuning", str(out)]
    for method in ("ptuning", "lora"):
        again = tmp_path / method
        quick = ("--out", str(again), "--steps", "1", "--method", method, "--quant", "4")
        assert main(arguments(model, data, *SMALL, *quick)) == 0
        assert (
            main(
                [
                    "bench",
                    "--model",
                    str(model),
                    f"--{method}",
                    str(again),
                    "--generate",
                    "1",
                    "--prompt",
                    "4",
                    "--repeat",
                    "1",
                    "--device",
                    "cpu",
                ]
            )
            == 0
        )


def test_only_looking_trains_nothing(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(model, data, "--check", "--lora-rank", "4", "--pre-seq-len", "4")) == 0
    printed, said = capsys.readouterr()
    assert "--lora-rank" in said, "which P-tuning has no use for"
    assert "--pre-seq-len" not in said
    assert "12 rows to learn from" in printed
    assert "Nothing is cut." in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.json"]


def test_what_is_found_can_be_had_as_json(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(model, data, "--check", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], len(found["lengths"]), found["tokens"]) == (12, 12, sum(found["lengths"]))
    assert [each["origin"] for each in found["skipped"]] == ["rows.json:13"]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ((), 2, "--out DIR"),
        (("--out", "x", "--lora-rank", "0"), 2, "0"),
        (("--out", "x", "--validation", "3"), 2, "validation"),
        (("--out", "x", "--method", "full"), 2, "full"),
        (("--out", "x", "--method", "lora", "--lora-targets", "lm_head"), 1, "query_key_value"),
        (("--out", "x", "--resume"), 1, "no checkpoint"),
        (("--out", "", "--steps", "1"), 1, "empty"),
        (("--out", "x", "--lora", "y"), 2, "--start-from"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    model: Path,
    data: Path,
    more: tuple[str, ...],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data.parent)
    assert main(arguments(model, data, *more)) == code
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send")
def test_ctrl_c_keeps_what_was_learned_and_the_run_goes_on(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given: list[Any] = arguments(model, data, *SMALL, "--out", str(out), "--log-steps", "1", "--json")
    command = [sys.executable, "-m", "glmtui", *given]
    environment = {**os.environ, "GLMTUI_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        [*command, "--steps", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        rest, _said = process.communicate(timeout=60)
    assert process.returncode == 130
    last = json.loads([json.dumps(first), *rest.splitlines()][-1])
    found = last_checkpoint(out)
    assert found is not None
    assert found.name == f"checkpoint-{last['step']}"
    assert (out / "pytorch_model.bin").exists()


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_exit_code_tells_what_ended_it(
    name: str, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(signal, name)

    def run(_job: TuneJob, take: Callable[[Event], None], token: CancelToken) -> None:
        take(Began(ESTIMATE, rows=1, validation_rows=0, first_step=0, steps=1))
        signal.raise_signal(number)
        token.check()

    monkeypatch.setattr(TuneJob, "run", run)
    assert main(arguments(model, data, "--out", "out")) == 128 + number


def test_a_lora_is_merged(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import glmtui

    lora = tmp_path / "lora"
    lora.mkdir()
    network = glmtui.load(model, device="cpu").network
    save_lora(new_lora(network, Shape(2, 4.0)), lora, Shape(2, 4.0), 0.0, "tiny")
    target = tmp_path / "merged"
    assert main(["merge", str(model), str(target), "--lora", str(lora)]) == 0
    ids = [20, 21, 22]
    assert (
        glmtui.load(target, device="cpu").logits(ids) == glmtui.load(model, device="cpu").logits(ids)
    ).all()
    assert main(["merge", str(model), str(target), "--lora", str(lora)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_built_in_model_is_merged_and_quantised_by_its_name(tmp_path: Path) -> None:
    import glmtui

    lora, merged, small = tmp_path / "lora", tmp_path / "merged", tmp_path / "small"
    lora.mkdir()
    products = new_lora(glmtui.load(device="cpu").network, Shape(2, 4.0))
    for _name, product in products.named():
        product.b.data.normal_(0, 0.05)
    save_lora(products, lora, Shape(2, 4.0), 0.0, "nano")
    assert main(["merge", "nano", str(merged), "--lora", str(lora)]) == 0
    ids = [20, 21, 22, 5, 7]
    found = glmtui.load(merged, device="cpu", dtype="float32").logits(ids)
    torch.testing.assert_close(
        found, glmtui.load(lora=lora, device="cpu", dtype="float32").logits(ids), rtol=0.02, atol=0.05
    )
    assert main(["quantize", str(merged), str(small), "--quant", "8"]) == 0
    assert glmtui.load(small, device="cpu").info.quant == "8"

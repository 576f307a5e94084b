"""Nothing that a file holds or a person wrote steers the terminal of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import HOSTILE, SHORT, steering, write_home

from glmtui.cli import doctor
from glmtui.cli import main as cli
from glmtui.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIGS = [GOLDEN / "chatglm2-int4" / "config.json", GOLDEN / "chatglm-ptuning" / "config.json"]
REFUSED = ("model_type", "quantization_bit", "torch_dtype")
"""Fields of which an error quotes the value."""
ARGUMENT = HOSTILE.replace("\0", "")
"""No argument can hold a NUL."""
Run = Callable[..., str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("GLMTUI_KERNELS", "torch")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str, code: int | None = None) -> str:
        """Run a command, look at what it wrote, and return that."""
        ended = cli.main(list(arguments))
        assert code is None or ended == code
        written = "".join(capsys.readouterr())
        assert steering(written) == []
        return written

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        [ARGUMENT],
        ["--quant", ARGUMENT],
        ["--threads", ARGUMENT],
        ["--theme", ARGUMENT, "--plain", ARGUMENT],
        ["ask", "--top-p", ARGUMENT],
        ["ask", "hi", "--file", ARGUMENT],
        ["ask", "hi", "--model", ARGUMENT],
        ["ask", "hi", "--model", f"{ARGUMENT}/{ARGUMENT}"],
        ["ask", "hi", "--revision", ARGUMENT],
        ["ask", "hi", "--ptuning", ARGUMENT],
        ["ask", "hi", "--gpus", ARGUMENT],
        ["ask", "hi", "--conversation", f"/dev/null/{ARGUMENT}"],
        ["models", "remove", ARGUMENT],
        ["models", "check", ARGUMENT],
        ["models", "add", ARGUMENT],
        ["models", "download", ARGUMENT],
        ["quantize", ARGUMENT, "x"],
        ["bench", "--prompt", ARGUMENT],
        ["bench", "--random-weights", ARGUMENT],
        ["completion", ARGUMENT],
    ],
    ids=lambda arguments: " ".join(arguments).replace(ARGUMENT, "X"),
)
def test_arguments(arguments: list[str], run: Run) -> None:
    written = run(*arguments, "--no-stdin") if arguments[0] == "ask" else run(*arguments)
    assert written
    told_first = 2 if arguments[0] == "bench" else int("--conversation" in arguments)
    if "usage:" not in written:
        assert 1 <= written.count("\n") <= 1 + told_first


def test_every_field_of_a_models_files(run: Run, tmp_path: Path) -> None:
    """Listed, and refused, each in its turn; as JSON what they hold is there."""
    shelf = tmp_path / SHORT.replace("/", "")
    for config in CONFIGS:
        fields = json.loads(config.read_text())
        for field in fields:
            folder = shelf / f"{config.parent.name} {field}"
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps({**fields, field: HOSTILE}))
            (folder / "pytorch_model.bin").write_bytes(b"")
            if field in REFUSED:
                run("ask", "hi", "--no-stdin", "--model", str(folder), code=1)
    shards = shelf / SHORT
    shards.mkdir()
    (shards / "config.json").write_text(CONFIGS[0].read_text())
    (shards / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {HOSTILE: HOSTILE}}))
    assert run("ask", "hi", "--no-stdin", "--model", str(shards), code=1).count("\n") == 1
    assert run("models", "add", str(shelf), code=0).count("\n") == 1
    assert run("models", code=0)
    assert json.loads(run("models", "--json", code=0))


def test_what_is_in_a_home(run: Run, home: Path) -> None:
    file = write_home(home)
    run("doctor", "--model", ARGUMENT)
    json.loads(run("doctor", "--json"))
    run("quantize", "--cache")
    run("ask", "hi", "--no-stdin", "--model", "/none", "--conversation", str(file), code=1)


@pytest.mark.faults
@pytest.mark.parametrize("error", [UserError, ValueError, OSError, RuntimeError])
def test_every_error_line(error: type[Exception], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as what a chat template raises."""

    def fail(_args: object) -> int:
        raise error(HOSTILE)

    monkeypatch.setattr(doctor, "run", fail)
    assert run("doctor", code=1).count("\n") == 1

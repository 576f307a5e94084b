"""``glmtui models`` as a shell sees it, with a hub on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from golden_data import GOLDEN
from hub_server import HubServer

from glmtui import i18n
from glmtui.cli import models
from glmtui.errors import UserError
from glmtui.hub import client as hub
from glmtui.hub import inventory
from glmtui.session.model_lines import model_lines

MODEL = GOLDEN / "chatglm2-int4"


@pytest.fixture
def address() -> Iterator[str]:
    with HubServer.of_folder("chatglm2-6b-int4", MODEL).running() as address:
        yield address


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def glmtui(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glmtui", *arguments],
        input="",
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        check=False,
        env={**os.environ, **variables},
    )


def test_downloading_listing_and_removing(address: str) -> None:
    done = glmtui("models", "download", "chatglm2-6b-int4", HF_ENDPOINT=address)
    assert (done.returncode, done.stderr) == (0, "")
    path = Path(done.stdout.rstrip().removeprefix("chatglm2-6b-int4 is here: "))
    assert (path / "pytorch_model.bin").read_bytes() == (MODEL / "pytorch_model.bin").read_bytes()

    again = glmtui("models", "download", "zai-org/chatglm2-6b-int4", HF_ENDPOINT=address)
    assert (again.returncode, "is here already" in again.stdout) == (0, True)

    listed = json.loads(glmtui("models", "--json").stdout)
    entry = next(entry for entry in listed["entries"] if entry["source"] == "chatglm2-6b-int4")
    assert (entry["place"], entry["path"], entry["quant"]) == ("hub", str(path), "4")

    checked = glmtui("models", "check", "chatglm2-6b-int4")
    assert (checked.returncode, checked.stdout) == (0, "chatglm2-6b-int4 is complete and undamaged.\n")
    nobody = glmtui("models", "remove", "chatglm2-6b-int4")
    assert (nobody.returncode, "--yes" in nobody.stderr) == (1, True)
    assert path.exists()
    removed = glmtui("models", "remove", "chatglm2-6b-int4", "--yes")
    assert (removed.returncode, "were freed" in removed.stdout) == (0, True)
    assert not path.exists()


def test_a_downloaded_model_is_quantised_by_its_name(tmp_path: Path) -> None:
    with HubServer.of_folder("chatglm-6b", GOLDEN / "chatglm-fp16-sharded").running() as address:
        assert glmtui("models", "download", "chatglm-6b", HF_ENDPOINT=address).returncode == 0
    target = tmp_path / "small"
    done = glmtui(
        "quantize", "zai-org/chatglm-6b", str(target), "--quant", "4",
        GLMTUI_KERNELS="torch",  # compiling them has tests of its own
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    config = json.loads((target / "config.json").read_text())
    assert config["quantization_bit"] == 4
    assert sum(file.stat().st_size for file in target.glob("*.safetensors")) > 0


def test_a_proxy_is_used(address: str) -> None:
    proxied = {
        "HF_ENDPOINT": "http://hub.invalid",
        "HTTP_PROXY": address,
        "http_proxy": address,
        "NO_PROXY": "",
    }
    done = glmtui("models", "download", "chatglm2-6b-int4", **proxied)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_interrupting_a_download_keeps_what_came(tmp_path: Path) -> None:
    server = HubServer.of_folder("chatglm2-6b-int4", MODEL)
    server.hold_after = 1000
    with server.running() as address:
        program = subprocess.Popen(
            [sys.executable, "-m", "glmtui", "models", "download", "chatglm2-6b-int4"],
            env={**os.environ, "HF_ENDPOINT": address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell that starts the tests in the background lets them, and so this program, ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert server.held.wait(30)
        deadline = time.monotonic() + 30
        while not list(tmp_path.rglob("*.incomplete")) and time.monotonic() < deadline:
            pass
        program.send_signal(signal.SIGINT)
        output, error = program.communicate(timeout=60)
    assert (program.returncode, output, error) == (-signal.SIGINT, b"", b"")
    assert list(tmp_path.rglob("*.incomplete"))


def test_asking_a_model_that_is_not_here_says_how_to_get_it() -> None:
    done = glmtui("ask", "hi", "--model", "chatglm2-6b-int4")
    assert done.returncode == 1
    assert "glmtui models download chatglm2-6b-int4" in done.stderr
    assert done.stderr.count("\n") == 1


def test_offline_says_so_and_how_to_go_on() -> None:
    done = glmtui("models", "download", "chatglm2-6b-int4", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "HF_HUB_OFFLINE" in done.stderr
    assert "--model FOLDER" in done.stderr


def test_no_network_says_so_and_how_to_go_on() -> None:
    done = glmtui("models", "download", "chatglm2-6b-int4", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "No connection to http://127.0.0.1:9" in done.stderr
    assert "HF_ENDPOINT=https://hf-mirror.com" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_list_is_made_without_torch_and_without_the_network() -> None:
    code = (
        "import sys; from glmtui.cli import main as cli; cli.main(['models']); "
        "print({'torch', 'huggingface_hub', 'httpx2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, imported = done.stdout.splitlines()
    assert imported == "set()"
    text = "\n".join(lines)
    for word in ("nano", "chatglm-6b-int4", "13.4 GB", "4 bits", "On this machine", "free for research"):
        assert word in text


def test_a_folder_is_added_shown_and_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from glmtui.cli import main as cli

    folder = Path(shutil.copytree(MODEL, tmp_path / "mine" / "tuned"))
    assert cli.main(["models", "add", str(tmp_path / "mine")]) == 0
    assert cli.main(["models"]) == 0
    assert "  tuned " in capsys.readouterr().out
    (folder / "pytorch_model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\n")
    assert cli.main(["models"]) == 0
    assert "Git-LFS pointer" in capsys.readouterr().out
    assert cli.main(["models", "remove", str(folder)]) == 0
    assert "its files stay" in capsys.readouterr().out
    assert (folder / "config.json").exists()
    assert cli.main(["models", "remove", str(folder)]) == 1


@pytest.mark.parametrize(
    ("content", "word"), [(None, "no config.json"), ('{"model_type": "llama"}', "llama")]
)
def test_what_is_no_model_is_not_added(tmp_path: Path, content: str | None, word: str) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    if content:
        (folder / "config.json").write_text(content)
    with pytest.raises(UserError, match=word):
        inventory.add_folder(folder)
    assert inventory.added_folders() == []


def test_a_person_at_a_terminal_is_asked(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(hub, "list_files", partial(hub.list_files, endpoint=address))
    monkeypatch.setattr(models, "confirmed", lambda question: bool(asked.append(question)))
    with pytest.raises(UserError, match="glmtui models download"):
        models.resolve("chatglm2-6b-int4")
    assert f"of zai-org/chatglm2-6b-int4 from {address}" in asked[0]
    assert "free for research" in asked[0]
    monkeypatch.setattr(models, "confirmed", lambda _question: True)
    assert models.resolve("chatglm2-6b-int4").quant == "4"


def test_a_revision_is_pinned_by_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    from glmtui.cli import main as cli

    assert cli.main(["ask", "hi", "--model", "chatglm2-6b", "--revision", "v1.0"]) == 1
    assert "glmtui models download chatglm2-6b@v1.0" in capsys.readouterr().err
    assert cli.main(["ask", "hi", "--revision", "v1.0"]) == 2


@pytest.mark.parametrize("language", ["en", "zh_CN"])
def test_the_list_fits_a_terminal_of_eighty_columns(language: str) -> None:
    from rich.cells import cell_len

    from glmtui.engine import model_jobs

    i18n.use(language)
    try:
        found = model_jobs.list_models("cpu")
        wide, narrow = model_lines(found), model_lines(found, 80)
        table = [line for line in narrow if line.startswith(("  ", "★ ")) and ("GB" in line or "MB" in line)]
    finally:
        i18n.use("en")
    assert len(table) == len(found.entries)
    assert max(map(cell_len, table)) <= 80 < max(map(cell_len, wide[:3]))

"""`glmtui serve` and `glmtui web` as a shell, a supervisor and curl see them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import webbrowser
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from glmtui.cli import main as cli
from glmtui.cli import serve
from glmtui.errors import UserError
from glmtui.server.options import ServerOptions, listen
from glmtui.server.process import ProgramFor

SECONDS = 60.0


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


class Program:
    """``glmtui serve --port 0`` with the built-in model."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "glmtui", "serve", "--port", "0", "--threads", "1", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        assert self.process.stdout
        self.line = self.process.stdout.readline()
        self.url = self.line.strip().removeprefix("listening on ")

    def end(self, number: int) -> float:
        """Send a signal; return how long it took to end."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(SECONDS)
        return time.monotonic() - began


@pytest.fixture
def program() -> Iterator[Program]:
    program = Program()
    yield program
    program.process.kill()
    program.process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM for one process")
def test_it_says_where_it_listens_answers_and_ends_on_a_signal(program: Program) -> None:
    assert program.line.startswith("listening on http://127.0.0.1:")
    with httpx2.Client(base_url=program.url, trust_env=False, timeout=SECONDS) as client:
        assert client.get("/health").json() == {"status": "ok"}
        seed = client.post("/", json={"prompt": "你好", "history": []}).json()
        assert seed["history"] == [["你好", seed["response"]]]
        body = {"messages": [{"role": "user", "content": "你好"}], "temperature": 0}
        answer = client.post("/v1/chat/completions", json=body).json()
        assert "glmtui" in answer["choices"][0]["message"]["content"]
        assert answer["choices"][0]["finish_reason"] == "stop"
        long = {**body, "messages": [{"role": "user", "content": "词 " * 3000}]}
        assert client.post("/v1/chat/completions", json=long).json()["error"]["code"] == (
            "context_length_exceeded"
        )
        body |= {"stream": True, "temperature": 1.5, "top_k": 0, "top_p": 1, "messages": body["messages"]}
        with client.stream("POST", "/v1/completions", json={**body, "prompt": "一"}) as response:
            lines = response.iter_lines()
            assert next(lines).startswith("data: {")
            assert program.end(signal.SIGTERM) < 5, "2 s where the machine has nothing else to do"
            told = "\n".join(lines)
    assert '"shutting_down"' in told or "[DONE]" in told
    assert program.process.returncode == 0
    output, errors = program.process.communicate()
    assert output == ""
    assert "POST / 200" in errors
    assert "Traceback" not in errors
    assert "你好" not in errors


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--host", "0.0.0.0"], 2, "--api-key-file"),
        (["--port", "70000"], 2, "65535"),
        (["--allow-origin", "*"], 2, "*"),
        (["--allow-host", "http://x"], 2, "http://x"),
        (["--model", "/no/such/folder"], 1, "/no/such/folder"),
        (["--api-key-file", "/no/such/file"], 1, "/no/such/file"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(
    options: list[str], code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", *options]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert word in told.err
    assert told.err.count("\n") == 1


def test_a_model_that_cannot_be_loaded_ends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "chatglm", "architectures": ["ChatGLMModel"]}')
    assert cli.main(["serve", "--port", "0", "--model", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("glmtui: ")


def test_options_become_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_text("k\n")
    key.chmod(0o644)
    line = f"serve --host ::1 --port 9 --api-key-file {key} --slots 2 --queue 3 --rate 4 --timeout 5"
    args = cli.build_parser().parse_args([*line.split(), "--allow-host", "a", "--allow-origin", "https://b"])
    options = serve.read_options(args)
    assert (options.host, options.port, options.keys) == ("::1", 9, ("k",))
    assert (options.names, options.origins) == ({"a"}, {"https://b"})
    limits = options.limits
    assert (limits.slots, limits.queue, limits.requests_per_minute, limits.request_seconds) == (2, 3, 4, 5)
    assert os.name != "posix" or "chmod 600" in capsys.readouterr().err, "others could read the key"
    key.chmod(0o600)
    serve.read_options(args)
    assert capsys.readouterr().err == ""


def test_the_page_is_opened_on_the_usual_port_or_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    ports: list[int] = []

    def run(args: Namespace, on_ready: serve.OnReady) -> int:
        ports.append(args.port)
        server = Namespace(url=f"http://127.0.0.1:{args.port}")
        on_ready(server, ServerOptions(keys=("a/b",)))  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr(serve, "serve", run)
    with listen("127.0.0.1", 0) as taken:
        monkeypatch.setattr(serve, "PORT", taken.getsockname()[1])
        assert cli.main(["web"]) == 0
    assert cli.main(["web"]) == 0
    assert cli.main(["web", "--port", "9"]) == 0
    assert ports == [0, serve.PORT, 9]
    assert opened[-1] == "http://127.0.0.1:9/#key=a%2Fb"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no ptys")
def test_the_app_in_the_browser_always_wants_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    keys: list[str] = []

    def run(_args: Namespace, on_ready: serve.OnReady, *, options: ServerOptions, program: ProgramFor) -> int:
        keys.append(options.keys[0])
        info = Namespace(name="nano")
        app = program("http://127.0.0.1:9", info)  # type: ignore[arg-type]
        assert app.arguments[-2:] == ("--model", "http://127.0.0.1:9/v1#nano")
        assert app.environment["GLMTUI_API_KEY"] == keys[-1]
        assert "TMUX" not in app.environment
        on_ready(Namespace(url="http://127.0.0.1:9"), options)  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr(serve, "serve", run)
    monkeypatch.setenv("TMUX", "x")
    for _ in range(2):
        assert cli.main(["web", "--tui", "--port", "9"]) == 0
        assert f"http://127.0.0.1:9/terminal#key={keys[-1]}" in capsys.readouterr().err
    assert len(keys[0]) > 20
    assert keys[0] != keys[1], "it is made anew for every run"
    file = tmp_path / "key"
    file.write_text("own\n")
    assert cli.main(["web", "--tui", "--port", "9", "--api-key-file", str(file)]) == 0
    assert keys[-1] == "own"
    told = capsys.readouterr().err
    assert "http://127.0.0.1:9/terminal" in told
    assert "own" not in told


@pytest.mark.slow
def test_a_library_needs_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--library"]) == 2
    assert "--api-key-file" in capsys.readouterr().err
    keys = tmp_path / "keys"
    keys.write_text("secret")
    program = Program("--library", "--api-key-file", str(keys))
    try:
        listed = httpx2.get(f"{program.url}/conversations", headers={"Authorization": "Bearer secret"})
        assert listed.json() == {"kept": True, "conversations": []}
        assert httpx2.get(f"{program.url}/conversations").status_code == 401
        assert program.end(signal.SIGTERM) < 2
    finally:
        program.process.kill()
        program.process.communicate()


def test_the_key_file_is_read_before_anything_is_loaded(tmp_path: Path) -> None:
    args = cli.build_parser().parse_args(["serve", "--api-key-file", str(tmp_path)])
    with pytest.raises(UserError):
        serve.read_options(args)
    assert not os.listdir(tmp_path)

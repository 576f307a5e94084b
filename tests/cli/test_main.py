"""The command line as a shell sees it: output, errors, exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from glmtui import i18n, load_tokenizer
from glmtui.cli import ask, doctor
from glmtui.cli import main as cli
from glmtui.cli.options import given_settings
from glmtui.cli.subcommands import SUBCOMMANDS
from glmtui.errors import UsageError, UserError
from glmtui.protocol.messages import Text
from glmtui.version import __version__

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLMTUI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    return tmp_path / "home"


def glmtui(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the program with an empty standard input."""
    return subprocess.run(
        [sys.executable, "-m", "glmtui", *arguments],
        **{
            "input": "",
            "capture_output": True,
            "text": True,
            "encoding": "utf-8",
            "timeout": 60,
            "check": False,
            **options,
        },
    )


def test_help_lists_options_and_commands() -> None:
    done = glmtui("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in (
        "--model",
        "--device",
        "--quant",
        "--conversation",
        "--language",
        "--theme",
        "--ptuning",
        "ask",
        "doctor",
    ):
        assert word in done.stdout


@pytest.mark.parametrize("command", list(SUBCOMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert command in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file without room: /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["completion", "bash"]])
def test_output_without_room_is_one_clear_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        child = subprocess.run(
            [sys.executable, "-m", "glmtui", *arguments], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert (child.returncode, child.stderr.count(b"\n")) == (1, 1), child.stderr


def test_version() -> None:
    assert glmtui("--version").stdout.strip() == f"glmtui {__version__}"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ask"], 2, "no question"),
        (["ask", "hi", "--top-p", "3"], 2, "from 0 to 1"),
        (["ask", "hi", "--max-tokens", "0"], 2, "from 1"),
        (["--quant", "5"], 2, "--quant"),
        (["nonsense"], 2, "nonsense"),
        (["ask", "hi", "--model", "/no/such/folder"], 1, "/no/such/folder"),
        (["ask", "hi", "--model", str(GOLDEN / "chatglm-fp16-sharded")], 1, "ice_text.model"),
        (["ask", "hi", "--file", "/no/such/file.txt"], 1, "/no/such/file.txt"),
        ([], 1, "terminal"),
    ],
)
def test_exit_codes_and_one_clear_line(arguments: list[str], code: int, words: str) -> None:
    done = glmtui(*arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("glmtui: ")


@pytest.mark.faults
def test_unexpected_errors_are_one_line_and_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    def break_down(_args: object) -> int:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(doctor, "run", break_down)
    assert cli.main(["doctor"]) == 1
    log = home / "state" / "glmtui.log"
    assert str(log) in capsys.readouterr().err
    assert "break_down" in log.read_text()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("text", "named"), [("[model\n", "config.toml"), ('[generation]\ntemperature = "x"\n', "temperature")]
)
def test_what_is_wrong_in_the_settings_is_named(
    text: str, named: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text(text)
    assert cli.main(["docs", "list"]) == 0
    assert named in capsys.readouterr().err


def test_interrupt_and_usage_errors_have_their_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_args: object) -> int:
        raise KeyboardInterrupt

    def misuse(_args: object) -> int:
        raise UsageError("so not")

    monkeypatch.setattr(doctor, "run", interrupt)
    assert cli.main(["doctor"]) == 130
    monkeypatch.setattr(doctor, "run", misuse)
    assert cli.main(["doctor"]) == 2


def test_language_comes_from_the_option_or_the_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(i18n, "use", lambda language="auto": asked.append(language) or language)
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('[ui]\nlanguage = "zh_CN"\n')
    for arguments in (["doctor"], ["--language", "en", "doctor"], ["--language=en", "doctor"]):
        monkeypatch.setattr(doctor, "run", lambda _args: 0)
        cli.main(arguments)
    assert asked == ["zh_CN", "en", "en"]


def test_model_options_may_stand_before_and_after_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(doctor, "run", lambda args: seen.append(given_settings(args)) or 0)
    cli.main(["--model", "m", "doctor", "--threads", "2"])
    cli.main(["doctor", "--model", "m", "--threads", "2"])
    assert seen == [{"model.source": "m", "model.threads": 2}] * 2


def test_doctor_reports(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLMTUI_KERNELS", "torch")  # compiling them has tests of its own
    model = str(GOLDEN / "chatglm-fp16-sharded")
    done = glmtui("doctor", "--json", "--model", model)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [device["device"] for device in report["devices"]] == ["cuda", "mps", "cpu"]
    assert all(device["reason"] for device in report["devices"])
    assert report["use"]["model"] == model
    assert report["use"]["dtype"] == "float32"
    assert report["memory"]["free"] <= report["memory"]["total"]
    assert report["paths"]["config"].startswith(str(home))
    assert report["kernels"]["implementation"] == "torch"
    assert "GLMTUI_KERNELS" in report["kernels"]["reason"]
    assert not home.exists()
    assert cli.main(["doctor", "--model", "/no/such/folder"]) == 1
    text = capsys.readouterr().out
    assert "/no/such/folder" in text
    assert report["cpu"]["name"] in text


# --- ask, with a model that says letters until a limit ends it ---


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny", max_length=100_000))


def test_ask_prints_the_answer_and_nothing_else(
    tiny: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", tiny, "--threads", "1", "--seed", "1", "--max-tokens", "20")
    plain = glmtui("ask", "你好", *options)
    assert plain.returncode == 0, plain.stderr
    assert len(plain.stdout.strip()) >= 10
    assert plain.stdout.endswith("\n")
    assert "20" in plain.stderr  # that the limit ended it
    assert cli.main(["ask", "你好", "--json", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["answer"] == plain.stdout.rstrip("\n")
    assert (report["reason"], report["answer_tokens"], report["model"]) == ("length", 20, "tiny")
    assert cli.main(["ask", "你好", "--no-save", *options]) == 0
    assert len(list((home / "data" / "conversations").iterdir())) == 2


def test_ask_goes_on_with_the_last_conversation_or_the_one_in_a_file(
    tiny: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(question: str, *arguments: str) -> dict[str, object]:
        options = ("--json", "--model", tiny, "--threads", "1", "--seed", "1", "--max-tokens", "3")
        assert cli.main(["ask", question, *options, *arguments]) == 0
        report: dict[str, object] = json.loads(capsys.readouterr().out)
        return report

    def questions(file: Path) -> list[str]:
        return [message.text for message in Conversation.open(file).branch() if message.role == "user"]

    from glmtui.chat.conversation import Conversation

    assert cli.main(["ask", "load", "--continue", "--model", tiny]) == 1
    assert "no conversation to continue" in capsys.readouterr().err
    first = answer("你好")
    second = answer("load", "--continue")
    assert second["prompt_tokens"] > first["prompt_tokens"]  # type: ignore[operator]
    (saved,) = (home / "data" / "conversations").iterdir()
    assert questions(saved) == ["你好", "load"]
    file = tmp_path / "谈话.jsonl"
    answer("文件", "--conversation", str(file))
    answer("a", "--conversation", str(file))
    assert questions(file) == ["文件", "a"]
    conversation = Conversation.open(file)
    conversation.append("user", (conversation.attachments.attach("notes.txt", "笔记"), Text("read")))
    before = sorted(tmp_path.rglob("*"))
    answer("not kept", "--conversation", str(file), "--no-save")
    assert sorted(tmp_path.rglob("*")) == before
    assert questions(file) == ["文件", "a", "read"]
    assert questions(saved) == ["你好", "load"]


def test_ask_reads_words_files_and_the_pipe(tmp_path: Path) -> None:
    file, pipe = tmp_path / "file.txt", tmp_path / "pipe"
    file.write_text("文件\n", encoding="utf-8-sig")
    pipe.write_text("管道\n", encoding="utf-8")
    with pipe.open() as piped, open(os.devnull) as nothing:
        assert ask.read_question(["load", "a", "model"], [], nothing) == "load a model"
        assert ask.read_question(["load"], [str(file)], piped) == "load\n\n文件\n\n管道"
    with pipe.open() as piped:
        assert ask.read_question(["load"], [f"file://{file}"], None) == "load\n\n文件"
    with pipe.open() as piped:
        assert ask.read_question([], [], piped) == "管道"
    file.write_bytes(b"\x7fELF\x00\x01")
    with open(os.devnull) as nothing, pytest.raises(UserError, match=r"file\.txt is not a text file"):
        ask.read_question([], [str(file)], nothing)


def test_ask_answers_what_is_piped_in(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipe").write_text("你好\n", encoding="utf-8")
    with (tmp_path / "pipe").open(encoding="utf-8") as piped:
        monkeypatch.setattr("sys.stdin", piped)
        assert cli.main(["ask", "--model", tiny, "--threads", "1", "--json", "--max-tokens", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["prompt_tokens"] == len(load_tokenizer(tiny).encode("你好"))


def test_ask_takes_model_sampling_and_system_prompt_from_the_settings(
    tiny: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text(
        f"[model]\nsource = {json.dumps(tiny)}\nthreads = 1\n"
        '[generation]\nmax_new_tokens = 3\nseed = 1\nsystem_prompt = "你好"\n',
        encoding="utf-8",
    )

    def answer(*arguments: str) -> dict[str, object]:
        assert cli.main(["ask", "load", "--json", *arguments]) == 0
        report: dict[str, object] = json.loads(capsys.readouterr().out)
        return report

    tokens = load_tokenizer(tiny)
    report = answer()
    assert report["answer_tokens"] == 3
    assert report["prompt_tokens"] == len(tokens.encode("你好\nload"))
    assert answer()["answer"] == report["answer"]
    report = answer("--max-tokens", "2", "--system", "文件")
    assert report["answer_tokens"] == 2
    assert report["prompt_tokens"] == len(tokens.encode("文件\nload"))


def start_endless(tiny: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "glmtui", "ask", "hi", "--model", tiny, "--max-length", "90000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_keeps_what_came_and_exits_130(tiny: str) -> None:
    with start_endless(tiny) as process:
        assert process.stdout is not None
        first = process.stdout.read(3)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == b""
    assert (first + rest).decode().strip().isalpha()


def test_a_reader_that_leaves_is_no_error(tiny: str) -> None:
    with start_endless(tiny) as process:
        assert process.stdout is not None
        process.stdout.read(3)
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read()
        process.wait(timeout=30)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("terminal", [True, False])
def test_ask_keeps_thought_and_answer_apart(terminal: bool) -> None:
    from glmtui.models.chat_formats.thoughts import ThoughtStream
    from glmtui.plain.printer import AnswerWriter

    answer, thoughts = io.StringIO(), io.StringIO()
    thoughts.isatty = lambda: terminal  # type: ignore[method-assign]
    writer = AnswerWriter(answer, thoughts)
    stream = ThoughtStream()
    for text in ("<th", "ink>\nwell\x1b[2J", "…\n</think>", "\n\nHel", "lo"):
        for piece in stream.push(text):
            writer.append(piece.text, thought=piece.thought)
    for piece in stream.finish(complete=True):
        writer.append(piece.text, thought=piece.thought)
    writer.finish()
    assert answer.getvalue() == "Hello\n"
    dim = re.sub("\x1b\\[2?2m", "", thoughts.getvalue())
    assert dim == ("well…\n\n" if terminal else "")


def test_ask_tells_of_no_share_of_a_load_before_there_is_one(home: Path) -> None:
    from glmtui.plain.ask import Asking
    from glmtui.session.events import SessionState, StateChanged
    from glmtui.settings.settings import Settings

    shown = io.StringIO()
    shown.isatty = lambda: True  # type: ignore[method-assign]
    asking = Asking(Settings(home / "config.toml"), io.StringIO(), shown, streaming=True)
    for done, total in ((0, 0), (1, 4)):
        asking._on_event(StateChanged(SessionState("loading", done=done, total=total)))
    lines = shown.getvalue().split("\r\x1b[K")
    assert lines == ["", "Preparing the model …", "Loading the model … 25 %"]

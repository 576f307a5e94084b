"""Completion of the command line, tried in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pexpect", reason="pseudo-terminals need pexpect, which Windows does not have")

from terminal import Terminal

from glmtui import i18n
from glmtui.cli import completion
from glmtui.cli import main as cli
from glmtui.cli.subcommands import SUBCOMMANDS, parsers

ENV = {"LC_ALL": "C.UTF-8", "TERM": "xterm"}


@pytest.fixture
def scripts(tmp_path: Path) -> dict[str, Path]:
    """The script of every shell, in a file."""
    paths = {}
    for shell in completion.SHELLS:
        paths[shell] = tmp_path / f"completion.{shell}"
        script = completion.script(cli.build_parser(), shell, ["nano", "chatglm-6b"])
        paths[shell].write_text(script, encoding="utf-8")
    (tmp_path / "notes 笔记.txt").touch()
    return paths


@pytest.fixture
def in_english() -> Iterator[None]:
    i18n.use("en")
    yield
    i18n.use("en")


CASES = [
    ("glmtui as", "ask"),
    ("glmtui --quant no", "none"),
    ("glmtui --device=cud", "cuda"),
    ("glmtui --quant 4 do", "doctor"),
    ("glmtui --theme mid", "midnight"),
    ("glmtui ask --contin", "--continue"),
    ("glmtui ask --model chat", "chatglm-6b"),
    ("glmtui models down", "download"),
    ("glmtui models download chat", "chatglm-6b"),
    ("glmtui completion fi", "fish"),
    ("glmtui --conversation not", "notes"),
    ("glmtui --conversation=not", "notes"),
    ("glmtui --model not", "notes"),
    ("glmtui ask --model=chat", "chatglm-6b"),
    ("glmtui bench --json --random-weights chat", "chatglm-6b"),
    ("glmtui --quant 4 models --js", "--json"),
    ("glmtui quantize not", "notes"),
]


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_bash_offers(scripts: dict[str, Path], line: str, expected: str) -> None:
    words = line.replace("=", " = ").split(" ")
    script = (
        f"source {scripts['bash']}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _glmtui; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=scripts["bash"].parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert any(offer.startswith(expected) for offer in done.stdout.splitlines()), done.stdout + done.stderr


@pytest.mark.parametrize(("line", "expected"), CASES)
@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_fish_offers(scripts: dict[str, Path], line: str, expected: str) -> None:
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {scripts['fish']}; complete -C '{line}'"],
        cwd=scripts["fish"].parent, env={**os.environ, "HOME": str(scripts["fish"].parent)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert expected in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes_in_a_terminal(scripts: dict[str, Path], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    command = ["bash", "--norc", "--noprofile"] if shell == "bash" else ["zsh", "-f"]
    terminal = Terminal(command, env={**ENV, "PS1": "ready> "}, cwd=str(scripts[shell].parent))
    try:
        terminal.wait("ready>")
        terminal.type("autoload -Uz compinit && compinit -u -D; " if shell == "zsh" else "")
        terminal.type(f'eval "$(cat ./completion.{shell})"; clear; echo loaded\r')
        terminal.wait(lambda text: text.strip().startswith("loaded"))
        terminal.type("glmtui a\t--conti\t--quant n\t")
        terminal.wait("glmtui ask --continue --quant none")
        terminal.type("--file not\t")
        terminal.wait("notes\\ 笔记.txt")
        terminal.type("\x15glmtui mod\tdown\tchat\t")
        terminal.wait("glmtui models download chatglm-6b")
        terminal.type("\x15glmtui --device=cud\t--conversation=not\t")
        terminal.wait("glmtui --device=cuda --conversation=notes\\ 笔记.txt")
    finally:
        terminal.close()


def test_the_script_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "complete -F _glmtui glmtui" in script
    assert "chatglm-6b" in script


def test_every_option_of_every_command_is_in_every_script(scripts: dict[str, Path]) -> None:
    texts = {shell: path.read_text("utf-8") for shell, path in scripts.items()}
    every = (action for each in parsers(cli.build_parser()) for action in each._actions)
    names = {name for action in every for name in action.option_strings}
    assert {"--model", "--language", "--random-weights", "-y"} <= names
    for name in names:
        for shell, text in texts.items():
            assert (name.lstrip("-") if shell == "fish" else name) in text


def test_the_help_of_options_is_in_the_interfaces_language(in_english: None) -> None:
    i18n.use("zh_CN")
    for shell in ("zsh", "fish"):
        assert "界面语言" in completion.script(cli.build_parser(), shell, [])


# --- argparse's own words ---


ARGUMENT = "参数 --file：" if sys.version_info >= (3, 11) else "--file"
"""Before, argparse asks for no translation of it."""


def test_usage_and_errors_speak_the_interfaces_language(
    capsys: pytest.CaptureFixture[str], in_english: None
) -> None:
    for arguments, words in {
        ("--language", "zh_CN", "--help"): ("用法：", "选项", "显示此帮助并退出"),
        ("--language", "zh_CN", "--nonsense"): ("错误：", "无法识别的参数：--nonsense"),
        ("--language", "zh_CN", "ask", "--file"): (ARGUMENT, "需要一个值"),
        ("--language", "zh_CN", "--quant", "5"): ("无效的选择", "none"),
        ("--language", "zh_CN", "completion"): ("缺少必需的参数：",),
        ("--language", "en", "--nonsense"): ("usage: glmtui", "unrecognized arguments: --nonsense"),
    }.items():
        assert cli.main(list(arguments)) == (0 if "--help" in arguments else 2)
        said = "".join(capsys.readouterr())
        for word in words:
            assert word in said


def test_no_english_is_left_in_the_chinese_usage(
    capsys: pytest.CaptureFixture[str], in_english: None
) -> None:
    for command in ("", *SUBCOMMANDS):
        assert cli.main(["--language", "zh_CN", *filter(None, [command]), "--help"]) == 0
        said = capsys.readouterr().out
        for word in ("usage", "options:", "positional", "show th", "optional"):
            assert word not in said

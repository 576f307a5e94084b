"""``glmtui completion``: a script for a shell's completion, made from the parser by shtab."""

from __future__ import annotations

import re
from argparse import Action, ArgumentParser, Namespace
from pathlib import Path

from glmtui import streams
from glmtui.cli.subcommands import parsers
from glmtui.i18n import _
from glmtui.paths import themes_dir

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "DIR", "SRC", "DST", "PATH")

_FISH_FILES = "(__fish_complete_path (commandline -ct | string replace -r '^--[^=]*=' ''))"
_BASH_EQUALS = """
# bash splits --option=value into three words, which shtab does not expect.
_glmtui() {
    local -a line
    local i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == "=" && $i -lt $COMP_CWORD ]] || line+=("${COMP_WORDS[i]#=}")
    done
    COMP_WORDS=("${line[@]}")
    COMP_CWORD=$((${#line[@]} - 1))
    _shtab_glmtui
}
complete -F _glmtui glmtui
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _("Print a script that lets your shell complete commands, options and their values.")
    parser.epilog = _(
        'bash: put eval "$(glmtui completion bash)" into ~/.bashrc; zsh: the same with zsh into ~/.zshrc'
        ", after compinit; fish: glmtui completion fish > ~/.config/fish/completions/glmtui.fish"
    )
    parser.add_argument("shell", choices=SHELLS, help=_("the shell to write for"))


def run(args: Namespace) -> int:
    from glmtui.cli import main as cli
    from glmtui.hub import catalog

    models = ["nano", *(model.name for model in catalog.KNOWN)]
    streams.output().write(script(cli.build_parser(), args.shell, models))
    return 0


def script(parser: ArgumentParser, shell: str, models: list[str]) -> str:
    """Return the script for `shell`; `models` are the names offered where a model is expected."""
    import shtab

    for action in (action for each in parsers(parser) for action in each._actions):
        action.dest = action.dest.rpartition(".")[2]
        vars(action).update(_completer(action, models))
    text = shtab.complete(parser, shell)
    if shell == "bash":
        return f"{text}\n{_BASH_EQUALS}"
    if shell == "zsh":
        # shtab lets a value follow its option only as the next word, not after =
        text = re.sub(r'^(  "\*?--[\w-]+)(?=\[.*\]:)', r"\1=", text, flags=re.MULTILINE)
        # and zsh inserts no option where the description of a free argument competes with it
        return re.sub(r'^  "(?!\*?-).*:"\n', "", text, flags=re.MULTILINE)
    return text


def _completer(action: Action, models: list[str]) -> dict[str, object]:
    """Return what shtab looks for in an action whose values argparse itself does not know."""
    words, files = [], action.type is Path or action.metavar in _FILES
    if action.dest == "theme":
        words = sorted(file.stem for file in themes_dir().glob("*.toml"))
    elif action.dest == "source" or action.metavar in ("NAME", _("NAME")):
        words, files = models, files or action.dest == "source"
    if action.choices is not None or not (words or files):
        return {}
    name, offered = f"_glmtui_{action.dest}{'_file' if files else ''}", " ".join(words)
    bash = f'compgen -W "{offered}" -- "$1"' + ('; compgen -f -- "$1"' if files else "")
    by_shell = {
        "bash": name,
        "zsh": f"{{compadd {offered}; _files}}" if words and files else f"({offered})" if words else "_files",
        "fish": f"{offered} {_FISH_FILES}" if files else offered,
        "preamble": {"bash": f"{name}() {{ {bash}; }}"},
    }
    return {"complete": by_shell}

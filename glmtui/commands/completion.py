"""``glmtui completion``: a script for a shell's completion of the command line, made from the parser."""

from __future__ import annotations

import argparse
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui.i18n import _
from glmtui.paths import themes_dir

if TYPE_CHECKING:
    from glmtui.commands import Subparsers

NAME = "completion"
SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "DIR", "SRC", "DST", "PATH")
_MODELS = ("model", "source")


def add_parser(subparsers: Subparsers) -> None:
    """Describe the arguments of ``completion``."""
    parser: ArgumentParser = subparsers.add_parser(
        NAME,
        help=_("print a script for your shell's completion"),
        description=_("Print a script that lets your shell complete commands, options and their values."),
        epilog=_(
            'bash: put eval "$(glmtui completion bash)" into ~/.bashrc; zsh: the same with zsh into ~/.zshrc'
            ", after compinit; fish: glmtui completion fish > ~/.config/fish/completions/glmtui.fish"
        ),
    )
    parser.add_argument("shell", choices=SHELLS, help=_("the shell to write for"))


def run(args: Namespace) -> int:
    """Print the script."""
    from glmtui import cli

    levels = list(describe(cli.build_parser(), short_names()))
    write = {"bash": bash, "zsh": zsh, "fish": fish}[args.shell]
    sys.stdout.write(write(levels))
    return 0


def short_names() -> list[str]:
    """Return what models may be called."""
    from glmtui.models import catalog

    return ["nano", *(model.name for model in catalog.KNOWN)]


@dataclass(frozen=True, slots=True)
class Value:
    """What an option or an argument takes."""

    words: tuple[str, ...] = ()
    files: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """One option."""

    names: tuple[str, ...]
    help: str
    value: Value | None
    """None: it stands alone."""


@dataclass(slots=True)
class Level:
    """What may stand behind a command."""

    at: str
    """The command, as ``models download``; empty before any."""
    options: list[Option] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    """Subcommands with their help."""
    argument: Value = Value()
    """What its positional arguments may be."""


def describe(parser: ArgumentParser, models: list[str], at: str = "") -> Iterator[Level]:
    """Yield what `parser` and all below it take; `models` are the names offered where a model is wanted."""
    level, below = Level(at), {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            level.commands = {name: helps.get(name, "") for name in action.choices}
            below = dict(action.choices)
        elif action.option_strings:
            value = None if action.nargs == 0 else _value(action, models)
            level.options.append(Option(tuple(action.option_strings), action.help or "", value))
        else:
            one = _value(action, models)
            level.argument = Value(level.argument.words + one.words, level.argument.files or one.files)
    yield level
    for name, each in below.items():
        yield from describe(each, models, f"{at} {name}".strip())


def _value(action: argparse.Action, models: list[str]) -> Value:
    if action.choices is not None:
        return Value(tuple(map(str, action.choices)))
    if action.dest == "theme":
        return Value(tuple(sorted(file.stem for file in themes_dir().glob("*.toml"))))
    if action.dest in _MODELS or action.metavar == _("NAME"):
        return Value(tuple(models), files=action.dest in _MODELS)
    return Value(files=action.type is Path or action.metavar in _FILES)


def _takers(level: Level) -> list[str]:
    return [name for option in level.options if option.value for name in option.names]


# --- bash (3.2 and later, without bash-completion) ---

_BASH = """\
# glmtui's completion for bash: eval "$(glmtui completion bash)"
_glmtui() {
    local word at= prev= skip= cur= i words= options= files=
    local -a line
    COMPREPLY=()
    for ((i = 1; i <= COMP_CWORD; i++)); do  # bash splits at the = of --option=value
        [[ ${COMP_WORDS[i]} == "=" && $i -lt $COMP_CWORD ]] || line+=("${COMP_WORDS[i]#=}")
    done
    cur=${line[${#line[@]}-1]}
    unset "line[${#line[@]}-1]"
    for word in "${line[@]}"; do
        prev=$word
        if [[ $skip ]]; then skip=; continue; fi
        case "$at|$word" in
@STEPS@
        esac
    done
    if [[ $skip ]]; then
        case "$at|$prev" in
@VALUES@
        esac
    else
        case "$at" in
@LEVELS@
        esac
        [[ $cur == -* ]] && words=$options files=
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ $files ]]; then
        local IFS=$'\\n'
        COMPREPLY+=($(compgen -f -- "$cur"))
        compopt -o filenames 2>/dev/null
    fi
}
complete -F _glmtui glmtui
"""


def bash(levels: list[Level]) -> str:
    """Return the script for bash."""
    values, places = [], []
    for level in levels:
        for option in level.options:
            if option.value:
                patterns = "|".join(f'"{level.at}|{name}"' for name in option.names)
                values.append(f"{patterns}) {_bash_value(option.value)} ;;")
        names = " ".join(name for option in level.options for name in option.names)
        words = Value((*level.commands, *level.argument.words), level.argument.files)
        places.append(f'"{level.at}") {_bash_value(words)} options="{names}" ;;')
    return _fill(_BASH, STEPS=_steps(levels, '"{}"', ";;"), VALUES=values, LEVELS=places)


def _bash_value(value: Value) -> str:
    return f'words="{" ".join(value.words)}" files={"1" if value.files else ""}'


def _steps(levels: list[Level], quoted: str, end: str) -> list[str]:
    """Return the branches that follow the words of a line from command to command and skip values."""
    lines = []
    for level in levels:
        if takers := _takers(level):
            lines.append("|".join(quoted.format(f"{level.at}|{name}") for name in takers) + f") skip=1 {end}")
        for name in level.commands:
            below = f"{level.at} {name}".strip()
            lines.append(f'{quoted.format(f"{level.at}|{name}")}) at="{below}" {end}')
    return lines


# --- zsh ---

_ZSH = """\
#compdef glmtui
# glmtui's completion for zsh: eval "$(glmtui completion zsh)", after compinit
_glmtui() {
    local word at= prev= skip= files=
    local -a offers options
    for word in "${(@)words[2,CURRENT-1]}"; do
        prev=$word
        if [[ -n $skip ]]; then skip=; continue; fi
        case "$at|$word" in
@STEPS@
        esac
    done
    if [[ -z $skip && $PREFIX == --*=* ]]; then
        prev=${PREFIX%%=*} skip=1
        compset -P '*='
    fi
    if [[ -n $skip ]]; then
        case "$at|$prev" in
@VALUES@
        esac
    else
        case "$at" in
@LEVELS@
        esac
        [[ $PREFIX == -* ]] && offers=("${options[@]}") files=
    fi
    (( $#offers )) && _describe 'glmtui' offers
    [[ -n $files ]] && _files
}
compdef _glmtui glmtui
"""


def zsh(levels: list[Level]) -> str:
    """Return the script for zsh."""
    values, places = [], []
    for level in levels:
        for option in level.options:
            if option.value:
                patterns = "|".join(f'"{level.at}|{name}"' for name in option.names)
                values.append(f"{patterns}) {_zsh_value(_pairs(option.value))} ;;")
        pairs = [*level.commands.items(), *((word, "") for word in level.argument.words)]
        options = [(name, option.help) for option in level.options for name in option.names]
        places.append(
            f'"{level.at}") {_zsh_value((pairs, level.argument.files))} options=({_zsh_offers(options)}) ;;'
        )
    return _fill(_ZSH, STEPS=_steps(levels, '"{}"', ";;"), VALUES=values, LEVELS=places)


def _pairs(value: Value) -> tuple[list[tuple[str, str]], bool]:
    return [(word, "") for word in value.words], value.files


def _zsh_value(value: tuple[list[tuple[str, str]], bool]) -> str:
    pairs, files = value
    return f"offers=({_zsh_offers(pairs)}) files={'1' if files else ''}"


def _zsh_offers(pairs: list[tuple[str, str]]) -> str:
    return " ".join(
        shlex.quote(name.replace(":", "\\:") + (f":{_one_line(text)}" if text else ""))
        for name, text in pairs
    )


# --- fish ---

_FISH = """\
# glmtui's completion for fish: glmtui completion fish > ~/.config/fish/completions/glmtui.fish
function __glmtui_at
    set -l at ''
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch "$at|$word"
@STEPS@
        end
    end
    test "$at" = "$argv[1]"
end
complete -c glmtui -f
@LEVELS@
"""


def fish(levels: list[Level]) -> str:
    """Return the script for fish."""
    steps, lines = [], []
    for level in levels:
        if takers := _takers(level):
            names = " ".join(f"'{level.at}|{name}'" for name in takers)
            steps.append(f"case {names}\n    set skip 1")
        for name in level.commands:
            below = f"{level.at} {name}".strip()
            steps.append(f"case '{level.at}|{name}'\n    set at '{below}'")
        begin = f"complete -c glmtui -n \"__glmtui_at '{level.at}'\""
        for name, text in level.commands.items():
            lines.append(f"{begin} -a {name} -d {_fish_quoted(text)}")
        if level.argument.words:
            lines.append(f"{begin} -a {_fish_quoted(' '.join(level.argument.words))}")
        if level.argument.files:
            lines.append(f"{begin} -F")
        for option in level.options:
            flags = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
            )
            if option.value:
                flags += " -r -F" if option.value.files else " -x"
                if option.value.words:
                    flags += f" -a {_fish_quoted(' '.join(option.value.words))}"
            lines.append(f"{begin} {flags} -d {_fish_quoted(option.help)}")
    return _fill(_FISH, STEPS="\n".join(steps).split("\n"), LEVELS=lines)


def _fish_quoted(text: str) -> str:
    return "'" + _one_line(text).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _one_line(text: str) -> str:
    return " ".join(text.replace("%%", "%").split())


def _fill(script: str, **parts: list[str]) -> str:
    """Put lines into the places of a script."""
    for name, lines in parts.items():
        script = script.replace(f"@{name}@", "\n".join(lines))
    return script

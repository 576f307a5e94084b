"""``glmtui completion``: a script for a shell's completion of the command line, made from the parser."""

from __future__ import annotations

import argparse
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from glmtui.i18n import _
from glmtui.paths import themes_dir

if TYPE_CHECKING:
    from glmtui.cli.subcommands import Subparsers

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
    from glmtui.cli import main as cli

    levels = list(describe(cli.build_parser(), short_names()))
    write = {"bash": bash, "zsh": zsh, "fish": fish}[args.shell]
    sys.stdout.write(write(levels))
    return 0


def short_names() -> list[str]:
    """Return what models may be called."""
    from glmtui.hub import catalog

    return ["nano", *(model.name for model in catalog.KNOWN)]


Pairs = list[tuple[str, str]]
"""What is offered, and its help."""


class Value(NamedTuple):
    """What an option or an argument takes."""

    words: tuple[str, ...] = ()
    files: bool = False


NOTHING = Value()


class Option(NamedTuple):
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
    argument: Value = NOTHING
    """What its positional arguments may be."""

    def below(self, name: str) -> str:
        """Return where the subcommand `name` leads."""
        return f"{self.at} {name}".strip()


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
        yield from describe(each, models, level.below(name))


def _value(action: argparse.Action, models: list[str]) -> Value:
    if action.choices is not None:
        return Value(tuple(map(str, action.choices)))
    if action.dest == "theme":
        return Value(tuple(sorted(file.stem for file in themes_dir().glob("*.toml"))))
    if action.dest in _MODELS or action.metavar == _("NAME"):
        return Value(tuple(models), files=action.dest in _MODELS)
    return Value(files=action.type is Path or action.metavar in _FILES)


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

    def names(pairs: Pairs) -> str:
        return '"' + " ".join(name for name, _help in pairs) + '"'

    return _with_cases(
        _BASH, levels, lambda pairs: f"words={names(pairs)}", lambda pairs: f"options={names(pairs)}"
    )


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

    def described(pairs: Pairs) -> str:
        parts = (name.replace(":", "\\:") + (f":{_one_line(text)}" if text else "") for name, text in pairs)
        return "(" + " ".join(map(shlex.quote, parts)) + ")"

    return _with_cases(
        _ZSH, levels, lambda pairs: f"offers={described(pairs)}", lambda pairs: f"options={described(pairs)}"
    )


# --- what bash and zsh have in common ---


def _with_cases(
    script: str, levels: list[Level], words: Callable[[Pairs], str], options: Callable[[Pairs], str]
) -> str:
    """Fill a script with the branches of its ``case`` commands.

    `words` and `options` write, for the shell, what is offered: words, and the names of options.
    """
    steps, values, places = [], [], []
    for level in levels:
        taking = [option for option in level.options if option.value]
        if taking:
            steps.append(f"{_patterns(level, *taking)}) skip=1 ;;")
        steps += [f'"{level.at}|{name}") at="{level.below(name)}" ;;' for name in level.commands]
        for option in taking:
            value = option.value or Value()
            offered = words([(word, "") for word in value.words])
            values.append(f"{_patterns(level, option)}) {offered} {_files(value)} ;;")
        pairs = [*level.commands.items(), *((word, "") for word in level.argument.words)]
        names = [(name, option.help) for option in level.options for name in option.names]
        places.append(f'"{level.at}") {words(pairs)} {_files(level.argument)} {options(names)} ;;')
    return _fill(script, STEPS=steps, VALUES=values, LEVELS=places)


def _patterns(level: Level, *options: Option) -> str:
    return "|".join(f'"{level.at}|{name}"' for option in options for name in option.names)


def _files(value: Value) -> str:
    return f"files={'1' if value.files else ''}"


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
        if takers := [name for option in level.options if option.value for name in option.names]:
            names = " ".join(f"'{level.at}|{name}'" for name in takers)
            steps.append(f"case {names}\n    set skip 1")
        steps += [f"case '{level.at}|{name}'\n    set at '{level.below(name)}'" for name in level.commands]
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

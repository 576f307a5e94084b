"""Every slash command in one table: completion, the palette, ``/help`` and the README come from it.

A line that begins with one slash and a word is a command; ``//`` at the beginning sends a line that begins
with a slash. A few bare words (``clear``, ``stop``) are commands too, but only as the whole input.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from glmtui.i18n import N_, _, listing, sentences
from glmtui.session.slash import completers as complete
from glmtui.session.slash import handlers as do

if TYPE_CHECKING:
    from glmtui.session.slash.completers import Completer
    from glmtui.session.ui import Front, Handler

_LINE = re.compile(r"/(?!/)([^\s/]*)(?:\s+(.*))?\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `handler` gets the program and what was written after the name."""

    name: str
    handler: Handler
    help: str
    """One line, an English msgid."""
    argument: str = ""
    """What may follow, an English msgid; in square brackets when it may be left out."""
    aliases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Bare words that are this command when they are the whole input."""
    completer: Completer | None = None
    """What the argument could be."""
    shown: bool = field(default=True)
    """In the palette."""

    @property
    def needs_argument(self) -> bool:
        """Whether it does nothing useful without an argument."""
        return bool(self.argument) and not self.argument.startswith("[")

    @property
    def usage(self) -> str:
        """``/quant 4|8|none``, in the interface's language."""
        return f"/{self.name} {_(self.argument)}".rstrip() if self.argument else f"/{self.name}"


COMMANDS: tuple[Command, ...] = (
    Command("help", do.show_help, N_("What can be typed here"), N_("[COMMAND]"), ("h", "?"),
            completer=complete.commands),
    Command("new", do.new, N_("Begin a new conversation"), aliases=("n",)),
    Command("clear", do.new, N_("Clear the screen: begin anew; the old conversation stays in the history"),
            words=("clear",), shown=False),
    Command("stop", do.stop, N_("Stop the answer and keep what came"), words=("stop",)),
    Command("regenerate", do.regenerate, N_("Answer the last message again; the old answer stays too"),
            aliases=("retry", "r")),
    Command("continue", do.continue_answer, N_("Go on with an answer that was stopped or cut")),
    Command("edit", do.edit, N_("Change your last message and send it again; the old one stays too")),
    Command("queue", do.queue, N_("The messages that wait for their turn: change, send or cancel them"),
            N_("[send|edit NUMBER|cancel NUMBER]"), completer=complete.choices("send", "edit", "cancel")),
    Command("undo", do.undo, N_("Bring back what was deleted last")),
    Command("copy", do.copy, N_("Copy the last answer, or its last block of code"), N_("[code]"),
            completer=complete.choices("code")),
    Command("model", do.model, N_("Change the model: a folder, a name on Hugging Face, or nano (built in)"),
            N_("[MODEL]"), completer=complete.models),
    Command("models", do.models, N_("The models there are, here and to download, and what fits")),
    Command("device", do.device, N_("Change where the model runs"), "auto|cuda|mps|cpu",
            completer=complete.setting("model.device")),
    Command("gpus", do.gpus, N_("Spread the model over several GPUs, or no longer"), N_("NUMBER|FILE|auto"),
            completer=complete.choices("auto", "2", "3", "4", "8")),
    Command("quant", do.quant, N_("Change the bits per weight: fewer need less memory"), "4|8|none",
            completer=complete.choices("4", "8", "none")),
    Command("ptuning", do.ptuning, N_("Put a P-tuning v2 checkpoint on top of the model, or take it away"),
            N_("FOLDER|none"), completer=complete.prefixes),
    Command("threads", do.threads, N_("Change how many CPU threads the model uses"), N_("NUMBER|auto"),
            completer=complete.choices("auto")),
    Command("system", do.system,
            N_("Tell the model how to behave in this conversation, where it has a system prompt"),
            N_("[TEXT]")),
    Command("set", do.set_value, N_("Change any setting, for all conversations or only here"),
            N_("NAME VALUE|here NAME VALUE"), completer=complete.settings),
    Command("preset", do.preset,
            N_("Use a named set of values for answering, save the present ones, or choose"),
            N_("[NAME|save NAME|delete NAME]"), completer=complete.presets),
    Command("history", do.history, N_("Show or hide the conversations"), aliases=("chats",)),
    Command("search", do.search, N_("Search all conversations"), N_("[TEXT]"), aliases=("find",)),
    Command("settings", do.settings, N_("Show or hide the settings"), aliases=("config",)),
    Command("rename", do.rename, N_("Give this conversation a title"), N_("[TITLE]")),
    Command("pin", do.pin, N_("Keep this conversation at the top of the list, or no longer")),
    Command("delete", do.delete, N_("Move this conversation to the trash; /undo brings it back")),
    Command("trash", do.trash, N_("Show the deleted conversations, or bring one back"), N_("[NUMBER]")),
    Command("save", do.save, N_("Save a copy of this conversation"), N_("FILE"), completer=complete.files),
    Command("load", do.load, N_("Open a conversation from a file"), N_("FILE"), aliases=("open",),
            completer=complete.files),
    Command("export", do.export, N_("Write this conversation as Markdown, JSON, HTML or text"),
            N_("md|json|html|txt [FILE]"), completer=complete.choices("md", "json", "html", "txt")),
    Command("import", do.import_file, N_("Bring in conversations of other programs"), N_("FILE"),
            completer=complete.files),
    Command("theme", do.theme, N_("Change the colours"), N_("[NAME]"), completer=complete.themes),
    Command("language", do.language, N_("Change the language of the interface"), "auto|en|zh_CN",
            aliases=("lang",), completer=complete.setting("ui.language")),
    Command("keys", do.show_keys, N_("All keys, and to bind them elsewhere")),
    Command("stats", do.stats, N_("The model, its memory and speed, and this conversation")),
    Command("quit", do.leave, N_("Quit; everything is saved"), aliases=("exit", "q")),
)  # fmt: skip
BY_NAME: Mapping[str, Command] = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}
BY_WORD: Mapping[str, Command] = {word: command for command in COMMANDS for word in command.words}


@dataclass(frozen=True, slots=True)
class Line:
    """What a person typed, when it is a command."""

    name: str
    argument: str
    command: Command | None
    """None: there is no such command."""


def parse(text: str) -> Line | None:
    """Return the command in `text`, or None when it is a message for the model."""
    stripped = text.strip()
    if word := BY_WORD.get(stripped.lower()):
        return Line(word.name, "", word)
    if not (match := _LINE.fullmatch(stripped)):
        return None
    name, argument = match[1].lower(), (match[2] or "").strip()
    return Line(name, argument, BY_NAME.get(name))


def message(text: str) -> str:
    """Return what to send of a text that is no command: ``//x`` is ``/x``."""
    return text[1:] if text.startswith("//") else text


def nearest(name: str) -> list[str]:
    """Return the commands most like `name`, best first."""
    begins = [command.name for command in COMMANDS if name and command.name.startswith(name)]
    alike = (BY_NAME[near].name for near in difflib.get_close_matches(name, BY_NAME, n=3, cutoff=0.6))
    return list(dict.fromkeys([*begins, *alike]))[:3]


def unknown(name: str) -> str:
    """Say that there is no such command, and which are like it."""
    text = _("There is no command /{name}.").format(name=name)
    if near := nearest(name):
        names = listing(f"/{command}" for command in near)
        return sentences(text, _("Did you mean {names}?").format(names=names))
    return sentences(text, _("/help lists them all."))


def matching(prefix: str) -> Iterable[Command]:
    """Return the commands whose name or alias begins with `prefix`, then those that contain it."""
    prefix = prefix.lower()
    first = [c for c in COMMANDS if any(name.startswith(prefix) for name in (c.name, *c.aliases))]
    return [*first, *(c for c in COMMANDS if c not in first and prefix in c.name)]


def offers(front: Front, before: str) -> Iterable[tuple[str, str, str]]:
    """Return what a line that begins with `before` (and a slash) could become.

    Each as the line, what it does, and the part of the line that tells it from the others.
    """
    if not before.startswith("/"):
        return []
    name, space, typed = before[1:].partition(" ")
    if not space:
        return [(f"/{c.name}{' ' if c.argument else ''}", _(c.help), c.usage) for c in matching(name)]
    command = BY_NAME.get(name)
    if command is None or command.completer is None:
        return []
    return [
        (f"/{name} {offer.text}", offer.description, offer.text) for offer in command.completer(front, typed)
    ]


def markdown_table() -> str:
    """Return a Markdown table of all commands, in the interface's language."""
    rows = []
    for command in COMMANDS:
        others = [f"`/{alias}`" for alias in command.aliases] + [f"`{word}`" for word in command.words]
        usage = command.usage.replace("|", "\\|")
        rows.append(f"| `{usage}` | {_(command.help)} | {' '.join(others)} |")
    head = f"| {_('Command')} | {_('What it does')} | {_('Also')} |\n| --- | --- | --- |"
    return head + "\n" + "\n".join(rows)

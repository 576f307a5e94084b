"""What a slash command is, and how a line becomes one.

A line that begins with one slash and a word is a command; ``//`` before the word sends the line as a message
with one slash. Anything else that begins with a slash is a message (``/* … */``, a path, ``// a comment``),
and so is a text of several lines whose first word is no command. A few bare words (``clear``, ``stop``) are
commands too, but only where nothing else is typed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from glmtui.errors import UserError
from glmtui.i18n import _
from glmtui.protocol import phrases
from glmtui.protocol.phrases import Phrase

_LINE = re.compile(r"/([^\W\d][\w-]*)(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing that the argument of a command could be."""

    text: str
    description: str = ""


Handler: TypeAlias = Callable[[Any, str], Awaitable[None]]
"""What a command does: gets the `ChatSession` (not named here: it has the commands) and the argument."""
Completer: TypeAlias = Callable[[Any, str], Iterable[Offer]]
"""Given the session and what was typed of the argument, what the complete argument could become."""


@dataclass(frozen=True, slots=True)
class Command:
    """What can be typed behind a slash, and what does it; help, palette and completion are made from it."""

    name: str
    handler: Handler
    help: str
    """One line, an English msgid."""
    argument: str = ""
    """What may follow, an English msgid; in square brackets when it may be left out."""
    aliases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Bare words that are this command when nothing else is typed."""
    completer: Completer | None = None
    """What the argument could be."""
    shown: bool = True
    """In the palette."""
    new_name: bool = False
    """The argument names what is not there yet: what is like it is offered, and not taken unasked."""

    @property
    def needs_argument(self) -> bool:
        """Whether it does nothing useful without an argument."""
        return bool(self.argument) and not self.argument.startswith("[")

    @property
    def usage(self) -> str:
        """``/quant 4|8|none``, in the interface's language."""
        return f"/{self.name} {_(self.argument)}".rstrip() if self.argument else f"/{self.name}"


@dataclass(frozen=True, slots=True)
class Line:
    """What a person typed, when it is a command."""

    name: str
    argument: str
    command: Command | None
    """None: there is no such command."""


class CommandTable:
    """All commands; completion, the palette, ``/help`` and the README come from it."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self._commands = tuple(commands)
        self.by_name = {name: each for each in self._commands for name in (each.name, *each.aliases)}
        """Also by their other names."""
        self.by_word = {word: each for each in self._commands for word in each.words}

    def option(self, name: str, value: str) -> str:
        """Return what is to be typed here to set an option of the command line."""
        return f"/{name} {value}" if name in self.by_name else f"/set {name.replace('-', '_')} {value}"

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands)

    def parse(self, text: str) -> Line | None:
        """Return the command in `text`, or None when it is a message for the model."""
        stripped = text.strip()
        if word := self.by_word.get(stripped.lower()):
            return Line(word.name, "", word)
        match = _LINE.fullmatch(stripped)
        if match is None:
            return None
        line = self.line(match[1].lower(), (match[2] or "").strip())
        return None if line.command is None and "\n" in stripped else line

    def line(self, name: str, argument: str = "") -> Line:
        """Return the line that calls the command `name`."""
        return Line(name, argument, self.by_name.get(name))

    def message(self, text: str) -> str:
        """Return what to send of a text that is no command: ``//x`` is ``/x`` where that would be one."""
        return text[1:] if text.startswith("//") and self.parse(text[1:]) else text

    async def run(self, session: Any, line: Line) -> None:
        """Do what `line` says.

        Raises:
            UserError: there is no such command, it lacks an argument, or it did not work.
        """
        if line.command is None:
            raise UserError(self.unknown(line.name))
        if line.command.needs_argument and not line.argument:
            raise UserError(f"{line.command.usage}: {_(line.command.help)}")
        await line.command.handler(session, line.argument)

    def nearest(self, name: str) -> list[str]:
        """Return the commands most like `name`, best first."""
        begins = [each.name for each in self if name and each.name.startswith(name)]
        close = difflib.get_close_matches(name, self.by_name, n=3, cutoff=0.6)
        return list(dict.fromkeys([*begins, *(self.by_name[near].name for near in close)]))[:3]

    def unknown(self, name: str) -> Phrase:
        """Say that there is no such command, and which are like it."""
        text = phrases._("There is no command /{name}.").format(name=name)
        if near := self.nearest(name):
            names = phrases.listing(f"/{command}" for command in near)
            text = phrases.sentences(text, phrases._("Did you mean {names}?").format(names=names))
        else:
            text = phrases.sentences(text, phrases._("/help lists them all."))
        return phrases.sentences(text, phrases._("With // at the beginning it is sent as a message."))

    def matching(self, prefix: str) -> Sequence[Command]:
        """Return the commands whose name or alias begins with `prefix`, then those that contain it."""
        prefix = prefix.lower()
        first = [each for each in self if any(n.startswith(prefix) for n in (each.name, *each.aliases))]
        return [*first, *(each for each in self if each not in first and prefix in each.name)]

    def offers(self, session: Any, before: str) -> Iterable[tuple[str, str, str]]:
        """Return what a line that begins with `before` (and a slash) could become.

        Each as the line, what it does, and the part of the line in which it differs from the others.
        """
        if not before.startswith("/"):
            return []
        name, space, typed = before[1:].partition(" ")
        if not space:
            found = self.matching(name)
            return [(f"/{c.name}{' ' if c.argument else ''}", _(c.help), c.usage) for c in found]
        command = self.by_name.get(name)
        if command is None or command.completer is None:
            return []
        offers = command.completer(session, typed)
        return [(f"/{name} {offer.text}", offer.description, offer.text) for offer in offers]

    def takes_new_name(self, before: str) -> bool:
        """Whether a line that begins with `before` may name something new."""
        name, _space, typed = before[1:].partition(" ")
        command = self.by_name.get(name)
        return command is not None and command.new_name and bool(typed.strip())

    def markdown(self) -> str:
        """Return a Markdown table of all commands, in the interface's language."""
        rows = []
        for command in self:
            others = [f"`/{alias}`" for alias in command.aliases] + [f"`{word}`" for word in command.words]
            usage = command.usage.replace("|", "\\|")
            rows.append(f"| `{usage}` | {_(command.help)} | {' '.join(others)} |")
        head = f"| {_('Command')} | {_('What it does')} | {_('Also')} |\n| --- | --- | --- |"
        return head + "\n" + "\n".join(rows)

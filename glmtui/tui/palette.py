"""The command palette: commands that need nothing run, the others go to the composer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.markup import escape

from glmtui.i18n import _
from glmtui.session.slash.registry import COMMANDS
from glmtui.tui.bindings import interrupting

if TYPE_CHECKING:
    from collections.abc import Callable

    from glmtui.tui.session_app import SessionApp

OFFERED = 30
"""The most completions of one command that the palette lists."""


class Palette(CommandPalette):
    """Textual's, but for the key that stops and quits."""

    BINDINGS: ClassVar[list[BindingType]] = [*interrupting()]


class CommandProvider(Provider):
    """Every command, and every choice of those that take one of a few."""

    async def discover(self) -> Hits:
        for command in COMMANDS:
            if command.shown:
                yield DiscoveryHit(
                    Content(command.usage),  # a string would be taken for markup, as would the help
                    self._run(command.name, "", ask=command.needs_argument),
                    text=command.usage,
                    help=escape(_(command.help)),
                )

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for text, help_text, run in self._all():
            described = query.lower() in help_text.lower()  # letters scattered over a sentence say nothing
            score = max(matcher.match(text), 0.5 * described)
            if score > 0:
                head, bracket, rest = text.partition("[")  # `highlight` takes brackets for markup
                shown = Content.assemble(matcher.highlight(head), bracket + rest)
                yield Hit(score, shown, run, text=text, help=escape(help_text))

    def _all(self) -> Iterator[tuple[str, str, Callable[[], None]]]:
        app: SessionApp = self.app  # type: ignore[assignment]
        for command in COMMANDS:
            if not command.shown:
                continue
            yield command.usage, _(command.help), self._run(command.name, "", ask=command.needs_argument)
            if command.completer and command.name in ("theme", "quant", "device", "language", "preset"):
                for offer in list(command.completer(app.session, ""))[:OFFERED]:
                    text = f"/{command.name} {offer.text}".rstrip()
                    yield text, offer.description or _(command.help), self._run(command.name, offer.text)

    def _run(self, name: str, argument: str, *, ask: bool = False) -> Callable[[], None]:
        app: SessionApp = self.app  # type: ignore[assignment]
        if ask:
            return partial(app.session.ui.put_draft, f"/{name} ")
        return partial(app.run_command, name, argument)

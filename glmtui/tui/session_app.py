"""The app as its screens know it: a session, and the ways to say something to the person."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from glmtui.i18n import _, tell
from glmtui.tui.textual_patches.guard import GuardedApp

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel
    from textual.screen import Screen

    from glmtui.protocol.phrases import Sayable
    from glmtui.session.attached_file import AttachedFile
    from glmtui.session.chat_session import ChatSession
    from glmtui.session.events import Kind
    from glmtui.settings.settings import Settings
    from glmtui.tui.pictures.painter import Painter

T = TypeVar("T")
LONG_ANSWER_SECONDS = 8.0


class SessionApp(GuardedApp):
    """What a screen may use of the app around it."""

    settings: Settings
    painter: Painter
    """Draws pictures."""
    _toasts: Mapping[str, float] = MappingProxyType({})
    """The messages that are shown, and until when (`time.monotonic`)."""

    @property
    def session(self) -> ChatSession:
        raise NotImplementedError

    def do(self, work: Awaitable[None]) -> None:
        """Do something that may take a while or open a dialog; what a person can act on is shown to them."""
        self.run_worker(self._guarded(work), group="commands")

    async def _guarded(self, work: Awaitable[None]) -> None:
        with self.session.saying_errors():
            await work

    def submit(self, text: str, attached: tuple[AttachedFile, ...] = ()) -> None:
        self.run_worker(self.session.enter(text, attached), group="commands")

    def run_command(self, name: str, argument: str = "") -> None:
        self.do(self.session.run(name, argument))

    def say(self, text: Sayable, kind: Kind = "info", *, markdown: bool = False) -> None:
        """Say something short, for a moment."""
        self.notify(tell(text), severity="information" if kind == "info" else kind, markup=False)

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """Show a toast; while it is there the same again adds none."""
        now = time.monotonic()
        self._toasts = {text: end for text, end in self._toasts.items() if end > now}
        if message not in self._toasts:
            super().notify(message, title=title, severity=severity, timeout=timeout, markup=markup)
            until = now + (self.NOTIFICATION_TIMEOUT if timeout is None else timeout)
            self._toasts = {**self._toasts, message: until}

    async def ask(self, title: Sayable, value: str = "") -> str | None:
        from glmtui.tui.screens.prompt import PromptScreen

        return await self._result(PromptScreen(tell(title), value))

    async def choose(self, title: Sayable, choices: Sequence[Sayable]) -> int | None:
        from textual.content import Content

        from glmtui.tui.screens.choice import ChoiceScreen

        return await self._result(ChoiceScreen(tell(title), [Content(tell(choice)) for choice in choices]))

    async def _result(self, screen: Screen[T]) -> T | None:
        """Show a screen from whatever task; return what it is dismissed with. It goes when the task does."""
        result: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

        def dismissed(value: T | None) -> None:
            if not result.done():
                result.set_result(value)

        await self.push_screen(screen, dismissed)
        try:
            return await result
        except asyncio.CancelledError:
            if screen.is_current:
                screen.dismiss(None)
            raise

    def copy(self, text: str) -> None:
        """Copy to the clipboard: through the terminal at once, then by the platform's tool."""
        self.copy_to_clipboard(text)
        self.run_worker(self._copy_with_tool(text), group="clipboard", exclusive=True)

    async def _copy_with_tool(self, text: str) -> None:
        from glmtui.session import clipboard

        self.say(clipboard.said(await clipboard.copied_with_tool(text)))

    def call_back(self, seconds: float) -> None:
        """Make oneself heard after a long answer, if the person looks elsewhere."""
        if self.app_focus or seconds < LONG_ANSWER_SECONDS:
            return
        if self.settings["ui.notify"] == "bell":
            self.bell()
        elif self.settings["ui.notify"] == "system":
            from glmtui.tui.textual_patches.terminal import send

            send(self, "\x1b]9;" + _("glmtui: the answer is complete") + "\x07")

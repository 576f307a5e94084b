"""What an empty conversation shows: the name, the model, and what to type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from glmtui.i18n import N_, _
from glmtui.session.keys import shown
from glmtui.session.stats import model_title
from glmtui.tui.transcript.prose import Prose

if TYPE_CHECKING:
    from glmtui.session.events import SessionState
    from glmtui.tui.session_app import SessionApp

LOGO = """\
█▀▀▀ █    █▄ ▄█ ▀█▀ █  █ █
█ ▀█ █    █ ▀ █  █  █  █ █
▀▀▀▀ ▀▀▀▀ ▀   ▀  ▀  ▀▀▀▀ ▀"""
SUGGESTIONS = (
    "你好",
    N_("Who are you?"),
    N_("How do I load ChatGLM-6B?"),
    N_("How much memory does INT4 need?"),
)


class Suggestion(Widget, can_focus=True):
    """A message that is sent with Enter or a click."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter", "take", ""),
        ("down", "app.focus_next", ""),
        ("up", "app.focus_previous", ""),
    ]

    @dataclass
    class Taken(Message):
        """The person chose to send this."""

        text: str

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def render(self) -> Content:
        return Content.assemble(("›  ", "$text-accent"), self.text)

    def action_take(self) -> None:
        self.post_message(self.Taken(self.text))

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.action_take()


class Welcome(Vertical):
    """Stands where the transcript will be."""

    app: SessionApp

    def __init__(self) -> None:
        super().__init__(id="welcome")

    def compose(self) -> ComposeResult:
        with Vertical(id="welcome-body"):
            yield Static(LOGO, id="logo", markup=False)
            yield Static(_("Chat with ChatGLM on your own machine"), id="tagline", markup=False)
            yield Prose(id="welcome-model")
            for text in SUGGESTIONS:
                yield Suggestion(_(text))

    def show(self, status: SessionState) -> None:
        self.query_one("#welcome-model", Prose).update(self._model(status))

    def _model(self, status: SessionState) -> str:
        if status.activity in ("starting", "loading"):
            return _("The model is being loaded. You can write already.")
        if status.info is None:
            return _("No model is loaded. /model nano loads the small built-in one.")
        if status.info.builtin:
            return _(
                "{name} is a tiny demo model that comes with glmtui: it knows glmtui and small talk, in "
                "English and Chinese. {key} lists the real ones."
            ).format(name=model_title(status.info), key=shown("app.models", self.app.settings.keys))
        return _("{name} answers here.").format(name=model_title(status.info))

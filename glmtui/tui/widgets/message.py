"""What stands in the transcript: messages, answers being written, notices of the app's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from time import monotonic, thread_time
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.layout import Layout
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from glmtui.i18n import N_, _, ngettext
from glmtui.tui.text import clean, one_line
from glmtui.tui.widgets.entries import Entry
from glmtui.tui.widgets.markdown import ChatMarkdown
from glmtui.tui.widgets.stack import STACK

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message as ChatMessage

ROLES = {"user": N_("You"), "assistant": "ChatGLM", "system": N_("System")}
STATES = {
    "partial": N_("not finished"),
    "stopped": N_("stopped"),
    "failed": N_("failed"),
    "length": N_("cut off at the length limit"),
}
"""States that are said in words; a message that is ``done`` says nothing."""
QUANTS = {"8": "INT8", "4": "INT4"}
RATE = 10
"""How often a growing answer is drawn, a second. Each drawing costs about the same however much is new."""
SHARE = 1 / 6
"""Of a core that drawing a growing answer may take; where one costs more, it is drawn less often."""
SLOWEST = 0.4
"""Seconds between two drawings at the most."""


def show_time(time: datetime, now: datetime | None = None) -> str:
    """Return the local time of day, with the date where that is not today's."""
    local = time.astimezone()
    today = (now or datetime.now().astimezone()).astimezone()
    return f"{local:%H:%M}" if local.date() == today.date() else f"{local:%Y-%m-%d %H:%M}"


def figures(message: ChatMessage) -> list[str]:
    """Return what is known about how an answer was made: model, quantisation, tokens, speed."""
    meta = message.meta
    parts = [one_line(str(meta[key])) for key in ("model",) if meta.get(key)]
    if quant := QUANTS.get(str(meta.get("quant"))):
        parts.append(quant)
    tokens = meta.get("tokens")
    if isinstance(tokens, int) and not isinstance(tokens, bool):
        parts.append(ngettext("{count} token", "{count} tokens", tokens).format(count=tokens))
    speed = meta.get("tokens_per_second")
    if isinstance(speed, int | float) and speed > 0:
        parts.append(_("{speed} tok/s").format(speed=f"{speed:.1f}" if speed < 100 else f"{speed:.0f}"))
    return parts


class EntryView(Vertical):
    """Base of all that stands in the transcript. Only its own style follows its classes, not its parts'."""

    DEFAULT_CSS = """
    EntryView {
        layout: vertical;
        width: 1fr;
        height: auto;
        margin: 0 0 1 0;
        padding: 0 1;
        & > .head { height: 1; }
        & > .foot { color: $text-muted; }
        &:ansi > .foot { text-style: dim; }
    }
    """

    def __init__(self, entry: Entry, *, classes: str) -> None:
        super().__init__(classes=classes)
        self.entry = entry

    @property
    def layout(self) -> Layout:
        """Blocks one below the other."""
        return STACK

    def update_node_styles(self, animate: bool = True) -> None:
        """Style this widget alone: no rule makes what is inside depend on a class or state of it."""
        self.app.stylesheet.update_nodes([self], animate=animate)


class MessageView(EntryView):
    """A message: who and when, the text, how it was made."""

    DEFAULT_CSS = """
    MessageView {
        border-left: outer $primary;
        &.-assistant { border-left: outer $secondary 40%; }
        &.-system { border-left: outer $foreground 30%; }
        &.-selected { border-left: thick $accent; }
        & > .plain { width: 1fr; height: auto; }
        &:ansi { border-left: outer ansi_cyan; }
        &:ansi.-assistant { border-left: outer ansi_bright_black; }
        &:ansi.-system { border-left: outer ansi_bright_black; }
        &:ansi.-selected { border-left: thick ansi_yellow; }
    }
    """

    @dataclass
    class Clicked(Message):
        """The message was clicked on."""

        message_id: str

    def __init__(self, entry: Entry) -> None:
        assert entry.message is not None
        super().__init__(entry, classes=f"-{entry.message.role}")
        self.head = Static(markup=False, classes="head")
        self.foot = Static(markup=False, classes="foot")

    @property
    def message(self) -> ChatMessage:
        """The message as it is now."""
        assert self.entry.message is not None
        return self.entry.message

    def compose(self) -> ComposeResult:
        """Head, text, foot."""
        self.show_facts()
        yield self.head
        yield self.make_body()
        yield self.foot

    def make_body(self) -> Static | ChatMarkdown:
        """What people wrote is shown as they wrote it; answers are Markdown."""
        if self.message.role == "user":
            return Static(clean(self.message.text).rstrip(), markup=False, classes="plain")
        return ChatMarkdown(self.message.text)

    def on_click(self) -> None:
        """Tell the transcript."""
        self.post_message(self.Clicked(self.message.id))

    def show_facts(self) -> None:
        """Draw head and foot again."""
        message = self.message
        colour = {"user": "$text-primary", "assistant": "$text-secondary"}.get(message.role, "$text-muted")
        word = ROLES.get(message.role, message.role)
        version, count = self.entry.branch
        about = [show_time(message.time)]
        if count > 1:
            about.append(_("version {number} of {count}").format(number=version, count=count))
        self.head.update(
            Content.assemble((_(word), f"bold {colour}"), "  ", (" · ".join(about), "$text-muted"))
        )
        foot = self.footer()
        self.foot.update(foot)
        self.foot.display = bool(foot.plain)

    def footer(self) -> Content:
        """What is known about the message; a state that is not good in a colour, and always in words."""
        message = self.message
        parts = [Content(part) for part in figures(message)] if message.role == "assistant" else []
        if state := STATES.get(message.state):
            words = _(state)
            if message.state == "failed" and (error := message.meta.get("error")):
                words = f"{words}: {one_line(str(error))}"
            style = "$text-error" if message.state == "failed" else "$text-warning"
            parts.append(Content.styled(words, style))
        return Content(" · ").join(parts)


class AnswerView(MessageView):
    """An answer that is being written. `append` may be called as often as tokens come."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self.body = ChatMarkdown()
        self._waiting: list[str] = [entry.message.text] if entry.message and entry.message.text else []
        self._drawn = 0.0
        self._worked = 0.0
        self._timer: Timer | None = None
        self._finished = False

    def make_body(self) -> ChatMarkdown:
        """Starts empty."""
        return self.body

    def footer(self) -> Content:
        """Say that more is to come."""
        return super().footer() if self._finished else Content("…")

    def on_mount(self) -> None:
        """Draw what came before there was a widget."""
        self._schedule()

    def append(self, text: str) -> None:
        """Add streamed text; it is drawn within a tenth of a second, or when `SHARE` allows."""
        self._waiting.append(text)
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and self._waiting and self.is_running:
            delay = max(1 / RATE - (monotonic() - self._drawn), 0.001)
            self._timer = self.set_timer(delay, self._draw)

    async def _draw(self) -> None:
        cost = thread_time() - self._worked  # of the drawing before, its layout and its painting
        wait = min(cost / SHARE, SLOWEST) - (monotonic() - self._drawn)
        if self._worked and wait > 0.01:
            self._timer = self.set_timer(wait, self._draw)
            return
        self._timer, self._drawn, self._worked = None, monotonic(), thread_time()
        if text := self._take():
            await self.body.append(text)

    def _take(self) -> str:
        text = "".join(self._waiting)
        self._waiting.clear()
        self.entry.text += text
        return text

    async def finish(self, message: ChatMessage) -> None:
        """Show the answer as it is now kept: the same text, its state and its figures."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._finished = True
        self.entry.message = message
        self.entry.text = message.text
        self.entry.pinned = False
        if self.is_attached:
            if text := self._take():
                await self.body.append(text)
            await self.body.finish()
            if self.body.source != clean(message.text):
                await self.body.update(message.text)
            self.show_facts()
        self.entry.text = message.text


class Notice(EntryView):
    """A word of the app's own: never part of the conversation, never in the prompt."""

    DEFAULT_CSS = """
    Notice {
        border-left: outer $foreground 25%;
        & > .plain { width: 1fr; height: auto; color: $text-muted; }
        &.-warning { border-left: outer $warning; }
        &.-warning > .plain { color: $text-warning; }
        &.-error { border-left: outer $error; }
        &.-error > .plain { color: $text-error; }
        &:ansi { border-left: outer ansi_bright_black; }
        &:ansi.-warning { border-left: outer ansi_yellow; }
        &:ansi.-error { border-left: outer ansi_red; }
    }
    """

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry, classes=f"-{entry.kind}")

    def compose(self) -> ComposeResult:
        """The text, behind a word where it matters."""
        text = clean(self.entry.text).strip()
        if self.entry.kind == "markdown":
            yield ChatMarkdown(text)
            return
        word = {"warning": _("Note"), "error": _("Error")}.get(self.entry.kind)
        content = Content.assemble((f"{word}  ", "bold"), text) if word else Content(text)
        yield Static(content, markup=False, classes="plain")


def make_view(entry: Entry) -> EntryView:
    """Return the widget for an entry."""
    return Notice(entry) if entry.message is None else MessageView(entry)

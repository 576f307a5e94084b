"""What stands in the transcript: messages, answers being written, notices of the app's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic, thread_time
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import events
from textual.content import Content
from textual.message import Message
from textual.style import Style
from textual.timer import Timer

from glmtui import reasoning
from glmtui.i18n import N_, _, ngettext
from glmtui.text.clean import clean, one_line
from glmtui.tui.transcript.entries import Entry
from glmtui.tui.transcript.lines_view import LinesView, Palette
from glmtui.tui.transcript.typeset.blocks import Block, stack
from glmtui.tui.transcript.typeset.growing import GrowingMarkdown, whole
from glmtui.tui.transcript.typeset.lines import Line, wrap

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message as ChatMessage

Action = Literal[
    "copy",
    "copy_code",
    "edit",
    "regenerate",
    "continue",
    "delete",
    "quote",
    "unfold",
    "previous_branch",
    "next_branch",
]
"""What can be done with a message."""
ROLES = {"user": N_("You"), "assistant": "ChatGLM", "system": N_("System"), "tool": N_("Tool")}
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


class EntryView(LinesView):
    """Base of all that stands in the transcript: lines behind a bar."""

    DEFAULT_CSS = """
    EntryView { margin: 0 0 1 0; }
    """
    LEFT = 2
    RIGHT = 1
    bar = ("▌", "$foreground 30%", "ansi_bright_black")
    """The bar, its style, and its style in themes of 16 colours."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry

    def left_edge(self, palette: Palette) -> tuple[str, Style]:
        """The bar, which tells one entry from the next."""
        bar, style, ansi = self.bar
        return f"{bar} ", palette(ansi if self.app.native_ansi_color else style)


class MessageView(EntryView):
    """A message: who and when, the text, how it was made."""

    BARS: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "user": ("▌", "$primary", "ansi_cyan"),
        "assistant": ("▌", "$secondary 40%", "ansi_bright_black"),
    }
    CHOSEN = ("█", "$accent", "ansi_yellow")

    @dataclass
    class Clicked(Message):
        """The message was clicked on."""

        message_id: str

    @dataclass
    class ActionClicked(Message):
        """A word was clicked that stands for something to do with the message."""

        message_id: str
        action: Action

    def __init__(self, entry: Entry) -> None:
        assert entry.message is not None
        super().__init__(entry)
        self.chosen = False
        """Whether keys act on it."""
        self.unfolded = False
        """Whether what the model thought is shown."""
        self._blocks: list[Block] | None = None

    @property
    def message(self) -> ChatMessage:
        """The message as it is now."""
        assert self.entry.message is not None
        return self.entry.message

    @property
    def bar(self) -> tuple[str, str, str]:  # type: ignore[override]
        """By who wrote it, or because it is chosen."""
        return self.CHOSEN if self.chosen else self.BARS.get(self.message.role, EntryView.bar)

    def choose(self, chosen: bool) -> None:
        """Mark it as the one that keys act on, or no longer."""
        if chosen != self.chosen:
            self.chosen = chosen
            self.lines_changed()
            self.refresh()

    def show_message(self, text_changed: bool) -> None:
        """Show the message as it is now."""
        if text_changed:
            self._blocks = None
        self.lines_changed()

    def make_lines(self, width: int) -> list[Line]:
        """Head, text, foot."""
        lines = [Line(self.head(width)), *self.body(width)]
        if foot := self.foot():
            lines += [Line(line.content, start=len(line.content)) for line in wrap(foot, width)]
        return lines

    def body(self, width: int) -> list[Line]:
        """What people wrote is shown as they wrote it; answers are Markdown."""
        if self.message.role == "user":
            return wrap(Content(clean(self.message.text).rstrip()), width)
        thought, answer, thinking = reasoning.split(self.message.text)
        if self._blocks is None:
            self._blocks = whole(answer)
        return [*self.thought(thought, thinking, width), *stack(self._blocks, width)]

    def thought(self, text: str, thinking: bool, width: int) -> list[Line]:
        """What the model thought before it answered: a line that opens, and what is folded behind it."""
        if not text:
            return []
        text = clean(text)
        count = text.count("\n") + 1
        words = ngettext("{n} line", "{n} lines", count).format(n=count)
        label = f"{'▾' if self.unfolded else '▸'} {_('Thinking') if thinking else _('Thought')} · {words}"
        head = Content.styled(label, "$text-muted").stylize(Style.from_meta({ACTION: "unfold"}))
        lines = [Line(head, start=len(head))]
        if self.unfolded:
            lines += [
                line.behind(Content("  ")) for line in wrap(Content.styled(text, "$text-muted"), width - 2)
            ]
        return [*lines, Line(Content(""))] if self.unfolded or not thinking else lines

    def unfold(self) -> None:
        """Show what the model thought, or fold it again."""
        self.unfolded = not self.unfolded
        self.lines_changed()

    def on_click(self, event: events.Click) -> None:
        """Tell the transcript."""
        if action := event.style.meta.get(ACTION):
            event.stop()
            self.post_message(self.ActionClicked(self.message.id, action))
        else:
            self.post_message(self.Clicked(self.message.id))

    def head(self, width: int) -> Content:
        """Who and when, which version; of the chosen one also what can be done with it."""
        message = self.message
        colour = {"user": "$text-primary", "assistant": "$text-secondary"}.get(message.role, "$text-muted")
        word = ROLES.get(message.role, message.role)
        head = Content.assemble((_(word), f"bold {colour}"), "  ", (show_time(message.time), "$text-muted"))
        number, count = self.entry.branch
        if count > 1:
            versions = _("version {number} of {count}").format(number=number, count=count)
            before, after = _button("‹", "previous_branch"), _button("›", "next_branch")
            head = Content.assemble(head, "  ", before, (f" {versions} ", "$text-muted"), after)
        if self.chosen:
            actions = Content("  ").join(_button(_(name), act) for name, act in self.actions())
            if (room := width - head.cell_length - actions.cell_length) > 2:
                head = Content.assemble(head, " " * room, actions)
        return head

    def actions(self) -> list[tuple[str, Action]]:
        """What can be done: English msgid and name of the action."""
        own: list[tuple[str, Action]] = [(N_("quote"), "quote"), (N_("again"), "regenerate")]
        if self.message.role == "user":
            own = [(N_("edit"), "edit")]
        return [(N_("copy"), "copy"), *own, (N_("delete"), "delete")]

    def foot(self) -> Content:
        """What is known about the message; a state that is not good in a colour, and always in words."""
        message = self.message
        if message.role != "assistant":
            return Content("")
        parts = [Content.styled(part, "$text-muted") for part in figures(message)]
        if state := STATES.get(message.state):
            words = _(state)
            if message.state == "failed" and (error := message.meta.get("error")):
                words = f"{words}: {one_line(str(error))}"
            style = "$text-error" if message.state == "failed" else "$text-warning"
            parts.append(Content.styled(words, style))
            if self.entry.last and message.text:
                parts.append(_button("/continue", "continue"))
        return Content.styled(" · ", "$text-muted").join(parts)


ACTION = "act"
"""Key of the meta data under a word that can be clicked."""


def _button(text: str, action: Action) -> Content:
    return Content.styled(text, "$text-muted underline").stylize(Style.from_meta({ACTION: action}))


class AnswerView(MessageView):
    """An answer that is being written. `append` may be called as often as tokens come."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self._growing = GrowingMarkdown()
        self._came = ""
        self._answer = ""  # what of that the blocks are made of
        self._waiting: list[str] = [entry.message.text] if entry.message and entry.message.text else []
        self._drawn = 0.0
        self._worked = 0.0
        self._timer: Timer | None = None
        self._finished = False

    def body(self, width: int) -> list[Line]:
        """As far as it has come."""
        if self._finished:
            return super().body(width)
        thought, _answer, thinking = reasoning.split(self._came)
        return [*self.thought(thought, thinking, width), *stack(self._growing.blocks, width)]

    def foot(self) -> Content:
        """Say that more is to come."""
        return super().foot() if self._finished else Content.styled("…", "$text-muted")

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
            self._timer = self.set_timer(delay, self._show_more)

    def _show_more(self) -> None:
        cost = thread_time() - self._worked  # of the drawing before, its layout and its painting
        wait = min(cost / SHARE, SLOWEST) - (monotonic() - self._drawn)
        if self._worked and wait > 0.01:
            self._timer = self.set_timer(wait, self._show_more)
            return
        self._timer, self._drawn, self._worked = None, monotonic(), thread_time()
        if self._take():
            self.lines_changed()

    def _take(self) -> bool:
        """Take in what waits; return whether that changes what is seen."""
        text = "".join(self._waiting)
        self._waiting.clear()
        self.entry.text += text
        self._came += text
        thought, answer, _thinking = reasoning.split(self._came)
        new, self._answer = answer[len(self._answer) :], answer
        return self._growing.add(new) or bool(thought and not answer)

    async def finish(self, message: ChatMessage) -> None:
        """Show the answer as it is now kept: the same text, its state and its figures."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._take()
        self._growing.finish()
        self._finished = True
        self.entry.message = message
        self.entry.text = message.text
        self.entry.pinned = False
        same = self._growing.text == clean(reasoning.split(message.text).answer)
        self._blocks = self._growing.blocks if same else None
        self.lines_changed()


class Notice(EntryView):
    """A word of the app's own: never part of the conversation, never in the prompt."""

    BARS: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "warning": ("▌", "$warning", "ansi_yellow"),
        "error": ("▌", "$error", "ansi_red"),
    }

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry)
        self.bar = self.BARS.get(entry.kind, EntryView.bar)

    def make_lines(self, width: int) -> list[Line]:
        """The text, behind a word where it matters."""
        text = clean(self.entry.text).strip()
        if self.entry.kind == "markdown":
            return stack(whole(text), width)
        word = {"warning": _("Note"), "error": _("Error")}.get(self.entry.kind)
        style = {"warning": "$text-warning", "error": "$text-error"}.get(self.entry.kind, "$text-muted")
        return wrap(Content.assemble((f"{word}  ", f"bold {style}") if word else "", (text, style)), width)


def make_view(entry: Entry) -> EntryView:
    """Return the widget for an entry."""
    return Notice(entry) if entry.message is None else MessageView(entry)

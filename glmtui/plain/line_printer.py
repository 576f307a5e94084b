"""What a session publishes, as lines: roles by name, one line for each thing that happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glmtui.i18n import _, ngettext, tell
from glmtui.plain.printer import AnswerWriter, Paint, unmarked
from glmtui.protocol.messages import Attachment, Image, Source, ToolCall, ToolResult
from glmtui.session import events as told
from glmtui.session.stats import model_title, source_lines, unsupported
from glmtui.streams import Output, Safe, clean_writer
from glmtui.text.clean import clean, one_line
from glmtui.text.units import size

if TYPE_CHECKING:
    from glmtui.chat.tree import Message
    from glmtui.protocol.phrases import Sayable
    from glmtui.session.events import Kind, SessionEvent, SessionState

LARGE = 50_000_000
"""Bytes of a model from which on the load is reported in steps."""
STEPS = 10
SHOWN_AGAIN = 2000
"""Characters of an earlier message that are shown again."""


class LinePrinter:
    """Answers and what commands say go to `stream`; notices and progress to `errors`, so that a script's
    output holds what was said and nothing else.

    Args:
        paint: colours what goes to `stream`.
        paint_errors: colours what goes to `errors`.
    """

    def __init__(
        self,
        stream: Output,
        errors: Output,
        paint: Paint = Paint(),  # noqa: B008 (frozen)
        paint_errors: Paint = Paint(),  # noqa: B008
    ) -> None:
        self.stream = clean_writer(stream)
        self.errors = clean_writer(errors)
        self.paint = paint
        self._paint_errors = paint_errors
        self.failed = False
        """Whether something went wrong since the start."""
        self._answer = AnswerWriter(stream)
        self._state: SessionState | None = None
        self._reading = ""
        """The collection whose documents are read."""
        self._reported = ("", 0)
        """The model whose load was reported last, and how many steps of it."""

    def on_event(self, event: SessionEvent) -> None:
        match event:
            case told.Noticed():
                self.notice(event.text, event.kind)
            case told.ConversationShown() if event.opened:
                self._opened(event)
            case told.AnswerBegun():
                self.stream.write_safe(self._role(event.message))
                self._answer = AnswerWriter(self.stream, in_line=True)
                self._answer.append(event.message.text)
            case told.AnswerGrew():
                self._answer.append(event.text, thought=event.thought)
            case told.AnswerCalled():
                self._called(event.message)
            case told.AnswerEnded():
                self._ended(event.message)
            case told.StateChanged():
                self._state_changed(event.state)

    def notice(self, text: Sayable, kind: Kind = "info") -> None:
        """Write a line, behind a word where it matters."""
        self.failed |= kind == "error"
        if self.stream.isatty() and self.errors.isatty():
            self._answer.break_line()  # both are seen in one place
        word = {"warning": _("Note"), "error": _("Error")}.get(kind)
        if word:
            self.errors.write_safe(self._paint_errors.heading(word, kind))
        self.errors.line(tell(text).strip())

    def say(self, text: Sayable, *, markdown: bool = False) -> None:
        """Write a line, or all lines of Markdown."""
        if markdown:
            self.stream.write(unmarked(tell(text)).strip() + "\n")
        else:
            self.stream.line(tell(text).strip())

    def _opened(self, event: told.ConversationShown) -> None:
        if not event.messages:
            self.say(_("A new conversation begins."))
            return
        count = len(event.messages)
        said = ngettext("{title} ({n} message)", "{title} ({n} messages)", count)
        self.say(said.format(title=event.title, n=count))
        for message in event.messages[-2:]:
            text = clean(_outline(message)).strip()
            if len(text) > SHOWN_AGAIN:
                text = text[:SHOWN_AGAIN].rstrip() + " …"
            self.stream.write_safe(self._role(message))
            self.stream.write(f"{text}\n")
        if event.on_hold:
            on_hold = ngettext(
                "{n} message waits to be sent: /queue", "{n} messages wait to be sent: /queue", event.on_hold
            )
            self.say(on_hold.format(n=event.on_hold))

    def _called(self, message: Message) -> None:
        """Tell of a call when it is made; its result is with the message."""
        done = {part.call_id for part in message.parts if isinstance(part, ToolResult)}
        for part in message.parts:
            if isinstance(part, ToolCall) and part.id not in done:
                self.errors.line(one_line(f"{part.name} {part.arguments}"))

    def _ended(self, message: Message) -> None:
        self._answer.finish()
        for line in source_lines(message):
            self.stream.line(line)
        for statement in unsupported(message):
            self.notice(_("Not in the sources: {statement}").format(statement=statement), "warning")
        if message.state == "length":
            self.notice(_("The answer was cut off at the length limit. /continue continues it."))
        elif message.state == "stopped":
            self.notice(_("Stopped. /continue continues the answer."))

    def _role(self, message: Message) -> Safe:
        style = "model" if message.role == "assistant" else "person"
        return self.paint.heading(role_name(message), style)

    def _state_changed(self, state: SessionState) -> None:
        """Report how far a load is: at its beginning, in steps if it is long, and at its end."""
        reading = state.indexing[0] if state.indexing else ""
        if reading and reading != self._reading:
            self.notice(_("Reading {name} …").format(name=reading))
        self._reading = reading
        name, step = self._reported
        if state.activity == "loading":
            now = STEPS * state.done // max(state.total, 1) if state.total > LARGE else 0
            if state.loading != name:
                self.notice(_("Loading {name} …").format(name=state.loading))
            elif now > step:
                text = _("{percent} % ({done} of {total})")
                percent = 100 * now // STEPS
                self.notice(text.format(percent=percent, done=size(state.done), total=size(state.total)))
            self._reported = (state.loading, max(now, step if state.loading == name else 0))
        elif name and state.info:
            how = state.info.place + ("" if state.info.quant == "none" else f", INT{state.info.quant}")
            self.notice(_("{name} is ready ({how}).").format(name=model_title(state.info), how=how))
            self._reported = ("", 0)
        elif state.activity == "none":
            self._reported = ("", 0)


def role_name(message: Message) -> str:
    """Return who speaks: “You”, or the name of the model."""
    if message.role == "assistant":
        return str(message.meta.get("model") or "ChatGLM")
    return {"user": _("You"), "tool": _("Tool")}.get(message.role, _("System"))


def _outline(message: Message) -> str:
    """Return what a message says, with the names of what belongs to it."""
    results = (part.text for part in message.parts if isinstance(part, ToolResult))
    names = (f"[{part.name}]" for part in message.parts if isinstance(part, Attachment | Image | ToolCall))
    sources = (f"[{part.number}] {part.title}" for part in message.parts if isinstance(part, Source))
    return "\n".join(filter(None, (message.text, *results, *names, *sources)))

"""The entries of the transcript: messages, answers being written, notices of the app's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from time import monotonic, thread_time
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from textual.content import Content
from textual.style import Style
from textual.timer import Timer

from glmtui.errors import UserError
from glmtui.i18n import N_, _, ngettext, tell
from glmtui.protocol.messages import Attachment, Image, Source, Text, ToolCall, ToolResult
from glmtui.session.stats import passages, unsupported
from glmtui.text.clean import clean, one_line
from glmtui.text.units import size
from glmtui.tui.transcript.column import Entry
from glmtui.tui.transcript.typeset.blocks import Block, stack
from glmtui.tui.transcript.typeset.growing import GrowingMarkdown, read_all
from glmtui.tui.transcript.typeset.lines import EMPTY, Line, wrap

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message
    from glmtui.tui.transcript.text_scroll import TextScroll

Contents = Callable[[Attachment], str]
"""Returns the text of an attachment; raises `UserError` where it cannot be read."""


@dataclass(frozen=True)
class Seen:
    """A picture as an entry shows it."""

    about: str = ""
    """What is known of it: its size, or what is wrong."""
    rows: Sequence[Content] = ()


class Pictures(Protocol):
    """What shows the pictures of messages."""

    def look(self, entry: MessageEntry, image: Image, width: int) -> Seen:
        """Return what there is of a picture, for `width` cells; the entry is changed when there is more."""


Action = Literal[
    "copy", "copy_code", "edit", "regenerate", "continue", "delete", "quote", "unfold",
    "previous_branch", "next_branch",
]  # fmt: skip
"""What can be done with a message."""
ROLES = {"user": N_("You"), "assistant": "ChatGLM", "system": N_("System"), "tool": N_("Tool")}
STATES = {
    "partial": N_("not finished"),
    "stopped": N_("stopped"),
    "failed": N_("failed"),
    "length": N_("cut off at the length limit"),
}
"""States that are named; a message that is ``done`` says nothing."""
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


def figures(message: Message) -> list[str]:
    """Return what is known about how an answer was made: model, quantisation, tokens, speed."""
    meta = message.meta
    parts = [one_line(str(meta[key])) for key in ("model",) if meta.get(key)]
    if quant := QUANTS.get(str(meta.get("quant"))):
        parts.append(quant)
    tokens = meta.get("tokens")
    if isinstance(tokens, int) and not isinstance(tokens, bool):
        parts.append(ngettext("{count} token", "{count} tokens", tokens).format(count=f"{tokens:,}"))
    match meta.get("sources"):
        case [int(given), int(found)]:
            parts.append(passages(given, found))
    speed = meta.get("tokens_per_second")
    if isinstance(speed, int | float) and speed > 0:
        parts.append(_("{speed} tok/s").format(speed=f"{speed:.1f}" if speed < 100 else f"{speed:.0f}"))
    return parts


ACTION = "act"
"""Key of the meta data under a word that can be clicked."""
FOLD = "fold"
"""Key of the meta data under a line that opens something: the number of the fold in its message."""
PICTURE = "picture"
"""Key of the meta data under a picture: the number of its part."""
SHOWN_CHARACTERS = 300_000
"""Of a text: more than any context holds. Laying out a million takes seconds in which no key is heard."""
MOST_OF_A_LABEL = 1000
"""Characters that are looked at to cut a label to the width."""
THOUGHT = -1
"""The number of the thought; the other folds have the numbers of their parts."""


def _button(text: str, action: Action) -> Content:
    return Content.styled(text, "$text-muted underline").stylize(Style.from_meta({ACTION: action}))


def _rest(text: str, width: int) -> list[Line]:
    """Say how much of `text` is not shown."""
    if (count := len(text) - SHOWN_CHARACTERS) <= 0:
        return []
    said = _("… {count} more characters are not shown; what is copied, sent or exported has them.")
    note = Content.styled(said.format(count=f"{count:,}"), "$text-warning")
    return [Line(line.content, start=len(line.content)) for line in wrap(note, width)]


def _line_count(text: str) -> str:
    count = text.rstrip().count("\n") + 1
    return ngettext("{n} line", "{n} lines", count).format(n=f"{count:,}")


class MessageEntry(Entry):
    """A message: who and when, the text and what belongs to it, how it was made."""

    BARS: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "user": ("▌", "$primary", "ansi_cyan"),
        "assistant": ("▌", "$secondary 40%", "ansi_bright_black"),
    }
    CHOSEN = ("█", "$accent", "ansi_yellow")
    last = False
    """Whether it is the last message."""
    chosen = False
    """Whether keys act on it."""
    unfolded: frozenset[int] = frozenset()
    """The folds that are open."""
    _blocks: list[Block] | None = None

    def __init__(
        self,
        message: Message,
        branch: tuple[int, int] = (1, 1),
        contents: Contents | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        super().__init__(message.text)
        self.message = message
        self.branch = branch
        """Which of how many versions it is."""
        self._contents = contents
        self._pictures = pictures

    @property
    def bar(self) -> tuple[str, str, str]:  # type: ignore[override]
        """By who wrote it, or because it is chosen."""
        return self.CHOSEN if self.chosen else self.BARS.get(self.message.role) or super().bar  # type: ignore

    def release(self) -> None:
        super().release()
        self._blocks = None

    def show(self, message: Message, branch: tuple[int, int]) -> None:
        if message.text != self.message.text:
            self._blocks = None
        self.message, self.text, self.branch = message, message.text, branch

    def make_lines(self, width: int) -> list[Line]:
        lines = [Line(self.head(width)), *self.body(width)]
        if foot := self.foot():
            lines += [Line(line.content, start=len(line.content)) for line in wrap(foot, width)]
        return lines

    def body(self, width: int) -> list[Line]:
        """What people wrote is shown as they wrote it; answers are Markdown."""
        message, lines = self.message, []
        text = message.text[:SHOWN_CHARACTERS]
        rest = _rest(message.text, width)
        if message.role == "user":
            lines = [*wrap(Content(clean(text).rstrip()), width), *rest]
        elif message.role != "tool":  # the text of which is what its results say
            if self._blocks is None:
                self._blocks = read_all(text)
            thought = self.thought(message.thought, not message.text, width)
            lines = [*thought, *stack(self._blocks, width), *rest]
        return lines + self.parts(width)

    # --- what can be folded ---

    def thought(self, text: str, thinking: bool, width: int) -> list[Line]:
        """What the model thought before it answered: a line that opens, and what is folded behind it."""
        if not text:
            return []
        label = f"{_('Thinking') if thinking else _('Thought')} · {_line_count(text)}"
        made = self._fold(THOUGHT, label, lambda: text, width)
        return made if thinking and THOUGHT not in self.unfolded else [*made, Line(EMPTY)]

    def parts(self, width: int) -> list[Line]:
        lines: list[Line] = []
        for number, label, text in self._folds():
            lines += self._fold(number, label, text, width)
        for number, part in enumerate(self.message.parts):
            if isinstance(part, Image):
                lines += self._picture(number, part, width)
        return lines

    def _picture(self, number: int, image: Image, width: int) -> list[Line]:
        """A line with the name of a picture, and as soon as it is decoded a thumbnail."""
        name = one_line(image.name) or image.media_type
        seen = self._pictures.look(self, image, max(width - 2, 1)) if self._pictures else Seen()
        label = " · ".join(filter(None, (f"[{_('image')}] {name}", seen.about)))
        style = Style.from_meta({PICTURE: number})
        rows = [line.content for line in wrap(Content.styled(label, "$text-muted"), max(width - 2, 1))]
        lines = [(Content("  ") + row).stylize(style) for row in (*rows, *seen.rows)]
        return [Line(line, start=len(line)) for line in lines]

    def _folds(self) -> Iterator[tuple[int, str, Callable[[], str] | None]]:
        """Yield number, label and content of what belongs to the message."""
        for number, part in enumerate(self.message.parts):
            match part:
                case Attachment():
                    read = partial(self._contents, part) if self._contents else None
                    yield number, f"{one_line(part.name)} · {size(part.size)}", read
                case Source():
                    about = " · ".join(filter(None, map(one_line, (part.title, part.place, part.origin))))
                    yield number, f"[{part.number}] {about}", partial(str, part.text)
                case ToolCall():
                    yield (
                        number,
                        f"{one_line(part.name)} {one_line(part.arguments)}",
                        partial(str, part.arguments),
                    )
                case ToolResult():
                    label = f"{one_line(part.name or part.call_id)} → {_line_count(part.text)}"
                    yield number, label, partial(str, part.text)

    def _fold(self, number: int, label: str, text: Callable[[], str] | None, width: int) -> list[Line]:
        opened = number in self.unfolded and text is not None
        mark = "  " if text is None else "▾ " if opened else "▸ "
        head = Content.styled((mark + label)[:MOST_OF_A_LABEL], "$text-muted").truncate(width, ellipsis=True)
        if text is not None:
            head = head.stylize(Style.from_meta({FOLD: number}))
        lines = [Line(head, start=len(head))]
        if opened and text is not None:
            rest: list[Line] = []
            try:
                whole = text().strip("\n")
                inside = Content.styled(clean(whole[:SHOWN_CHARACTERS]), "$text-muted")
                rest = _rest(whole, max(width - 2, 1))
            except UserError as error:
                inside = Content.styled(tell(error), "$text-error")
            lines += [line.behind(Content("  ")) for line in (*wrap(inside, max(width - 2, 1)), *rest)]
        return lines

    def unfold(self, number: int | None = None) -> None:
        """Open a fold, or close it; without a number, all that the message has."""
        if number is not None:
            self.unfolded ^= {number}
        else:
            self.unfolded = frozenset() if self.unfolded else self.folds

    @property
    def folds(self) -> frozenset[int]:
        """What can be opened."""
        parts = frozenset(fold for fold, _label, text in self._folds() if text)
        return parts | {THOUGHT} if self.message.thought else parts

    # --- head and foot ---

    def head(self, width: int) -> Content:
        """Who and when, which version; of the chosen one also what can be done with it."""
        message = self.message
        colour = {"user": "$text-primary", "assistant": "$text-secondary"}.get(message.role, "$text-muted")
        role = ROLES.get(message.role, message.role)
        head = Content.assemble((_(role), f"bold {colour}"), "  ", (show_time(message.time), "$text-muted"))
        number, count = self.branch
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
        """What is known about the message; a state that is not good in a colour, and always named."""
        message = self.message
        if message.role != "assistant":
            return EMPTY
        parts = [Content.styled(part, "$text-muted") for part in figures(message)]
        if unsupported(message):
            parts.append(Content.styled(_("[?]: no source says this"), "$text-warning"))
        if state := STATES.get(message.state):
            text = _(state)
            if message.state == "failed" and (error := message.meta.get("error")):
                text = f"{text}: {one_line(str(error))}"
            style = "$text-error" if message.state == "failed" else "$text-warning"
            parts.append(Content.styled(text, style))
            if self.last and message.text:
                parts.append(_button("/continue", "continue"))
        return Content.styled(" · ", "$text-muted").join(parts)


class AnswerEntry(MessageEntry):
    """An answer that is being written. `append` may be called as often as tokens come."""

    def __init__(
        self,
        message: Message,
        owner: TextScroll,
        branch: tuple[int, int] = (1, 1),
        contents: Contents | None = None,
        pictures: Pictures | None = None,
    ) -> None:
        super().__init__(message, branch, contents, pictures)
        self._owner = owner
        self._thought = message.thought
        self._growing = GrowingMarkdown()
        self._growing.add(message.text)
        self._pending: list[tuple[str, bool]] = []
        self._drawn = 0.0
        self._worked = 0.0
        self._timer: Timer | None = None
        self._finished = False

    @property
    def folds(self) -> frozenset[int]:
        """What can be opened."""
        return super().folds | {THOUGHT} if self._thought else super().folds

    def body(self, width: int) -> list[Line]:
        if self._finished:
            return super().body(width)
        blocks = self._growing.blocks
        thought = self.thought(self._thought.strip(), not blocks, width)
        return [*thought, *stack(blocks, width), *self.parts(width)]

    def foot(self) -> Content:
        return super().foot() if self._finished else Content.styled("…", "$text-muted")

    def release(self) -> None:
        """Drop the lines; while it grows, not what it grows from."""
        self.changed()
        if self._finished:
            super().release()

    def append(self, text: str, *, thought: bool = False) -> None:
        """Add streamed text to the answer, or to the thought before it.

        It is drawn within a tenth of a second, or when `SHARE` allows.
        """
        if text:
            self._pending.append((text, thought))
            self.schedule()

    def show_parts(self, message: Message) -> None:
        """Show what belongs to the answer besides its text: what the model called, and what came of it."""
        self.message = replace(message, parts=tuple(p for p in message.parts if not isinstance(p, Text)))
        self._owner.entry_changed(self, news=True)

    def schedule(self) -> None:
        if self._timer is None and self._pending and self._owner.is_running:
            delay = max(1 / RATE - (monotonic() - self._drawn), 0.001)
            self._timer = self._owner.set_timer(delay, self._show_more)

    def _show_more(self) -> None:
        cost = thread_time() - self._worked  # of the drawing before, its layout and its painting
        pause = min(cost / SHARE, SLOWEST) - (monotonic() - self._drawn)
        if self._worked and pause > 0.01:
            self._timer = self._owner.set_timer(pause, self._show_more)
            return
        self._timer, self._drawn, self._worked = None, monotonic(), thread_time()
        if self._take():
            self._owner.entry_changed(self, news=True)

    def _take(self) -> bool:
        """Take in what is pending; return whether that changes what is seen."""
        thought = "".join(text for text, is_thought in self._pending if is_thought)
        answer = "".join(text for text, is_thought in self._pending if not is_thought)
        self._pending.clear()
        self._thought += thought
        self.text += thought + answer
        return self._growing.add(answer) or bool(thought)

    def finish(self, message: Message) -> None:
        """Show the answer as it is stored now: the same text, its state and its figures."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._take()
        self._growing.finish()
        self._finished = True
        self.message, self.text = message, message.text
        same = self._growing.text == clean(message.text)
        self._blocks = self._growing.blocks if same else None
        self._owner.entry_changed(self, news=True)


class NoticeEntry(Entry):
    """Something the app itself says: never part of the conversation, never in the prompt."""

    BARS: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "warning": ("▌", "$warning", "ansi_yellow"),
        "error": ("▌", "$error", "ansi_red"),
    }

    def __init__(self, text: str, kind: str = "info") -> None:
        super().__init__(text)
        self.kind = kind
        self.bar = self.BARS.get(kind, Entry.bar)

    def make_lines(self, width: int) -> list[Line]:
        """The text, after "Note" or "Error" where it matters."""
        text = clean(self.text).strip()
        if self.kind == "markdown":
            return stack(read_all(text), width)
        label = {"warning": _("Note"), "error": _("Error")}.get(self.kind)
        style = {"warning": "$text-warning", "error": "$text-error"}.get(self.kind, "$text-muted")
        return wrap(Content.assemble((f"{label}  ", f"bold {style}") if label else "", (text, style)), width)

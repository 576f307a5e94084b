"""What the flow of a conversation shows where there is no screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO

from glmtui.i18n import _
from glmtui.plain.printer import AnswerWriter, Paint, unmarked, write
from glmtui.session.stats import model_title
from glmtui.text.clean import clean
from glmtui.text.units import size

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message
    from glmtui.session.controller import ChatController
    from glmtui.session.view import AnswerHandle, Kind

LARGE = 50_000_000
"""Bytes of a model from which on the load is told about in steps."""
STEPS = 10
ROLES_WIDTH = 2000
"""Characters of an earlier message that are shown again."""


class QuietView:
    """A `ChatView` that writes answers to `stream` and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    async def show(self, messages: Sequence[Message]) -> None:
        """Nothing is shown twice."""

    async def show_changes(self, messages: Sequence[Message]) -> None:
        """The same."""

    async def add(self, message: Message) -> None:
        """Whoever wrote it sees it already."""

    async def begin_answer(self, message: Message) -> AnswerHandle:
        """Write an answer as it comes."""
        return _begun(AnswerWriter(self.stream), message)

    def notice(self, text: str, kind: Kind = "info") -> None:
        """Keep quiet."""

    def restore(self, text: str) -> None:
        """There is nothing to put it into."""

    def status_changed(self) -> None:
        """Keep quiet."""

    def model_changed(self) -> None:
        """Keep quiet."""

    def conversation_changed(self) -> None:
        """Keep quiet."""

    def answer_ended(self, seconds: float) -> None:
        """Keep quiet."""


class LineView(QuietView):
    """What the line mode shows: roles in words, one line for each thing that happens.

    Answers and what commands say go to `stream`; notices and progress to `errors`, so that a script's output
    holds what was said and nothing else.

    Args:
        restore: takes text that could not be sent.
        paint: colours what goes to `stream`.
        paint_errors: colours what goes to `errors`.
    """

    def __init__(
        self,
        stream: TextIO,
        errors: TextIO,
        restore: Callable[[str], None],
        paint: Paint = Paint(),  # noqa: B008 (frozen)
        paint_errors: Paint = Paint(),  # noqa: B008
    ) -> None:
        super().__init__(stream)
        self.errors = errors
        self.paint = paint
        self._paint_errors = paint_errors
        self.failed = False
        """Whether something went wrong since the start."""
        self._restore = restore
        self._controller: ChatController | None = None
        self._told = ("", 0)
        """The model whose load was told about last, and how many steps of it."""

    def watch(self, controller: ChatController) -> None:
        """Tell about the loads of this controller."""
        self._controller = controller

    async def begin_answer(self, message: Message) -> AnswerHandle:
        """Say who speaks, then write the answer as it comes."""
        write(self.stream, self._role(message))
        return _begun(_LineAnswer(self.stream, self), message)

    def notice(self, text: str, kind: Kind = "info") -> None:
        """Write a line, behind a word where it matters."""
        self.failed |= kind == "error"
        word = {"warning": _("Note"), "error": _("Error")}.get(kind)
        first = self._paint_errors.heading(word, kind) if word else ""
        write(self.errors, first + clean(text).strip() + "\n")

    def say(self, text: str) -> None:
        """Write what a command has to say."""
        write(self.stream, clean(text).strip() + "\n")

    def say_markdown(self, text: str) -> None:
        """The same for Markdown."""
        self.say(unmarked(text))

    def restore(self, text: str) -> None:
        """Give back what could not be sent."""
        self._restore(text)

    def tell(self, message: Message) -> None:
        """Write a message of before."""
        text = clean(message.text).strip()
        if len(text) > ROLES_WIDTH:
            text = text[:ROLES_WIDTH].rstrip() + " …"
        write(self.stream, f"{self._role(message)}{text}\n")

    def _role(self, message: Message) -> str:
        style = "model" if message.role == "assistant" else "person"
        return self.paint.heading(role_words(message), style)

    def status_changed(self) -> None:
        """Tell how far a load is: at its beginning, in steps if it is long, and at its end."""
        if self._controller is None:
            return
        status = self._controller.status
        name, step = self._told
        if status.activity == "loading":
            now = STEPS * status.done // max(status.total, 1) if status.total > LARGE else 0
            if status.loading != name:
                self.notice(_("Loading {name} …").format(name=status.loading))
            elif now > step:
                done, total = size(status.done), size(status.total)
                self.notice(
                    _("{percent} % ({done} of {total})").format(
                        percent=100 * now // STEPS, done=done, total=total
                    )
                )
            self._told = (status.loading, max(now, step if status.loading == name else 0))
        elif name and status.info:
            info = status.info
            how = info.device.upper() + ("" if info.quant == "none" else f", INT{info.quant}")
            self.notice(_("{name} is ready ({how}).").format(name=model_title(info), how=how))
            self._told = ("", 0)
        elif status.activity == "none":
            self._told = ("", 0)


class _LineAnswer(AnswerWriter):
    def __init__(self, stream: TextIO, view: LineView) -> None:
        super().__init__(stream)
        self._view = view

    async def finish(self, message: Message) -> None:
        """End the line, and say so if the answer is not complete."""
        await super().finish(message)
        if message.state == "length":
            self._view.notice(_("The answer was cut off at the length limit. /continue goes on with it."))
        elif message.state == "stopped":
            self._view.notice(_("Stopped. /continue goes on with the answer."))


def _begun(writer: AnswerWriter, message: Message) -> AnswerWriter:
    if message.text:
        writer.append(message.text)
    return writer


def role_words(message: Message) -> str:
    """Return who speaks: a person in words, a model by its name."""
    if message.role == "assistant":
        return str(message.meta.get("model") or "ChatGLM")
    return {"user": _("You"), "tool": _("Tool")}.get(message.role, _("System"))

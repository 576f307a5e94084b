"""What ``glmtui ask`` does: one question through the same flow as in the app."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from glmtui import reasoning
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.errors import UserError
from glmtui.i18n import _
from glmtui.plain.driver import Driver
from glmtui.plain.printer import AnswerWriter, write
from glmtui.plain.views import QuietView
from glmtui.session.controller import ChatController
from glmtui.session.model_link import ModelLink
from glmtui.session.ui import make_worker

if TYPE_CHECKING:
    from glmtui.chat.conversation import Message
    from glmtui.session.view import AnswerHandle, Kind
    from glmtui.settings.settings import Settings

INTERRUPTED = 130
REASONS = {"done": "stop", "length": "length", "stopped": "stopped"}
"""Why an answer ended, by the state of its message."""


class Status:
    """One line that changes, on a terminal, and is gone in the end; nothing where `stream` is not one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._shown = ""

    def show(self, text: str) -> None:
        """Show `text` in the place of what was there."""
        if self._is_terminal and text != self._shown:
            write(self._stream, f"\r\x1b[K{text}")
            self._shown = text

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            write(self._stream, "\r\x1b[K")
            self._shown = ""

    def note(self, text: str) -> None:
        """Write a line that stays, also where there is no terminal."""
        self.clear()
        write(self._stream, f"glmtui: {text}\n")


class Asking(QuietView):
    """One question and its answer.

    Args:
        settings: with what the command line says before them.
        output: takes the answer.
        errors: takes progress and notes.
        streaming: write the answer as it comes; else one JSON object when it is complete.
    """

    def __init__(self, settings: Settings, output: TextIO, errors: TextIO, *, streaming: bool) -> None:
        super().__init__(output)
        self._errors = errors
        self._status = Status(errors)
        self._streaming = streaming
        self._library = Library()
        self._error = ""
        self._controller = ChatController(ModelLink(make_worker), self._library, settings, self)
        self._controller.sender = {"via": "ask"}

    def open(self, path: Path | None, *, latest: bool, save: bool) -> None:
        """Choose the conversation: the file `path`, the one used last, or a new one.

        A new one is only kept in memory unless `save` is set, and so is what is added to an old one then.

        Raises:
            UserError: there is none to go on with, or it cannot be read.
        """
        conversation: Conversation | None = None
        if path is not None:
            conversation = Conversation.at(path)
        elif latest:
            summaries = self._library.list()
            if not summaries:
                raise UserError(_("There is no conversation to go on with yet."))
            conversation = Conversation.open(max(summaries, key=lambda each: each.updated).path)
        if not save:
            conversation = Conversation.from_records(conversation.records() if conversation else ())
        self._controller.conversation = conversation or self._library.create()

    def answer(self, question: str, *, system: str, source: str | None) -> int:
        """Write the answer to `question`; return the exit code.

        Raises:
            UserError: the model could not be loaded or did not answer.
        """
        controller, settings = self._controller, self._controller.settings
        conversation = controller.conversation
        system = system or str(settings["generation.system_prompt"] or "")
        if system and not conversation.messages:
            conversation.append("system", system)
        elif system:
            settings.override("generation.system_prompt", system)
        driver = Driver(controller)
        try:
            controller.load(source=source, name=Path(source).name if source else "nano")
            interrupted = driver.run(controller.submit(question))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._status.clear()
            driver.close()
        if interrupted:
            return INTERRUPTED
        if self._error:
            raise UserError(self._error)
        message = conversation.branch()[-1]
        if not self._streaming:
            write(self.stream, self._report(message))
        elif message.state == "length":
            text = _("The answer was cut off after {count} tokens (--max-tokens, --max-length).")
            self._status.note(text.format(count=message.meta.get("tokens")))
        return 0

    def _report(self, message: Message) -> str:
        """Return what ``--json`` prints: one line."""
        stats, path = self._controller.stats, self._controller.conversation.path
        thought, answer, _thinking = reasoning.split(message.text)
        values: dict[str, object] = {
            "answer": answer,
            **({"thought": thought} if thought else {}),
            "reason": REASONS.get(message.state, message.state),
            **{key: message.meta.get(key) for key in ("model", "device", "quant")},
        }
        if stats:
            values |= {
                "prompt_tokens": stats.prompt_tokens,
                "answer_tokens": stats.answer_tokens,
                "prompt_seconds": round(stats.prompt_seconds, 4),
                "answer_seconds": round(stats.answer_seconds, 4),
            }
        values["conversation"] = str(path) if path else None
        return json.dumps(values, ensure_ascii=False) + "\n"

    # --- what the flow shows (`ChatView`) ---

    async def begin_answer(self, message: Message) -> AnswerHandle:
        """Write the answer as it comes, or nothing until it is complete."""
        return _Answer(self.stream, self._errors, self._status) if self._streaming else _Silent()

    def notice(self, text: str, kind: Kind = "info") -> None:
        """Keep the first error; say warnings at once."""
        if kind == "error":
            self._error = self._error or text
        elif kind == "warning":
            self._status.note(text)

    def status_changed(self) -> None:
        """Show how far the load is."""
        status = self._controller.status
        if status.activity == "loading" and not status.total:  # PyTorch is being imported
            self._status.show(_("Preparing the model …"))
        elif status.activity == "loading":
            percent = 100 * status.done // status.total
            self._status.show(_("Loading the model … {percent} %").format(percent=percent))
        elif status.activity == "reading":
            self._status.show(_("Reading the question …"))


class _Answer(AnswerWriter):
    def __init__(self, stream: TextIO, errors: TextIO, status: Status) -> None:
        super().__init__(stream, errors)
        self._status = status

    def append(self, text: str) -> None:
        self._status.clear()
        super().append(text)

    async def finish(self, message: Message) -> None:
        self._status.clear()
        await super().finish(message)


class _Silent:
    def append(self, text: str) -> None:
        pass

    async def finish(self, message: Message) -> None:
        pass

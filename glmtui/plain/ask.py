"""What ``glmtui ask`` does: one question through the same session as in the app."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glmtui import streams
from glmtui.chat.conversation import Conversation
from glmtui.chat.library import Library
from glmtui.engine.local import LocalEngine
from glmtui.errors import UserError
from glmtui.i18n import _, tell
from glmtui.interrupts import INTERRUPTED
from glmtui.plain.driver import POLL_SECONDS, Driver
from glmtui.plain.printer import AnswerWriter
from glmtui.protocol.messages import Source, ToolCall, ToolResult
from glmtui.session import events as told
from glmtui.session.chat_session import ChatSession
from glmtui.session.research import QUOTED
from glmtui.session.slash.registry import COMMANDS
from glmtui.session.stats import source_lines, unsupported
from glmtui.session.toolbox import REFUSED
from glmtui.session.ui import Ui
from glmtui.signals import ends_in_order
from glmtui.streams import Output, StatusLine, clean_writer
from glmtui.text.clean import one_line

if TYPE_CHECKING:
    from glmtui.chat.tree import Message
    from glmtui.protocol.phrases import Sayable
    from glmtui.session.events import SessionEvent, SessionState
    from glmtui.settings.settings import Settings

REASONS = {"done": "stop", "length": "length", "stopped": "stopped"}
"""Why an answer ended, by the state of its message."""
SHOWN = 300
"""Characters of a call, and of what came of it."""


class Asking(Ui):
    """One question and its answer.

    Args:
        settings: with what the command line says before them.
        output: takes the answer.
        errors: takes progress and notes.
        streaming: write the answer as it comes; else one JSON object when it is complete.
    """

    has_keys = False

    def __init__(self, settings: Settings, output: Output, errors: Output, *, streaming: bool) -> None:
        self._output = clean_writer(output)
        self._status = StatusLine(errors)
        self._streaming = streaming
        self._writer = AnswerWriter(self._output, errors)
        self._library = Library()
        self._settings = settings
        self._error: Sayable = ""
        self._told: set[str] = set()
        """Ids of calls of which was told what came of them."""
        self._session = ChatSession(
            LocalEngine, self._library, settings, self, COMMANDS, sender={"via": "ask"}
        )
        self._session.subscribe(self._on_event)

    def open(self, path: Path | None, *, latest: bool, save: bool) -> None:
        """Choose the conversation: the file `path`, the one used last, or a new one.

        A new one is only kept in memory unless `save` is set, and so is what is added to an old one then.

        Raises:
            UserError: there is none to continue, or it cannot be read.
        """
        conversation: Conversation | None = None
        if path is not None:
            conversation = Conversation.at(path)
        elif latest:
            summaries = self._library.list()
            if not summaries:
                raise UserError(_("There is no conversation to continue yet."))
            conversation = Conversation.open(max(summaries, key=lambda each: each.updated).path)
        if not save:
            records, blobs = (
                (conversation.records(), conversation.attachments) if conversation else ((), None)
            )
            conversation = Conversation.from_records(records, blobs)
        if conversation is not None:
            self._session.conversation = conversation

    def answer(self, question: str, *, system: str, web: bool = False, images: Sequence[str] = ()) -> int:
        """Write the answer to `question`; return the exit code.

        Args:
            question: what is asked.
            system: told to the model before it.
            web: whether the web is asked first.
            images: paths and addresses of pictures that it is about.

        Raises:
            UserError: the model could not be loaded or did not answer, or a picture cannot be used.
        """
        session, conversation = self._session, self._session.conversation
        system = system or str(self._settings["generation.system_prompt"] or "")
        if system and not conversation.messages:
            conversation.append("system", system)
        elif system:
            self._settings.override({"generation.system_prompt": system})
        driver = Driver(session, self._output)
        with ends_in_order():
            try:
                session.load()
                interrupted = driver.run(self._ask(question, images, web=web))
            finally:
                self._status.clear()
                driver.close()
        if interrupted:
            return INTERRUPTED
        if self._error:
            raise UserError(self._error)
        message = conversation.branch()[-1]
        if not self._streaming:
            self._output.json(self._report(message))
        elif message.state == "length":
            text = _("The answer was cut off after {count} tokens (--max-tokens, --max-length).")
            self._status.note(text.format(count=message.meta.get("tokens")))
        return 0

    async def _ask(self, question: str, images: Sequence[str], *, web: bool) -> None:
        session = self._session
        while images and session.loading:  # nothing is sent to a model that does not see
            await asyncio.sleep(POLL_SECONDS)
        if images and session.state.info is None:
            return  # why there is none was said
        for image in images:
            await session.attach(image, named=False)
        await (session.run("web", question) if web else session.send(question))

    async def ask(self, title: Sayable, value: str = "") -> str | None:
        """Say what a command asks about, and take what it offers."""
        self._status.note(f"{tell(title)}: {value}")
        return value

    async def choose(self, title: Sayable, choices: Sequence[Sayable]) -> int | None:
        """Ask on the terminal, where there is one: the first choice is what Return stands for elsewhere."""
        if not (sys.stdin.isatty() and self._status.is_terminal):
            return None
        self._status.note(tell(title))
        for number, choice in enumerate(choices, 1):
            self._status.note(f"{number}. {tell(choice)}")
        typed = next(streams.lines_of(sys.stdin), "").strip()
        return int(typed) - 1 if typed.isdecimal() and 0 < int(typed) <= len(choices) else None

    def _report(self, message: Message) -> dict[str, object]:
        stats, path = self._session.stats, self._session.conversation.path
        values: dict[str, object] = {
            "answer": message.text,
            **({"thought": message.thought} if message.thought else {}),
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
        values["sources"] = [dataclasses.asdict(part) for part in message.parts if isinstance(part, Source)]
        values["conversation"] = str(path) if path else None
        return values

    def _on_event(self, event: SessionEvent) -> None:
        match event:
            case told.Noticed(text, "error"):
                self._error = self._error or text  # the first says what went wrong
            case told.Noticed(text, "warning"):
                self._status.note(tell(text))
            case told.ModelChanged(info) if info.note:  # why it is slow, what it was taken for
                self._status.note(tell(info.note))
            case told.AnswerGrew() if self._streaming:
                self._status.clear()
                self._writer.append(event.text, thought=event.thought)
            case told.AnswerCalled():
                self._tell_calls(event.message)
            case told.AnswerEnded() if self._streaming:
                self._status.clear()
                self._writer.finish()
                self._write_sources(event.message)
            case told.StateChanged():
                self._show(event.state)

    def _write_sources(self, message: Message) -> None:
        if lines := source_lines(message):
            self._output.line()
            for line in lines:
                self._output.line(line)
        for statement in unsupported(message):
            self._status.note(_("Not in the sources: {statement}").format(statement=statement))

    def _tell_calls(self, message: Message) -> None:
        """Tell what came of each call that gave no sources: its answer does not show it."""
        calls = {part.id: part for part in message.parts if isinstance(part, ToolCall)}
        for part in message.parts:
            if isinstance(part, ToolResult) and part.call_id not in self._told:
                self._told.add(part.call_id)
                call, text = calls.get(part.call_id), part.text
                if text == REFUSED:
                    text = _("It was not allowed.")
                if call and not text.startswith(QUOTED):
                    self._status.note(f"{_beginning(f'{call.name} {call.arguments}')}: {_beginning(text)}")

    def _show(self, state: SessionState) -> None:
        if state.activity == "loading" and not state.total:  # PyTorch is being imported
            self._status.show(_("Preparing the model …"))
        elif state.activity == "loading":
            percent = 100 * state.done // state.total
            self._status.show(_("Loading the model … {percent} %").format(percent=percent))
        elif state.activity == "searching":
            self._status.show(_("Looking for sources …"))
        elif state.activity == "reading":
            self._status.show(_("Reading the question …"))


def _beginning(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= SHOWN else f"{line[:SHOWN]} …"

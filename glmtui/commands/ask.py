"""``glmtui ask``: one answer on standard output, as it comes."""

from __future__ import annotations

import os
import signal
import stat
import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from glmtui.commands.model_options import ModelOptions, add_model_options, positive, read_model_options
from glmtui.engine.events import ModelInfo, Sampling, Turn
from glmtui.engine.stop import StopSignal
from glmtui.errors import UsageError, UserError
from glmtui.i18n import _
from glmtui.settings import BY_KEY, Settings

if TYPE_CHECKING:
    from glmtui.commands import Subparsers
    from glmtui.engine.chat_model import Answer, ChatModel

NAME = "ask"
SAMPLING_OPTIONS = ("temperature", "top_p", "top_k", "repetition_penalty", "max_length", "seed")
INTERRUPTED = 130


def add_parser(subparsers: Subparsers) -> None:
    """Describe the arguments of ``ask``."""
    parser = subparsers.add_parser(
        NAME,
        help=_("print one answer as it comes"),
        description=_("Print one answer as it comes. What is piped in follows the question."),
    )
    parser.add_argument("question", nargs="*", metavar=_("QUESTION"), help=_("several words need no quotes"))
    parser.add_argument(
        "--system", metavar="TEXT", default="", help=_("told to the model before the question")
    )
    parser.add_argument(
        "--file",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help=_("a text file to add to the question"),
    )
    parser.add_argument(
        "--json", action="store_true", help=_("print one JSON object when the answer is complete")
    )
    add_model_options(parser)
    group = parser.add_argument_group(_("generation"))
    group.add_argument(
        "--max-tokens", metavar="N", type=positive, help=_(BY_KEY["generation.max_new_tokens"].help)
    )
    for name in SAMPLING_OPTIONS:
        add_setting(group, f"generation.{name}")


def run(args: Namespace) -> int:
    """Answer; return 0, or 130 when interrupted (what came until then stays)."""
    settings = Settings.load()
    question = read_question(args.question, args.file, sys.stdin)
    sampling = read_sampling(args, settings)
    options = read_model_options(args, settings)
    from glmtui.commands import models

    models.resolve(options.source)  # a wrong name fails at once, before torch is imported
    with Status(sys.stderr) as status:
        model = _load(options, status)
        system = args.system or str(settings["generation.system_prompt"])
        turns = [Turn("system", system)] if system else []
        with interrupt_sets(StopSignal()) as stop:
            answer = model.stream(
                [*turns, Turn("user", question)], sampling, check=lambda _read: stop.check()
            )
            print_answer(answer, status, streaming=not args.json)
    if args.json:
        write(sys.stdout, report(answer, model.info))
    return INTERRUPTED if answer.reason == "stopped" else 0


def _load(options: ModelOptions, status: Status) -> ChatModel:
    def progress(_stage: str, done: int, total: int) -> None:
        status.show(_("Loading the model … {percent} %").format(percent=100 * done // max(total, 1)))

    status.show(_("Loading the model …"))
    from glmtui.engine import loader

    model = loader.load(
        options.source,
        quant=options.quant,
        device=options.device,
        gpus=options.gpus,
        threads=options.threads,
        ptuning=options.ptuning,
        for_chat=True,
        progress=progress,
    )
    status.show(_("Reading the question …"))
    return model


def report(answer: Answer, info: ModelInfo) -> str:
    """Return what ``--json`` prints: one line."""
    import json

    stats = answer.stats
    values = {
        "answer": answer.text,
        "reason": answer.reason,
        "model": info.name,
        "device": info.device,
        "quant": info.quant,
        "prompt_tokens": stats.prompt_tokens,
        "answer_tokens": stats.answer_tokens,
        "prompt_seconds": round(stats.prompt_seconds, 4),
        "answer_seconds": round(stats.answer_seconds, 4),
    }
    return json.dumps(values, ensure_ascii=False) + "\n"


def print_answer(answer: Answer, status: Status, *, streaming: bool) -> None:
    """Drive `answer` to its end; with `streaming` every piece of text is on standard output at once."""
    ends_line = True
    for text in answer:
        if text and streaming:
            status.clear()
            write(sys.stdout, text)
            ends_line = text.endswith("\n")
    status.clear()
    if streaming and not ends_line:
        write(sys.stdout, "\n")
    if answer.reason == "length":
        message = _("The answer was cut off after {count} tokens (--max-tokens, --max-length).")
        status.note(message.format(count=answer.answer_tokens))


def read_question(words: list[str], files: list[Path], stream: TextIO) -> str:
    """Return the question: the arguments, then the files, then what is piped in, a blank line between them.

    Raises:
        UsageError: there is none of these.
        UserError: a file cannot be read as text.
    """
    parts = [" ".join(words), *map(_read_text, files)]
    if _is_piped(stream):
        parts.append(stream.buffer.read().decode("utf-8-sig", "replace"))
    question = "\n\n".join(part.strip() for part in parts if part.strip())
    if not question:
        raise UsageError(_("There is no question. Write it after `ask`, or pipe it in."))
    return question


def read_sampling(args: Namespace, settings: Settings) -> Sampling:
    """Return the settings' sampling with what the command line says instead."""
    given = {name: getattr(args, name) for name in SAMPLING_OPTIONS if getattr(args, name) is not None}
    if args.max_tokens is not None:
        given["max_new_tokens"] = args.max_tokens
    return replace(settings.sampling(), **given)


def add_setting(group: ArgumentParser | object, key: str) -> Action:
    """Add an option for the setting `key`, with its help and limits."""
    setting = BY_KEY[key]

    def parse(text: str) -> object:
        try:
            return setting.parse(text)
        except UserError as error:
            raise ArgumentTypeError(str(error)) from None

    name = setting.name.replace("_", "-")
    return cast("ArgumentParser", group).add_argument(
        f"--{name}",
        dest=setting.name,
        metavar="N" if setting.kind == "int" else "X",
        type=parse,
        help=_(setting.help),
    )


@contextmanager
def interrupt_sets(stop: StopSignal) -> Iterator[StopSignal]:
    """Let the first Ctrl-C set `stop`, so that the answer ends in order, and a second one end the program."""

    def interrupt(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        stop.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class Status:
    """One line that changes, on a terminal, and is gone in the end; nothing where `stream` is not one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._shown = False

    def __enter__(self) -> Status:
        return self

    def __exit__(self, *_error: object) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Show `text` in the place of what was there."""
        if self._is_terminal:
            write(self._stream, f"\r\x1b[K{text}")
            self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            write(self._stream, "\r\x1b[K")
            self._shown = False

    def note(self, text: str) -> None:
        """Write a line that stays, also where there is no terminal."""
        self.clear()
        write(self._stream, f"glmtui: {text}\n")


def write(stream: TextIO, text: str) -> None:
    """Write and flush; what the stream's encoding lacks is replaced instead of raising."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(_("{path} is not a text file in UTF-8").format(path=path)) from None


def _is_piped(stream: TextIO) -> bool:
    """Whether something was piped or redirected in; a terminal or the null device says nothing."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # no file, as when there is no console at all
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)

"""``glmtui tune``: teach a model by P-tuning v2 or LoRA."""

from __future__ import annotations

import shlex
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace, _ArgumentGroup
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, get_args

from glmtui import streams
from glmtui.cli.evaluate import add_data_options, given_columns
from glmtui.cli.options import add_model_options, load_settings, positive
from glmtui.errors import BadValueError, UsageError
from glmtui.i18n import _, tell
from glmtui.signals import ENDING, end_signals
from glmtui.training.options import (
    LEARNING_RATES,
    LEAST_OF_A_SMALL_MODEL,
    LEAST_STEPS,
    LORA_DROPOUT,
    OF_A_SMALL_MODEL,
    PREFIX_DROPOUT,
    ROWS_OF_A_STEP,
    Method,
    Optimizer,
    Schedule,
    TuneOptions,
)

if TYPE_CHECKING:
    from glmtui.protocol.cancellation import CancelToken
    from glmtui.training.progress import Event, Step

_OF_OTHERS: Mapping[Method, tuple[str, ...]] = {"ptuning": ("lora_",), "lora": ("pre_seq_len", "prefix_")}
"""How options begin that belong to the other method."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.description = _(
        "Teach a model by P-tuning v2 (a trained prefix, as published for ChatGLM) or LoRA (small "
        "products "
        "next to its own), over weights that stay as they are: also quantised ones. What comes out is "
        "used "
        "at once with --ptuning DIR or --lora DIR. Ctrl+C ends a run and keeps what was learned; "
        "--resume "
        "goes on."
    )
    add_data_options(parser)
    parser.add_argument("--out", metavar="DIR", help=_("the folder for what is learned"))
    parser.add_argument(
        "--check", action="store_true", help=_("only read the data, and say what there is to learn from")
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help=_("print a JSON object for every step that is logged, or for what --check finds"),
    )
    rates = {name: f"{rate:g}" for name, rate in LEARNING_RATES.items()}
    _add_options(
        parser.add_argument_group(_("method")),
        ("method", get_args(Method), _("P-tuning v2 (default) or LoRA")),
        ("pre_seq_len", positive, _("P-tuning: rows of the prefix (default: {default})")),
        ("prefix_projection", None, _("P-tuning: make the prefix of a smaller table by two trained layers")),
        (
            "prefix_dropout",
            float,
            _(
                "P-tuning: share of the prefix that each sample goes without (default: {default}, small "
                "models 0)"
            ).format(default=PREFIX_DROPOUT),
        ),
        ("lora_rank", positive, _("LoRA: inner width of the products (default: {default})")),
        ("lora_alpha", float, _("LoRA: their scale is this by the rank (default: {default})")),
        (
            "lora_dropout",
            float,
            _("LoRA: share of their input that is dropped (default: {default}, small models 0)").format(
                default=LORA_DROPOUT
            ),
        ),
        (
            "lora_targets",
            _names,
            _(
                "LoRA: names of the layers that get them, with commas between, or all (default: the "
                "attention's first, of small models all)"
            ),
        ),
        ("start_from", str, _("begin with a prefix or LoRA that was saved, under a new schedule")),
    )
    _add_options(
        parser.add_argument_group(_("training")),
        (
            "learning_rate",
            float,
            _(
                "what the schedule begins with (default: {ptuning}, LoRA {lora}; more for small models)"
            ).format(**rates),
        ),
        (
            "steps",
            positive,
            _(
                "steps of the optimizer (default: as many as --epochs make, and at least {least}, of a small "
                "model {small})"
            ).format(least=LEAST_STEPS, small=LEAST_OF_A_SMALL_MODEL),
        ),
        ("epochs", float, _("how often every row is seen (default: {default})")),
        (
            "batch",
            positive,
            _("rows that are computed together (default: 1, or all of a step where the model is small)"),
        ),
        (
            "accumulate",
            positive,
            _(
                "such batches that make one step (default: as many as make {rows} rows, of a small model "
                "{small})"
            ).format(rows=ROWS_OF_A_STEP, small=OF_A_SMALL_MODEL),
        ),
        ("optimizer", get_args(Optimizer), _("AdamW as published (default), or torch's")),
        ("schedule", get_args(Schedule), _("how the learning rate falls (default: linear, to 0)")),
        ("warmup_steps", int, _("steps in which the learning rate rises first (default: {default})")),
        ("weight_decay", float, _("of AdamW (default: {default})")),
        ("max_grad_norm", float, _("to which gradients are clipped (default: {default})")),
        ("seed", int, _("of the first values, the order of the rows and dropout (default: {default})")),
    )
    _add_options(
        parser.add_argument_group(_("what is kept")),
        ("validation", float, _("share of the rows that is kept apart (default: {default})")),
        ("validate_steps", positive, _("steps between two looks at these (default: ten looks in a run)")),
        ("patience", positive, _("end when so many looks in a row found nothing better")),
        ("log_steps", positive, _("steps between two lines of the log (default: {default})")),
        ("save_steps", positive, _("steps between two checkpoints (default: {default})")),
        ("save_seconds", float, _("seconds after which there is one at the latest (default: {default})")),
        ("keep", positive, _("checkpoints that stay (default: {default})")),
        ("samples", int, _("validation questions that are answered before and after (default: {default})")),
        ("resume", None, _("go on from the last checkpoint in --out, as if nothing had ended it")),
    )
    add_model_options(parser)


def _add_options(
    group: _ArgumentGroup, *options: tuple[str, Callable[[str], object] | tuple[str, ...] | None, str]
) -> None:
    """Add options for fields of `TuneOptions`: name, type (choices, None for a flag) and help."""
    defaults = {field.name: field.default for field in fields(TuneOptions)}
    for name, kind, about in options:
        flag = f"--{name.replace('_', '-')}"
        text = about.replace("{default}", f"{defaults[name]}")
        if kind is None:
            group.add_argument(flag, dest=name, action="store_true", default=SUPPRESS, help=text)
        elif isinstance(kind, tuple):
            group.add_argument(flag, dest=name, choices=kind, default=SUPPRESS, help=text)
        else:
            metavar = {str: "DIR", _names: _("NAME,NAME"), float: "X"}.get(kind, "N")
            group.add_argument(flag, dest=name, type=kind, metavar=metavar, default=SUPPRESS, help=text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ArgumentTypeError(_("{text!r} is not a list of names").format(text=text))
    return names


def run(args: Namespace) -> int:
    from glmtui.protocol.models import LocalModel

    spec = load_settings(args).model_spec()
    if not isinstance(spec, LocalModel):
        raise UsageError(_("glmtui tune runs models on this machine: leave out the server's address"))
    if "model.ptuning" in vars(args) or "model.lora" in vars(args):
        raise UsageError(_("glmtui tune trains a new prefix or LoRA; --start-from DIR begins with one."))
    if args.out is None and not args.check:
        raise UsageError(_("glmtui tune needs --out DIR, the folder for what is learned"))
    known = {field.name for field in fields(TuneOptions)}
    given = {name: value for name, value in vars(args).items() if name in known}
    given |= {"data": tuple(args.data), "out": args.out or "", "model": spec, "columns": given_columns(args)}
    options = TuneOptions(**given)
    others = [f"--{name.replace('_', '-')}" for name in given if name.startswith(_OF_OTHERS[options.method])]
    if others:
        unused = _("--method {method} has no use for {options}")
        said = unused.format(method=options.method, options=", ".join(others))
        streams.StatusLine(streams.errors()).note(said)
    try:
        options.check()
    except BadValueError as error:
        raise UsageError(error.phrase) from error
    if args.check:
        return _check(options, as_json=args.json)
    from glmtui.cli.models import resolve
    from glmtui.protocol.cancellation import CancelToken, OperationCancelled
    from glmtui.training.job import TuneJob
    from glmtui.training.progress import Began

    resolve(spec.source)
    view, token = _View(options, as_json=args.json), CancelToken()
    came: list[int] = []

    def take(event: Event) -> None:
        if isinstance(event, Began):  # before, there is nothing to keep
            ending.enter_context(_ends_by(token, came))
        view.take(event)

    try:
        with ExitStack() as ending:
            cancelled = TuneJob(options).run(take, token).reason == "cancelled"
    except OperationCancelled:
        cancelled = True
    finally:
        view.close()
    return 128 + (came or [signal.SIGINT])[0] if cancelled else 0  # none came where another process got it


def _check(options: TuneOptions, *, as_json: bool) -> int:
    from glmtui.cli.models import resolve
    from glmtui.models.chat_tokenizer import load_tokenizer
    from glmtui.training.data import prepare_for, report_lines

    report = prepare_for(options, load_tokenizer(resolve(options.model.source).path)).report
    if as_json:
        skipped = [{"origin": each.origin, "reason": tell(each.reason)} for each in report.skipped]
        streams.output().json({**asdict(report), "tokens": report.tokens, "skipped": skipped})
        return 0
    for line in report_lines(report):
        streams.output().line(tell(line))
    return 0


@contextmanager
def _ends_by(token: CancelToken, came: list[int]) -> Iterator[None]:
    """Let Ctrl+C, and what else ends a program, give the run up in order; the second time at once.

    Args:
        token: is cancelled then.
        came: the signals' numbers are put here.
    """

    def ended(number: int) -> None:
        came.append(number)
        if token.cancelled:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        token.cancel()

    with end_signals(ended, ENDING):
        yield


class _View:
    """Says on standard error how a run goes, and on standard output what was asked for."""

    def __init__(self, options: TuneOptions, *, as_json: bool) -> None:
        self._options, self._json = options, as_json
        self._output, self._status = streams.output(), streams.StatusLine(streams.errors())
        from glmtui.cli.live_curve import LiveCurve

        self._live = LiveCurve(self._status)

    def close(self) -> None:
        self._status.clear()

    def take(self, event: Event) -> None:
        from glmtui.training import progress
        from glmtui.training.data import report_lines
        from glmtui.training.record import estimate_lines

        self._live.take(event)
        match event:
            case progress.Preparing():
                self._status.show(tell(self._live.record.beginning()))
            case progress.DataRead(report=report):
                for line in report_lines(report):
                    self._status.note(tell(line))
            case progress.Began(estimate=estimate):
                for line in estimate_lines(estimate):
                    self._status.note(tell(line))
            case progress.Step():
                if event.step % self._options.log_steps == 0 or event.step == event.steps:
                    self._log(event)
            case progress.Validated(step=step, loss=loss, best=best) if not self._status.is_terminal:
                said = (
                    _("step {step}: validation loss {loss}, the best so far")
                    if best
                    else _("step {step}: validation loss {loss}")
                )
                self._status.note(said.format(step=step, loss=f"{loss:.4f}"))
            case progress.Sampled(when=when, samples=samples):
                for sample in samples:
                    title = _("Before: {question}") if when == "before" else _("After: {question}")
                    self._status.note(title.format(question=sample.question))
                    self._status.note(f"  → {sample.answer}")
            case progress.Saved(path=path):
                self._status.note(_("{path} is saved").format(path=path))
            case progress.Ended(reason=reason, step=step, path=path):
                said = {
                    "done": _("Done. Use it with: {option}"),
                    "early": _("Ended at step {step}, as nothing got better. Use it with: {option}"),
                    "cancelled": _("Ended at step {step}. Go on with --resume, or use it with: {option}"),
                }[reason]
                self._live.leave()
                self._status.note(said.format(step=step, option=f"--{self._options.method} {_typed(path)}"))

    def _log(self, event: Step) -> None:
        if self._json:
            self._output.json(
                {
                    "step": event.step,
                    "loss": event.loss,
                    "lr": event.learning_rate,
                    "tokens_per_s": event.tokens_per_second,
                }
            )
        elif not (self._status.is_terminal and self._output.isatty()):  # else the curve shows it
            from glmtui.training.record import time_of

            figures = _("step {step} of {steps}: loss {loss}, {speed} tok/s, {left} left")
            self._status.clear()
            self._output.line(
                figures.format(
                    step=event.step,
                    steps=event.steps,
                    loss=f"{event.loss:.4f} ({event.smoothed:.4f})",
                    speed=f"{event.tokens_per_second:.1f}",
                    left=time_of(event.seconds_left),
                )
            )


def _typed(path: str) -> str:
    """Write a path as it is to be typed in a shell."""
    if sys.platform == "win32":
        import subprocess

        return subprocess.list2cmdline([path])
    return shlex.quote(path)

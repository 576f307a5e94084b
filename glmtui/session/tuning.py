"""One training run at a time, in a thread of its own, next to whatever the chat does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from glmtui import paths
from glmtui.errors import BadValueError, NotFoundError, UserError
from glmtui.failures import describe
from glmtui.i18n import N_
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.models import LocalModel
from glmtui.protocol.phrases import NOTHING, Phrase, _, listing
from glmtui.settings.schema import Setting, Value
from glmtui.training.options import Method, TuneOptions
from glmtui.training.record import RunRecord

if TYPE_CHECKING:
    from glmtui.protocol.models import ModelSpec
    from glmtui.session.events import Kind
    from glmtui.training.data import DataReport
    from glmtui.training.progress import Event, Listener

FOLDER = "tuned"
"""Below the data directory: where results go unless a person says otherwise."""


LAST_SECONDS = 0.5
"""For a run to save what it has learned when the program is left."""


class Job(Protocol):
    """What `glmtui.training.job.TuneJob` is."""

    def run(self, listener: Listener, cancel: CancelToken) -> object:
        """Do it, telling `listener` of everything in this thread.

        Raises:
            UserError: it cannot be done, or not any further.
        """


# fmt: off
CHOICES: tuple[Setting, ...] = (
    Setting("tune.data", "text", None, N_("Data"),
            N_("A file or a folder with what is to be learned: .json, .jsonl, .csv, or conversations."),
            nullable=True),
    Setting("tune.method", "choice", "ptuning", N_("Method"),
            N_("lora adds small products to layers; ptuning puts a trained prefix before every text."),
            choices=("ptuning", "lora")),
    Setting("tune.out", "text", None, N_("Result"),
            N_("The folder of what is learned; by default one of its own where glmtui keeps its data."),
            nullable=True),
    Setting("tune.quant", "choice", None, N_("Quantisation"),
            N_("Bits per weight of the model while it learns; by default as it is loaded."),
            choices=("none", "8", "4"), nullable=True),
    Setting("tune.epochs", "float", 3.0, N_("Epochs"),
            N_("How often all rows are learned from; the number of steps goes before it."),
            minimum=0.001, maximum=1e6),
    Setting("tune.steps", "int", None, N_("Steps"),
            N_("Steps of the optimizer; by default as many as the epochs make."),
            minimum=1, maximum=1 << 30, nullable=True),
    Setting("tune.learning_rate", "float", None, N_("Learning rate"),
            N_("What the schedule begins with; lower it where the loss rises or general talk suffers."),
            minimum=1e-12, maximum=10, nullable=True),
    Setting("tune.batch", "int", None, N_("Batch"),
            N_("Rows that go through the model at once; more need more memory."),
            minimum=1, maximum=1 << 16, nullable=True),
    Setting("tune.accumulate", "int", None, N_("Accumulate"),
            N_("Batches that make one step."), minimum=1, maximum=1 << 16, nullable=True),
    Setting("tune.max_source_length", "int", 512, N_("Longest prompt"),
            N_("Tokens of a question with what was said before; longer ones lose their oldest rounds."),
            minimum=4, maximum=1 << 20),
    Setting("tune.max_target_length", "int", 256, N_("Longest answer"),
            N_("Tokens of an answer; a longer one loses its end."), minimum=3, maximum=1 << 20),
    Setting("tune.validation", "float", 0.05, N_("Validation"),
            N_("The share of the rows that is kept apart to see what was really learned."),
            minimum=0, maximum=0.9),
    Setting("tune.lora_rank", "int", 8, N_("LoRA rank"),
            N_("Width of LoRA's products: more can learn more and needs more."), minimum=1, maximum=1 << 12),
    Setting("tune.lora_alpha", "float", 32.0, N_("LoRA alpha"),
            N_("How strongly they act: alpha divided by the rank."), minimum=1e-6, maximum=1e6),
    Setting("tune.pre_seq_len", "int", 128, N_("Prefix length"),
            N_("Rows of the P-tuning prefix."), minimum=1, maximum=1 << 16),
    Setting("tune.prefix_projection", "bool", False, N_("Prefix projection"),
            N_("Let two trained layers make the prefix of a smaller table.")),
    Setting("tune.prompt_column", "text", None, N_("Prompt column"),
            N_("What the data call a question, where that is not prompt, content or question."),
            nullable=True),
    Setting("tune.response_column", "text", None, N_("Response column"),
            N_("What the data call an answer, where that is not response, summary or answer."),
            nullable=True),
    Setting("tune.history_column", "text", None, N_("History column"),
            N_("What the data call what was said before, where that is not history."), nullable=True),
    Setting("tune.start_from", "text", None, N_("Start from"),
            N_("A folder with a prefix or LoRA to begin with, under a new schedule."), nullable=True),
    Setting("tune.resume", "bool", False, N_("Resume"),
            N_("Go on from the last checkpoint of the result's folder, as if nothing had ended it.")),
)
# fmt: on
"""What can be chosen of a run, in the order in which it is asked for: fields of `TuneOptions`, its model's
quantisation, and the columns of the data."""
BY_NAME: Mapping[str, Setting] = {choice.name: choice for choice in CHOICES}
_ONLY = {"lora_rank": "lora", "lora_alpha": "lora", "pre_seq_len": "ptuning", "prefix_projection": "ptuning"}
"""Choices that only one method has."""


class Tuning:
    """What is chosen of the next run, and the run that is going on or was last.

    Args:
        model: returns the model to teach.
        notice: says what the person should know also when no screen shows it.
        make_job: makes the run; by default a `TuneJob`.
    """

    def __init__(
        self,
        model: Callable[[], ModelSpec],
        notice: Callable[[Phrase, Kind], None],
        make_job: Callable[[TuneOptions], Job] | None = None,
    ) -> None:
        self._model, self._notice = model, notice
        self.make_job = make_job or _tune_job
        self._values: dict[str, Value] = {choice.name: choice.default for choice in CHOICES}
        self.report: DataReport | None = None
        """Of the data as they were checked last."""
        self.record: RunRecord | None = None
        """The run's."""
        self.problem: Phrase = NOTHING
        """Why the run ended too early."""
        self._thread: threading.Thread | None = None
        self._token = CancelToken()
        self._out = ""
        self._method: Method = "ptuning"
        self._ended = False

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    @property
    def choices(self) -> list[Setting]:
        """Those that the chosen method has."""
        method = self._values["method"]
        return [choice for choice in CHOICES if _ONLY.get(choice.name, method) == method]

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._thread is not None

    @property
    def progress(self) -> tuple[str, float] | None:
        """What the running one is called, and how much of it is done, 0 to 1."""
        if self._thread is None or self.record is None:
            return None
        return Path(self._out).name, self.record.fraction

    @property
    def result(self) -> tuple[Method, str] | None:
        """The command that puts on the model what the last run has learned, and its folder."""
        ended = self.record.ended if self.record is not None else None
        return (self._method, ended.path) if ended is not None else None

    def choose(self, name: str, text: str) -> None:
        """Take what a person typed for a choice; an empty text is its default.

        Raises:
            UserError: there is no such choice, or not this value.
        """
        choice = BY_NAME.get(name.replace("-", "_"))
        if choice is None:
            raise NotFoundError(
                _("There is no {name} to choose. There are: {names}").format(
                    name=name, names=listing(BY_NAME)
                )
            )
        self._values[choice.name] = choice.parse(text) if text.strip() else choice.default
        if choice.name not in ("out", "resume", "method"):
            self.report = None

    def options(self) -> TuneOptions:
        """Return the next run.

        Raises:
            UserError: there is no data, the model cannot be taught here, or a value is not allowed.
        """
        spec = self._model()
        if not isinstance(spec, LocalModel):
            raise BadValueError(_("Only a model on this machine can be taught: load one with /model."))
        data = self._values["data"]
        if not data:
            raise BadValueError(_("There is no data yet. For example: /tune data train.jsonl"))
        values: dict[str, Any] = {name: self._values[name] for name in _FIELDS}
        if (quant := self._values["quant"]) is not None:
            spec = replace(spec, quant=str(quant))  # type: ignore[arg-type]
        file, out = paths.typed(str(data)), self._values["out"]
        folder = paths.typed(str(out)) if out else self._folder(file, resume=bool(values["resume"]))
        spec = replace(spec, ptuning=None, lora=None)
        given = {name: self._values[f"{name}_column"] for name in ("prompt", "response", "history")}
        columns = {name: str(column) for name, column in given.items() if column}
        values |= {"data": (str(file),), "out": str(folder), "model": spec, "columns": columns}
        options = TuneOptions(**values)
        options.check()
        return options

    def check(self) -> DataReport:
        """Read the data and say what there is to learn; for another thread.

        Raises:
            UserError: nothing of it can be learned.
        """
        from glmtui.training.data import report_of

        self.report = report_of(self.options())
        return self.report

    def start(self) -> None:
        """Begin to train.

        Raises:
            UserError: another run is going on, or as `options` does.
        """
        if self._thread is not None:
            raise BadValueError(_("A model is being taught already: /tune stop ends that."))
        options = self.options()
        self.record, self.problem = RunRecord(), NOTHING
        self._token, self._out, self._method = CancelToken(), options.out, options.method
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(options,), name="glmtui-tune", daemon=True)
        self._thread.start()

    def stop(self) -> bool:
        """Let the run end after its step and keep what it has learned; return whether there was one."""
        self._token.cancel()
        return self._thread is not None

    def close(self) -> None:
        """End the run, and give it a moment to save what it has learned."""
        if self.stop() and self._thread is not None:
            self._thread.join(LAST_SECONDS)

    def poll(self) -> None:
        """Say how a run ended, once."""
        if self._thread is None or not self._ended:
            return
        self._thread = None
        assert self.record is not None
        if self.problem:
            self._notice(self.problem, "error")
        elif self.record.ended is not None:
            self._notice(self.record.ending(), "info")
            said = _("/{command} {path} puts it on the model, /compare shows what it changed.")
            self._notice(said.format(command=self._method, path=self.record.ended.path), "info")
        else:
            self._notice(_("The training was stopped before its first step."), "info")

    def _run(self, options: TuneOptions) -> None:
        record = self.record
        assert record is not None

        def take(event: Event) -> None:
            record.take(event)

        try:
            self.make_job(options).run(take, self._token)
        except OperationCancelled:
            pass
        except UserError as error:
            self.problem = error.phrase
        except BaseException as error:  # noqa: BLE001 (it is said, and what it was is in the log)
            self.problem = describe(error)[1]
        finally:
            self._ended = True

    def _folder(self, data: Path, *, resume: bool) -> Path:
        name = f"{data.stem}-{self._values['method']}"
        folder = paths.data_dir() / FOLDER / name
        return folder if resume else paths.free(folder)


_FIELDS = [field.name for field in fields(TuneOptions) if field.name in BY_NAME]


def _tune_job(options: TuneOptions) -> Job:
    from glmtui.training.job import TuneJob

    return TuneJob(options)

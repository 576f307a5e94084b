"""A whole run: from the options to a folder that the chat loads. It knows no screen and no command line."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch

from glmtui import paths
from glmtui.engine import loader, preflight
from glmtui.engine.chat_model import ChatModel
from glmtui.engine.preflight import Prepared
from glmtui.errors import BadFileError, BadValueError, NotFoundError, UserError
from glmtui.locking import only_one
from glmtui.models.lora import Shape
from glmtui.models.prefix import without_prefix
from glmtui.protocol.cancellation import CancelToken, OperationCancelled
from glmtui.protocol.phrases import NOTHING, Phrase, _, listing, sentences
from glmtui.protocol.sampling import Sampling
from glmtui.training import estimate
from glmtui.training.adapter import Adapter
from glmtui.training.checkpoints import (
    Clock,
    fingerprint,
    last_checkpoint,
    put_files,
    read_checkpoint,
    read_weights,
    save_checkpoint,
    taken_by,
)
from glmtui.training.data import Data, prepare_for
from glmtui.training.encoding import Encoded, batch, pad_id
from glmtui.training.evaluation import answer_to
from glmtui.training.log import RunLog
from glmtui.training.lora import LoraTuning
from glmtui.training.options import TuneOptions
from glmtui.training.order import Order
from glmtui.training.prefix import PrefixTuning
from glmtui.training.progress import (
    SMOOTHING,
    Began,
    DataRead,
    Ended,
    Estimate,
    Event,
    Listener,
    Preparing,
    Sample,
    Sampled,
    Saved,
    Step,
    Validated,
)
from glmtui.training.ranks import Ranks
from glmtui.training.trainer import Batch, NotFiniteError, Trainer

MOST_VALIDATED = 64
"""Validation rows that are looked at each time: more would be exact, and most of the work."""
VALIDATIONS = 10
"""In a run, unless told otherwise."""
SAMPLE_TOKENS = 128
_OF_A_RUN = (
    *("data", "out", "keep", "log_steps", "save_steps", "save_seconds", "resume", "start_from", "samples"),
    *("tensorboard", "checkpointing", "patience", "validate_steps", "model"),
)
"""Options that may change when a run goes on; all others make what it computes."""
_MODEL, _DATA = "weights", "data"
"""The marks of a run that are digests."""


@dataclass
class _Course:
    """What a run knows of its past, besides what is trained: kept in its checkpoints."""

    smoothed: float | None = None
    best: float | None = None
    """The lowest validation loss."""
    worse: int = 0
    """Validations since then."""

    def add_loss(self, loss: float) -> float:
        before = self.smoothed
        self.smoothed = loss if before is None else SMOOTHING * before + (1 - SMOOTHING) * loss
        return self.smoothed

    def add_validation(self, loss: float) -> bool:
        """Note a validation loss; return whether it is the lowest."""
        best = math.isfinite(loss) and (self.best is None or loss < self.best)
        self.best, self.worse = (loss, 0) if best else (self.best, self.worse + 1)
        return best


class TuneJob:
    """One run. `run` may be called once.

    Raises:
        BadValueError: an option is out of its range.
    """

    def __init__(self, options: TuneOptions) -> None:
        options.check()
        self._options = options
        self._out = paths.typed(options.out)
        self._course = _Course()
        self._listeners: list[Listener] = []

    def run(self, listener: Listener, cancel: CancelToken | None = None) -> Ended:
        """Do it all; the same event ends what `listener` is told.

        Args:
            listener: see `Listener`.
            cancel: ends the run within a layer's time; what was learned until then is saved.

        Raises:
            UserError: the data or the model cannot be read, it would not fit, nothing can be written.
            NotFiniteError: a loss or gradient is no number; the state before it is saved.
            OperationCancelled: before the first step, so that there is nothing to save.
        """
        options, token = self._options, cancel or CancelToken()
        self._ranks = Ranks.of_environment(options.model.device)
        self._listeners = [listener] if self._ranks.leads else []
        if not options.resume:
            self._check_is_free()
        with token.current(), self._folder():
            model, data = self._read(token)
            adapter = self._new_adapter(model)
            weights = model.folder.sizes.parameters
            self._rows = options.rows_of_a_step(weights)
            steps = options.steps_for(len(data.train), math.prod(self._rows), weights)
            trainer = self._new_trainer(model, adapter, steps, token)
            self._marks = _marks(options, model, data, steps)
            self._begin_from_saved(adapter, trainer)
            pad = pad_id(model.tokenizer)
            validation = [_batch([row], pad) for row in data.validation[:MOST_VALIDATED]]
            began = self._began(model, adapter, trainer, data, steps, pad)
            with self._log():
                self._tell(began)
                if trainer.done == 0:
                    with adapter.switched_off():
                        self._sample("before", model, data, token)
                ended = self._train(trainer, adapter, data, validation, steps, pad, token)
                if ended.reason != "cancelled":
                    self._sample("after", model, data, token)
                self._tell(ended)
        return ended

    def _check_is_free(self) -> None:
        """Raise BadValueError where a new run would write over what lies in its folder."""
        if last_checkpoint(self._out) is not None:
            message = _("{path} holds a run already. Go on with it (--resume), or give another folder.")
            raise BadValueError(message.format(path=self._out))
        if (name := taken_by(self._out)) is not None:
            message = _("{path} holds {name} already, which the run would write over. Give another folder.")
            raise BadValueError(message.format(path=self._out, name=name))

    @contextmanager
    def _log(self) -> Iterator[None]:
        if not self._ranks.leads:
            yield
            return
        with closing(RunLog(self._out, tensorboard=self._options.tensorboard)) as log:
            self._listeners.append(log.take)
            try:
                yield
            except UserError as error:
                log.failed(error)
                raise

    @contextmanager
    def _folder(self) -> Iterator[None]:
        """Make the folder of the result, where there is none, and keep other runs out of it."""
        if not self._ranks.leads:
            yield
            return
        is_new = not self._out.exists()
        put_files(self._out, lambda _folder: None)
        try:
            with only_one(self._out) as alone:
                if not alone:
                    message = _("Another run writes into {path} now. Give another folder.")
                    raise BadValueError(message.format(path=self._out))
                yield
        finally:
            if is_new:
                with suppress(OSError):
                    self._out.rmdir()  # if nothing came of it

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    # --- before the first step ---

    def _read(self, token: CancelToken) -> tuple[ChatModel, Data]:
        options = self._options
        spec = replace(options.model, ptuning=None, lora=None)
        found = preflight.prepare(spec)
        prepared = Prepared(spec, without_prefix(found.folder), None, found.tokenizer)
        assert prepared.tokenizer is not None
        self._tell(Preparing("data", 0.0))
        data = prepare_for(options, prepared.tokenizer)
        self._tell(DataRead(data.report))

        def progress(stage: Literal["read", "quantize", "compile"], done: int, total: int) -> None:
            token.check()
            self._tell(Preparing(stage, done / max(total, 1)))

        return loader.load(spec, progress, prepared=prepared), data

    def _new_adapter(self, model: ChatModel) -> Adapter:
        options, weights = self._options, model.folder.sizes.parameters
        if options.method == "ptuning":
            return PrefixTuning(
                model.network,
                model.folder.config,
                rows=options.pre_seq_len,
                projection=options.prefix_projection,
                dropout=options.dropout_for(weights),
                seed=options.seed,
            )
        return LoraTuning(
            model.network,
            options.model.source or model.info.name,
            shape=Shape(options.lora_rank, options.lora_alpha),
            dropout=options.dropout_for(weights),
            targets=options.targets_for(weights),
            seed=options.seed,
        )

    def _new_trainer(self, model: ChatModel, adapter: Adapter, steps: int, token: CancelToken) -> Trainer:
        options = self._options
        return Trainer(
            model.network,
            adapter,
            learning_rate=options.rate_for(int(model.folder.config["hidden_size"])),
            steps=steps,
            optimizer=options.optimizer,
            schedule=options.schedule,
            warmup_steps=options.warmup_steps,
            weight_decay=options.weight_decay,
            max_grad_norm=options.max_grad_norm,
            checkpointing=options.checkpoints(model.folder.sizes.parameters),
            seed=options.seed,
            check=token.check if self._ranks.count == 1 else None,  # together they end between steps
            ranks=self._ranks,
        )

    def _begin_from_saved(self, adapter: Adapter, trainer: Trainer) -> None:
        """Take over a checkpoint or a saved prefix or LoRA, where that was asked for."""
        if not self._options.resume:
            if self._options.start_from is not None:
                adapter.load(read_weights(paths.typed(self._options.start_from)))
            return
        folder = last_checkpoint(self._out)
        if folder is None:
            raise NotFoundError(_("{path} has no checkpoint to go on from.").format(path=self._out))
        found = read_checkpoint(folder)
        own = found.state.get("glmtui")
        own = own if isinstance(own, dict) else {}
        if problem := _differences(folder, own, self._marks):
            raise BadValueError(problem)
        adapter.load(found.weights)
        try:
            trainer.restore({"step": found.step, "optimizer": found.optimizer})
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RuntimeError) as error:
            message = _("{path} is of another training: its optimizer does not fit.")
            raise BadFileError(message.format(path=folder)) from error
        self._course = _Course(
            _number(own.get("smoothed")), _number(own.get("best")), int(_number(own.get("worse")) or 0)
        )

    def _began(
        self, model: ChatModel, adapter: Adapter, trainer: Trainer, data: Data, steps: int, pad: int
    ) -> Began:
        """Measure a micro-batch, and say what is to be expected."""
        device = next(model.network.parameters()).device
        longest = sorted(data.train, key=lambda row: -len(row.ids))[: self._rows[0]]
        ids, labels = _batch(longest, pad)
        parameters = list(adapter.parameters().values())
        learned = int((labels >= 0).sum())
        sizes = model.folder.sizes
        extra = estimate.extra_memory(
            model.network,
            sizes,
            parameters,
            ids.numel(),
            learned,
            checkpointing=self._options.checkpoints(sizes.parameters),
        )
        free = estimate.free_memory(device)
        estimate.check_memory(extra, free)
        self._tell(Preparing("measure", 0.0))
        shortest = sorted(data.train, key=lambda row: len(row.ids))[:1]
        trainer.try_out(*_batch(shortest, pad))  # kernels are compiled, memory is had
        begun = perf_counter()
        trainer.try_out(ids, labels)
        per_token = (perf_counter() - begun) / max(sum(len(row.ids) for row in longest), 1)
        mean = sum(len(row.ids) for row in data.train) / len(data.train)
        left = steps - trainer.done
        seconds = per_token * mean * math.prod(self._rows) * left
        return Began(
            Estimate(
                memory=model.info.memory_bytes + extra,
                free_memory=model.info.memory_bytes + free,
                seconds=seconds,
                trained=sum(each.numel() for each in parameters),
                warning=estimate.warning_of(seconds),
            ),
            rows=len(data.train),
            validation_rows=len(data.validation),
            first_step=trainer.done,
            steps=steps,
        )

    # --- the loop ---

    def _train(
        self,
        trainer: Trainer,
        adapter: Adapter,
        data: Data,
        validation: Sequence[Batch],
        steps: int,
        pad: int,
        token: CancelToken,
    ) -> Ended:
        options, device = self._options, next(trainer.network.parameters()).device
        order, clock = Order(len(data.train), options.seed), Clock(options.save_seconds)
        between = options.validate_steps or max(steps // VALIDATIONS, 1)
        saved = trainer.done
        pace = _Pace(steps - trainer.done)
        reason: Literal["done", "early", "cancelled"] = "done"
        try:
            while trainer.done < steps:
                if self._ranks.any(token.cancelled, device):
                    raise OperationCancelled
                rows = [[data.train[row] for row in micro] for micro in order.step(trainer.done, *self._rows)]
                begun, rate = perf_counter(), trainer.learning_rate
                losses = trainer.step([_batch(micro, pad) for micro in rows])
                seconds = perf_counter() - begun
                loss = sum(losses) / len(losses)
                tokens = sum(len(row.ids) for micro in rows for row in micro)
                self._tell(
                    Step(
                        trainer.done,
                        steps,
                        loss,
                        self._course.add_loss(loss),
                        rate,
                        tokens / seconds,
                        estimate.used_memory(device),
                        pace.left(seconds),
                    )
                )
                done = trainer.done
                if validation and (done % between == 0 or done == steps):
                    self._validate(trainer, adapter, validation)
                    if options.patience is not None and self._course.worse >= options.patience:
                        reason = "early"
                        break
                if done % options.save_steps == 0 or clock.due:
                    self._save(trainer, adapter)
                    saved = done
                    clock.restart()
        except OperationCancelled:
            reason = "cancelled"
        except NotFiniteError:
            self._save(trainer, adapter)
            raise
        if saved != trainer.done:
            self._save(trainer, adapter)
        if self._course.best is None:
            self._put(adapter)
        return Ended(reason, trainer.done, str(self._out))

    def _validate(self, trainer: Trainer, adapter: Adapter, validation: Sequence[Batch]) -> None:
        loss = trainer.validate(validation)
        best = self._course.add_validation(loss)
        if best:
            self._put(adapter)
        self._tell(Validated(trainer.done, loss, best))

    def _put(self, adapter: Adapter) -> None:
        if self._ranks.leads:
            put_files(self._out, adapter.save)

    def _save(self, trainer: Trainer, adapter: Adapter) -> None:
        if not self._ranks.leads:
            return
        state = trainer.state()
        path = save_checkpoint(
            self._out,
            trainer.done,
            adapter.save,
            state["optimizer"],
            {"glmtui": {**asdict(self._course), **self._marks}},
            keep=self._options.keep,
        )
        self._tell(Saved(trainer.done, str(path)))

    def _sample(
        self, when: Literal["before", "after"], model: ChatModel, data: Data, token: CancelToken
    ) -> None:
        rows = data.validation_rows[: self._options.samples]
        if not rows or not self._ranks.leads:
            return
        longest = min(self._options.max_target_length, SAMPLE_TOKENS)
        sampling = replace(Sampling(), temperature=0.0, max_new_tokens=longest)
        model.forget_prefixes()
        samples = []
        for row in rows:
            answer = answer_to(model, row, sampling, lambda _fraction: token.check())
            samples.append(Sample(row.prompt, row.response, answer))
        model.forget_prefixes()
        self._tell(Sampled(when, tuple(samples)))


class _Pace:
    """Foretells how long the rest of the steps takes, by the mean of those that were taken."""

    def __init__(self, steps: int) -> None:
        self._left, self._taken, self._seconds = steps, 0, 0.0

    def left(self, seconds: float) -> float:
        """Count a step that took so long; return the seconds that are left."""
        self._left, self._taken, self._seconds = self._left - 1, self._taken + 1, self._seconds + seconds
        return self._left * self._seconds / self._taken


def _batch(rows: Sequence[Encoded], pad: int) -> Batch:
    ids, labels = batch(rows, pad)
    return torch.from_numpy(ids), torch.from_numpy(labels)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _marks(options: TuneOptions, model: ChatModel, data: Data, steps: int) -> dict[str, Any]:
    """Return what must be the same for a run to go on as if it had never ended, what explains most first."""
    digest = hashlib.sha256()
    for row in data.train:
        digest.update(json.dumps((row.ids, row.labels)).encode())
    chosen = {name: value for name, value in asdict(options).items() if name not in _OF_A_RUN}
    chosen |= {"steps": steps, "quant": model.info.quant}
    chosen.pop("epochs")
    digests = {_MODEL: fingerprint(model.folder.weight_files), _DATA: digest.hexdigest()[:16]}
    return json.loads(json.dumps(digests | chosen))  # type: ignore[no-any-return]


def _differences(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> Phrase:
    """Say which marks of a checkpoint are others; false where none is. A mark it lacks is as it should be."""
    names = [name for name, value in now.items() if name in before and before[name] != value]
    chosen = [name for name in names if name not in (_MODEL, _DATA)]
    if not names:
        return NOTHING
    if _MODEL in names:
        said = _("{path} was trained on another model, so it cannot go on exactly.").format(path=folder)
    elif not chosen:
        said = _("{path} was trained with other data, so it cannot go on exactly.").format(path=folder)
    else:
        usual = _("the usual")
        values = [
            _("{name} {before}, now {now}").format(
                name=name,
                before=usual if before[name] is None else before[name],
                now=usual if now[name] is None else now[name],
            )
            for name in chosen  # which may be why the rows are others
        ]
        said = _("{path} was trained with other values, so it cannot go on exactly ({values}).")
        said = said.format(path=folder, values=listing(values))
    return sentences(said, _("Give the same, or begin anew from its weights with --start-from."))

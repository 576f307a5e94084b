"""The loop's body: one step of the optimizer from a few micro-batches, and nothing about data, files or
people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from glmtui.errors import UserError
from glmtui.models.base import LanguageModel
from glmtui.protocol.phrases import Phrase, _
from glmtui.training.adapter import Adapter
from glmtui.training.forward import Check, TrainingState, loss_of
from glmtui.training.optimizer import clip, new_optimizer, rate_at
from glmtui.training.options import Optimizer, Schedule
from glmtui.training.ranks import ALONE, Ranks

Batch = tuple[Tensor, Tensor]
"""Token ids and labels, each ``[batch, n]``; see `loss_of`."""


class NotFiniteError(UserError):
    """A loss or a gradient is no number any more. The state is that before the step."""

    code: ClassVar[str] = "not_finite"

    def __init__(self, phrase: Phrase, step: int) -> None:
        super().__init__(phrase)
        self.step = step
        """The step that could not be taken, counted from 1."""


class Trainer:
    """Trains an adapter on a frozen network.

    Its noise depends on the seed, the step and the micro-batch alone, so that a run that was ended and
    goes on is the same as one that was not.

    Args:
        network: its weights stay as they are.
        adapter: what is trained.
        learning_rate: what the schedule begins with.
        steps: those of the whole schedule.
        ranks: the processes that train together; each is given all micro-batches, and takes its own.
    """

    def __init__(
        self,
        network: LanguageModel,
        adapter: Adapter,
        *,
        learning_rate: float,
        steps: int,
        optimizer: Optimizer = "published",
        schedule: Schedule = "linear",
        warmup_steps: int = 0,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        checkpointing: bool = True,
        seed: int = 42,
        check: Check | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.network, self.adapter = network, adapter
        self.done = 0
        """Steps taken."""
        self.grad_norm = 0.0
        """Of the last step, before clipping."""
        # Biases last, which is the order of the published trainers' groups.
        named = sorted(adapter.parameters().items(), key=lambda each: each[0].endswith(".bias"))
        self._parameters = [parameter for _name, parameter in named]
        self._optimizer = new_optimizer(optimizer, self._parameters, learning_rate, weight_decay)
        self._rate, self._steps = learning_rate, steps
        self._schedule, self._warmup = schedule, warmup_steps
        self._max_grad_norm, self._checkpointing = max_grad_norm, checkpointing
        self._seed, self._check, self._ranks = seed, check, ranks
        network.checkpoint_layers(checkpointing)
        self._device = next(network.parameters()).device

    @property
    def learning_rate(self) -> float:
        """That of the next step."""
        return self._rate * rate_at(self._schedule, self.done, self._steps, self._warmup)

    def step(self, micro_batches: Sequence[Batch]) -> list[float]:
        """Take one step; return the loss of each micro-batch, all of which count alike.

        Raises:
            NotFiniteError: no step was taken.
            OperationCancelled: by `check`; no step was taken.
        """
        self._optimizer.zero_grad(set_to_none=True)
        device, count = self._device, len(micro_batches)
        losses = torch.zeros(count, device=device)
        try:
            for index, batch in enumerate(micro_batches):
                if self._ranks.takes(index):
                    losses[index] = self._backward(*batch, index, count)
            found: list[float] = self._ranks.add_up(losses).tolist()
            if not all(map(math.isfinite, found)):
                raise self._not_finite(_("the loss"))
            self._ranks.add_up_gradients(self._parameters)
            self.grad_norm = float(clip(self._parameters, self._max_grad_norm))
            if not math.isfinite(self.grad_norm):
                raise self._not_finite(_("the gradient"))
            for group in self._optimizer.param_groups:
                group["lr"] = self.learning_rate
            self._optimizer.step()
        finally:
            self._optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return found

    def _backward(self, ids: Tensor, labels: Tensor, index: int, count: int) -> float:
        with self._noise(index):
            loss, _learned = self._loss(ids, labels, training=True)
            value = float(loss.detach())
            if math.isfinite(value):
                (loss / count).backward()  # type: ignore[no-untyped-call]
        return value

    def _loss(self, ids: Tensor, labels: Tensor, *, training: bool) -> tuple[Tensor, int]:
        ids, labels = ids.to(self._device), labels.to(self._device)
        self.adapter.train(training)
        prefix = self.adapter.prefix(len(ids), training=training)
        state = TrainingState(prefix, checkpointing=self._checkpointing and training, check=self._check)
        return loss_of(self.network, ids, labels, state, self.adapter.rows)

    def try_out(self, ids: Tensor, labels: Tensor) -> None:
        """Do a micro-batch's work and forget what came of it: to measure time and memory."""
        try:
            with self._noise(0):
                self._loss(ids, labels, training=True)[0].backward()  # type: ignore[no-untyped-call]
        finally:
            self._optimizer.zero_grad(set_to_none=True)

    def validate(self, batches: Sequence[Batch]) -> float:
        """Return the mean loss over all labelled tokens of `batches`, without dropout."""
        found = torch.zeros(2, device=self._device)  # the sum of the losses, and of how many tokens
        with torch.no_grad():
            for index, (ids, labels) in enumerate(batches):
                if self._ranks.takes(index):
                    loss, count = self._loss(ids, labels, training=False)
                    found += torch.tensor([float(loss) * count, count], device=self._device)
        total, tokens = self._ranks.add_up(found).tolist()
        return float(total / max(tokens, 1))

    @contextmanager
    def _noise(self, index: int) -> Iterator[None]:
        """Draw random numbers of this step and micro-batch's own, and leave those of the process alone."""
        on_gpu = self._device.type in ("cuda", "mps")
        devices = [self._device.index or 0] if on_gpu else []
        with torch.random.fork_rng(devices, device_type=self._device.type if on_gpu else "cuda"):
            torch.manual_seed(
                (self._seed + (self.done * 65_537 + index + 1) * 0x9E3779B97F4A7C15) % (1 << 63)
            )
            yield

    def _not_finite(self, what: Phrase) -> NotFiniteError:
        message = _(
            "Step {step}: {what} is not a finite number any more, so nothing was learned from it and the "
            "run ends. "
            "Go on from the last checkpoint with a lower learning rate; with float16, take bfloat16 or "
            "float32."
        )
        return NotFiniteError(message.format(step=self.done + 1, what=what), self.done + 1)

    # --- to go on later ---

    def state(self) -> dict[str, Any]:
        """Return what, with the adapter's own tensors, is needed to go on: of tensors and plain values
        alone."""
        return {"step": self.done, "optimizer": self._optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`, or what the published trainers write as ``optimizer.pt``.

        Raises:
            ValueError: it is of something else.
        """
        saved = state["optimizer"]
        groups = saved["param_groups"]
        # Theirs has a group with weight decay and one without, though both have none.
        one = {**groups[0], "params": [each for group in groups for each in group["params"]]}
        self._optimizer.load_state_dict({"state": saved["state"], "param_groups": [one]})
        self.done = state["step"]

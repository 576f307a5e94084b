"""AdamW as published and as torch has it, schedules of the learning rate, clipping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from glmtui.training.options import Optimizer, Schedule

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class PublishedAdamW(torch.optim.Optimizer):
    """AdamW of transformers 4.27, which the published trainers used.

    Unlike torch's, the epsilon is added before the bias correction: weights with tiny gradients move less
    at first.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "betas": BETAS, "eps": EPSILON, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients that are there."""
        assert closure is None
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                mean, square = state["exp_avg"], state["exp_avg_sq"]
                mean.mul_(first).add_(parameter.grad, alpha=1 - first)
                square.mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
                count = state["step"]
                rate = group["lr"] * math.sqrt(1 - second**count) / (1 - first**count)
                parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-rate)
                if group["weight_decay"]:
                    parameter.add_(parameter, alpha=-group["lr"] * group["weight_decay"])


def new_optimizer(
    kind: Optimizer, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return AdamW: ``published`` as transformers had it (`PublishedAdamW`), else torch's."""
    if kind == "published":
        return PublishedAdamW(parameters, lr, weight_decay)
    return torch.optim.AdamW(parameters, lr, BETAS, EPSILON, weight_decay)


def rate_at(schedule: Schedule, step: int, steps: int, warmup: int) -> float:
    """Return the share of the full learning rate that step number `step`, counted from 0, is taken with.

    ``linear`` without warm-up is the published one: ``(steps - step) / steps``.
    """
    if step < warmup:
        return step / warmup
    if schedule == "constant":
        return 1.0
    left = max(steps - step, 0) / max(steps - warmup, 1)
    return left if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))


def clip(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale all gradients together so that their norm is at most `most`; return the norm they had."""
    return nn.utils.clip_grad_norm_(parameters, most)

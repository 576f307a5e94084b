"""One token after another, on CUDA through a recorded graph.

Without it, starting the kernels of a token one by one takes longer than they run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from glmtui.engine.prefill import read
from glmtui.models.base import KVCache, LanguageModel, StaticCache

Run = Callable[[], Tensor]
Recorder = Callable[[Run], Run]
"""Turns a computation on fixed tensors into one that does the same again, with the values they have then."""

AFTER = 8
"""Tokens before recording, which takes as long as some: short answers do without."""
TOLERANCE = 0.02
"""How far a replay's logits may be from those of the ordinary way, relative to the largest."""


class Decoder:
    """Computes the logits that follow each token of an answer.

    Args:
        model: any architecture.
        cache: holds the prompt.
        recorder: None computes every token the ordinary way.
    """

    def __init__(self, model: LanguageModel, cache: KVCache, recorder: Recorder | None) -> None:
        self._model, self._cache = model, cache
        self._device = next(model.parameters()).device
        self._recorder = recorder if model.takes_any_state else None
        self._count = 0
        self._token = torch.zeros(1, dtype=torch.long, device=self._device)
        self._static: StaticCache | None = None
        self._replay: Run | None = None

    def __call__(self, token: int) -> Tensor:
        """Return float32 logits ``[1, vocab]`` after `token`; they are valid until the next call."""
        self._count += 1
        if self._replay is not None and self._static is not None and self._static.has_room():
            with torch.inference_mode():
                self._token.fill_(token)
                self._static.move_to(self._cache.length)
                logits = self._replay()
            self._cache.advance(1)
            return logits
        self._replay = None
        logits = read(self._model, torch.tensor([token], device=self._device), self._cache, last_only=True)
        if self._recorder is not None and self._count > AFTER:
            self._record(self._recorder, token, logits)
        return logits

    @torch.inference_mode()
    def _record(self, recorder: Recorder, token: int, expected: Tensor) -> None:
        """Record the step that was just computed, and keep the record only if it computes the same."""
        try:
            static = StaticCache(self._cache)
            self._token.fill_(token)
            static.move_to(self._cache.length - 1)
            replay = recorder(lambda: step(self._model, self._token, static))
            found = replay()
        except RuntimeError:  # what cannot be recorded here, or no memory for it
            self._recorder = None
            return
        if float((found - expected).abs().max()) > TOLERANCE * float(expected.abs().max()):
            self._recorder = None
            return
        self._static, self._replay = static, replay


def step(model: LanguageModel, token: Tensor, cache: StaticCache) -> Tensor:
    """Return float32 logits ``[1, vocab]`` for `token` ``[1]``, which goes where `cache` was moved to."""
    return model.logits(model.hidden(model.embed(token[None]), cache.positions, cache.mask, cache))[0]


def recorder_for(model: LanguageModel) -> Recorder | None:
    """Return how steps of `model` are recorded: on one NVIDIA GPU, nowhere else."""
    devices = {parameter.device for parameter in model.parameters()}
    is_on_one = len(devices) == 1 and devices.pop().type == "cuda"
    return record_on_cuda if is_on_one and torch.version.cuda else None


def record_on_cuda(run: Run) -> Run:
    """Record `run` as a CUDA graph.

    Raises:
        RuntimeError: something in it cannot be recorded.
    """
    with torch.inference_mode():
        side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # kernels are compiled and libraries set up before
            for _warming in range(2):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = run()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay

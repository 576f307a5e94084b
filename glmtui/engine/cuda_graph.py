"""One token after another, or with guesses of the next ones, on CUDA through recorded graphs.

Without it, starting the kernels of a token one by one takes longer than they run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmtui.engine.prefill import read
from glmtui.models.base import KVCache, LanguageModel, StaticCache

Run = Callable[[], Tensor]
Recorder = Callable[[Run], Run]
"""Turns a computation on fixed tensors into one that does the same again, with the values they have then."""

WIDTHS = (1, 4, 8, 16)
"""Tokens that go through a graph at once. What are fewer is filled up: the cost is that of the weights."""
AFTER = {1: 8, 4: 2, 8: 2, 16: 2}
"""Passes of each width before it is recorded, which takes as long as some: short answers do without."""
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
        self._counts: Counter[int] = Counter()  # passes of each width
        self._records: dict[int, _Record] = {}

    def __call__(self, tokens: Sequence[int]) -> Tensor:
        """Return float32 logits ``[n, vocab]`` after each of `tokens`; they are valid until the next call."""
        n = len(tokens)
        width = next((width for width in WIDTHS if width >= n), 0)
        self._counts[width] += 1
        record = self._records.get(width)
        if record is not None and record.static.has_room():
            with torch.inference_mode():
                logits = record.run(tokens, self._cache.length)
            self._cache.advance(n)
            return logits[:n]
        self._records.pop(width, None)
        ids = torch.tensor(tokens, dtype=torch.long, device=self._device)
        logits = read(self._model, ids, self._cache)
        if self._recorder is not None and width and self._counts[width] > AFTER[width]:
            self._record(self._recorder, width, tokens, logits)
        return logits

    @torch.inference_mode()
    def _record(self, recorder: Recorder, width: int, tokens: Sequence[int], expected: Tensor) -> None:
        """Record the pass that was just computed, and keep the record only if it computes the same."""
        n = len(tokens)
        try:
            self._cache.reserve(width)
            static = StaticCache(self._cache, width)
            record = _Record(static, torch.zeros(width, dtype=torch.long, device=self._device))
            record.move(tokens, self._cache.length - n)
            record.replay = recorder(lambda: step(self._model, record.tokens, static))
            found = record.run(tokens, self._cache.length - n)[:n]
        except RuntimeError:  # what cannot be recorded here, or no memory for it
            self._recorder = None
            return
        if float((found - expected).abs().max()) > TOLERANCE * float(expected.abs().max()):
            self._recorder = None
            return
        self._records[width] = record


@dataclass
class _Record:
    """A pass of fixed width."""

    static: StaticCache
    tokens: Tensor
    """``[width]``, those that go through."""
    replay: Run | None = None

    def move(self, tokens: Sequence[int], index: int) -> None:
        """Let `tokens` go through next, filled up, the first one at `index`."""
        filled = [*tokens, *[tokens[-1]] * (len(self.tokens) - len(tokens))]
        self.tokens.copy_(torch.tensor(filled))
        self.static.move_to(index)

    def run(self, tokens: Sequence[int], index: int) -> Tensor:
        """Return the logits ``[width, vocab]`` of `tokens` at `index`; only theirs mean something."""
        assert self.replay is not None
        self.move(tokens, index)
        return self.replay()


def step(model: LanguageModel, tokens: Tensor, cache: StaticCache) -> Tensor:
    """Return float32 logits ``[n, vocab]`` for `tokens` ``[n]``, which go where `cache` was moved to."""
    return model.logits(model.hidden(model.embed(tokens[None]), cache.positions, cache.mask, cache))[0]


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

"""From logits to the next token: penalty, guard, shortest length, temperature, top-k, top-p, in that order.

The order and the meaning of each step are those of transformers' logits processors, which the published
`chat` uses; tests compare the two. transformers itself is not imported: that costs seconds. The work is done
on the few likeliest tokens, since sorting a vocabulary of 130,528 for every token would cost milliseconds.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glmtui.errors import BadFileError, BadValueError
from glmtui.protocol.phrases import _
from glmtui.protocol.sampling import Sampling

if TYPE_CHECKING:
    from glmtui.engine.grammar import Grammar

_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "max_new_tokens": (0, math.inf),
        "min_length": (0, math.inf),
        "temperature": (0, sys.float_info.max),
        "top_p": (0, 1),
        "top_k": (0, math.inf),
        "repetition_penalty": (sys.float_info.min, sys.float_info.max),
        "seed": (-(2**63), 2**64 - 1),  # what torch takes
    }
)
FIRST_LOOK = 1024
"""Without top-k, top-p first looks at this many tokens; only when they do not suffice at all of them."""
GUARDED = 8
"""So many times in a row the guard token is no slip of half precision: nothing else would come."""


_WHOLE = frozenset({"max_new_tokens", "min_length", "top_k", "seed"})
_OPTIONAL = frozenset({"max_new_tokens", "seed"})


class Sampler:
    """Chooses the tokens of one answer.

    Args:
        sampling: temperature and the rest. The same seed gives the same tokens on every device, as far as the
            logits agree.
        prompt: token ids that count as already said for the repetition penalty.
        guard_id: taken when the logits are not finite, as the published `InvalidScoreLogitsProcessor` does
            (facts: 5 is ``▁`` in ChatGLM-6B).
        stop_ids: not chosen before `sampling.min_length`.
        grammar: which tokens may come; None: all.

    Raises:
        BadValueError: a field of `sampling` is out of range.
        BadFileError: at a call, when the logits are not finite time after time.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: Sequence[int] = (),
        guard_id: int = 5,
        stop_ids: Sequence[int] = (),
        grammar: Grammar | None = None,
    ) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(sampling, name)
            fits = isinstance(value, int if name in _WHOLE else int | float)
            missing = value is None and name in _OPTIONAL
            if not missing and not (fits and least <= value <= most):
                raise BadValueError(_("{name} cannot be {value}.").format(name=name, value=value))
        self.sampling = sampling
        self.guard_id = guard_id
        self._said = list(prompt) if sampling.repetition_penalty != 1.0 else None
        self._grammar = grammar
        self._guarded = 0
        """Tokens in a row that stand for no numbers."""
        self._stop_ids = list(stop_ids)
        self._missing = sampling.min_length - len(prompt) if self._stop_ids else 0
        """Tokens before a stop token may come."""
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def __call__(self, logits: Tensor) -> int:
        """Return the next token for float32 `logits` ``[vocab]``, and remember it as said."""
        if logits.device.type == "mps":
            logits = logits.cpu()  # the same memory, and none of the gaps in what that device can sort
        token = self._choose(logits)
        self._missing -= 1
        if self._said is not None:
            self._said.append(token)
        if self._grammar is not None:
            self._grammar.accept(token)
        return token

    def _choose(self, logits: Tensor) -> int:
        sampling = self.sampling
        if self._said is not None:
            logits = penalize(logits, self._said, sampling.repetition_penalty)
        if not is_finite(logits):
            self._guarded += 1
            if self._guarded == GUARDED:
                raise BadFileError(
                    _(
                        "The model computes values that are no numbers, so there is no answer. Its "
                        "weights are damaged, or do not bear 16 bits. Download it again, or load it in "
                        "Python as float32: glmtui.load(…, dtype='float32')."
                    )
                )
            return self.guard_id
        self._guarded = 0
        if self._missing > 0:
            stops = torch.tensor(self._stop_ids, device=logits.device)
            logits = logits.index_fill(0, stops, -torch.inf)
        if self._grammar is not None:
            logits = self._grammar.limited(logits)
        if sampling.temperature < torch.finfo(torch.float32).tiny or sampling.top_k == 1:
            return int(logits.argmax())
        ids, probabilities = distribution(logits, sampling.temperature, sampling.top_k, sampling.top_p)
        return int(ids[torch.multinomial(probabilities, 1, generator=self._random)])


def penalize(logits: Tensor, said: Sequence[int], penalty: float) -> Tensor:
    """Return `logits` ``[vocab]`` with the tokens in `said` made less likely (once each) by `penalty` > 1."""
    ids = torch.tensor(said, dtype=torch.long, device=logits.device)
    scores = logits[ids]
    return logits.index_put((ids,), torch.where(scores < 0, scores * penalty, scores / penalty))


def is_finite(logits: Tensor) -> bool:
    """Whether no value is NaN or infinite. One sum tells it, unless finite values overflow the sum."""
    return bool(logits.sum().isfinite()) or bool(logits.isfinite().all())


def distribution(logits: Tensor, temperature: float, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """Return the token ids that may come next, likeliest first, and their probabilities; both on the CPU.

    Args:
        logits: float32 ``[vocab]``, finite.
        temperature: above 0.
        top_k: keep this many (more where the last ones are equal); 0 keeps all.
        top_p: keep the likeliest that together reach this probability, at least one; 1 keeps all.
    """
    vocab = logits.shape[0]
    if 0 < top_k < vocab:
        scores, ids = _largest(logits, top_k)
    elif top_p < 1 and vocab > FIRST_LOOK:
        scores, ids = logits.topk(FIRST_LOOK)
        total = ((logits - scores[0]) / temperature).exp().sum()
        if float(((scores - scores[0]) / temperature).exp().sum() / total) < top_p:
            scores, ids = logits.sort(descending=True)
        else:  # the nucleus lies within the first look; what the rest would take is known
            probabilities = ((scores - scores[0]) / temperature).exp() / total
            return _nucleus(ids.cpu(), probabilities.cpu(), top_p)
    else:
        scores, ids = logits.sort(descending=True)
    scores, ids = scores.cpu(), ids.cpu()
    return _nucleus(ids, ((scores - scores[0]) / temperature).softmax(dim=0), top_p)


def _largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest values and their ids, largest first, and all that equal the last of them."""
    scores, ids = logits.topk(min(2 * count, logits.shape[0]))
    last = scores[count - 1]
    if scores[-1] == last and scores.shape[0] < logits.shape[0]:
        scores, ids = logits.sort(descending=True)
    keep = int((scores >= last).sum())
    return scores[:keep], ids[:keep]


def _nucleus(ids: Tensor, probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Cut sorted `probabilities` behind the first that brings their sum to `top_p`, and scale them to 1."""
    if top_p >= 1:
        return ids, probabilities
    before = probabilities.cumsum(dim=0) - probabilities
    keep = max(int((before < top_p).sum()), 1)
    kept = probabilities[:keep]
    return ids[:keep], kept / kept.sum()

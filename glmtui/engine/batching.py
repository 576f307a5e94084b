"""Several answers at once: one pass over the weights gives each of them its next token.

Answers join and leave between passes. Each is a generator that goes on to its next token and computes what it
needs by itself, unless it was supplied with what one pass computed for all. An answer that another machine
makes is one of them too, for which torch is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from glmtui.protocol.cancellation import CancelToken

if TYPE_CHECKING:
    from glmtui.engine.chat_model import ChatModel
    from glmtui.engine.generate import Generation

LONGEST_GAP = 0.9
"""Seconds between two tokens of an answer while the prompt of another is read."""
DECAY = 0.9
"""How much of the longest piece of a prompt is still reckoned with at the next."""
SHARE = 0.5
"""How much of the memory that a model leaves free the keys and values of more answers than one may take."""


@dataclass(eq=False)
class Member:
    """An answer in the making."""

    token: CancelToken
    generation: Generation | None = None
    """Where its tokens come from, once that is known; None where another machine computes them."""
    steps: Iterator[None] = field(default_factory=lambda: iter(()))


class Batch:
    """The answers that are made at once, in the order in which they began."""

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._reading: Member | None = None  # whose prompt is being read
        self._ended_last = self._looked = 0.0  # when the last pass ended, and `keep_up` was called
        self._seconds = 0.0  # that a pass takes
        self._piece = 0.0  # and a piece of a prompt at most, lately

    def __len__(self) -> int:
        return len(self._members)

    def begin(self, token: CancelToken, make: Callable[[Member], Iterator[None]]) -> None:
        """Take on an answer and read its prompt; meanwhile the others are kept up with (`keep_up`).

        Args:
            token: cancelled when it is given up.
            make: returns what goes on to the next token each time, and ends with the answer. It raises
                nothing.
        """
        self._end_cancelled()  # what one leaves in the prefix cache may serve this one
        member = Member(token)
        member.steps = make(member)
        self._members.append(member)
        self._reading, self._looked = member, perf_counter()
        try:
            self._advance(member)
        finally:
            self._reading = None

    def step(self) -> None:
        """Let every answer go on to its next token."""
        started = perf_counter()
        others = self._others()
        self._compute([each.generation for each in others if each.generation and not each.token.cancelled])
        for member in others:
            self._advance(member)
        self._ended_last = perf_counter()
        self._seconds = self._ended_last - started

    def keep_up(self) -> None:
        """Between two pieces of a prompt: go on with the others, if they would wait too long otherwise."""
        self._end_cancelled()
        now = perf_counter()
        # Pieces are not alike, and what is left of a layer may be the longest of it.
        self._piece = max(now - self._looked, DECAY * self._piece)
        self._looked = now
        if self._others() and now - self._ended_last + self._piece + self._seconds > LONGEST_GAP:
            self.step()
            self._looked = perf_counter()

    def _others(self) -> list[Member]:
        """Return those whose prompt is read."""
        return [member for member in self._members if member is not self._reading]

    def _end_cancelled(self) -> None:
        for member in self._others():
            if member.token.cancelled:
                self._advance(member)

    def _advance(self, member: Member) -> None:
        with member.token.current():
            if next(member.steps, member) is member:
                self._members.remove(member)

    def _compute(self, generations: list[Generation]) -> None:
        """Supply those that await the same pass."""
        for each in generations:
            each.alone = len(self._members) == 1
        awaiting = [each for each in generations if each.awaits is not None]
        if len(awaiting) < 2:
            return
        import torch

        from glmtui.engine.prefill import read_batch

        ids = [torch.tensor([each.awaits], device=each.device) for each in awaiting]
        try:
            logits = read_batch(awaiting[0].model, ids, [each.filled for each in awaiting], last_only=True)
        except (RuntimeError, MemoryError):
            return  # now each computes by itself, and whatever was wrong is told to those whose it is
        for each, found in zip(awaiting, logits, strict=True):
            each.supply(found)


def slots_that_fit(model: ChatModel, asked: int) -> int:
    """Return how many answers at once, at least one and at most `asked`, there is memory for."""
    import psutil
    import torch

    from glmtui.hub.memory_estimate import ESTIMATED_CONTEXT

    device = next(model.network.parameters()).device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    context = min(model.network.config.max_length, ESTIMATED_CONTEXT)
    stored = model.network.cache_storage.dtype
    item = stored.itemsize if stored is not None else 4 if model.info.dtype == "float32" else 2
    each = model.folder.sizes.kv_per_token * context * item
    return min(asked, 1 + int(free * SHARE / max(each, 1)))

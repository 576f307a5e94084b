"""The one generator of tokens, behind the app, ``glmtui ask``, ``glmtui bench`` and the Python interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from glmtui.engine.cuda_graph import Decoder, recorder_for
from glmtui.engine.lookup import Lookup
from glmtui.engine.pictures import PromptImage
from glmtui.engine.prefill import Check, read
from glmtui.engine.sampling import Sampler
from glmtui.models.base import KVCache, LanguageModel, PlacedImage
from glmtui.protocol.events import Stats
from glmtui.protocol.sampling import Sampling

if TYPE_CHECKING:
    from glmtui.engine.grammar import Grammar

GUESSING = 1.15
"""How long a pass with guesses takes on a GPU, next to one without: the weights are read once in either. It
is not measured, so that the same seed gives the same answer there, where rows computed together round in
another way."""


class Generation:
    """One answer in the making: iterate over it for its token ids, stop token excluded.

    Alone, it computes what it needs. Next to others somebody may do so for all at once
    (`glmtui.engine.batching`): after a token, `awaits` says which one is to go through next, and `supply`
    takes the logits.

    Args:
        model: any architecture.
        prompt: token ids.
        sampling: how tokens are chosen, and `max_length` and `max_new_tokens`.
        limit: prompt and answer together in tokens; by default `sampling.max_length`.
        stop_ids: any of these ends the answer.
        guard_id: see `Sampler`.
        cache: holds the first tokens of `prompt` already, from an earlier answer.
        images: pictures in the prompt, which are looked at when they are needed.
        check: called between the pieces of the prompt, with the fraction that is read, and before every
            token; raises to cancel.
        lookup: whether tokens are guessed from prompt and answer where that pays (`glmtui.engine.lookup`).
            It changes no answer.
        grammar: which tokens may come; None: all.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        limit: int | None = None,
        stop_ids: Sequence[int] = (),
        guard_id: int = 5,
        cache: KVCache | None = None,
        images: Sequence[PromptImage] = (),
        check: Check | None = None,
        lookup: bool = True,
        grammar: Grammar | None = None,
    ) -> None:
        self._sampler = Sampler(sampling, prompt, guard_id, tuple(stop_ids), grammar)
        self.images = images
        limit = sampling.max_length if limit is None else limit
        room = limit - len(prompt)
        self.max_new_tokens = room if sampling.max_new_tokens is None else min(room, sampling.max_new_tokens)
        self.prompt = prompt
        self.cache = cache
        self.reason: Literal["stop", "length"] = "length"
        """Why the answer ended, once it has."""
        self.model = model
        self.device = next(model.parameters()).device
        """Where token ids go in."""
        self._stop_ids = frozenset(stop_ids)
        self._check = check
        self._uses_lookup = lookup and _may_guess(model)
        self.lookup: Lookup | None = None
        """What it guesses, once the prompt is read; None without."""
        self.alone = True
        """Whether it has the machine to itself: guesses make a pass longer for all others in it."""
        self.awaits: int | None = None
        """The token that goes through the model before there is another; None while none must."""
        self._supplied: Tensor | None = None
        self.count = 0
        """Tokens so far."""
        self._started = self._prompt_read = self._ended = 0.0

    @property
    def stats(self) -> Stats:
        """The measure of the answer so far."""
        now = self._ended or perf_counter()
        read = self._prompt_read or now
        return Stats(len(self.prompt), self.count, read - (self._started or now), now - read)

    def __iter__(self) -> Iterator[int]:
        self._started = perf_counter()
        try:
            if self.max_new_tokens > 0:
                yield from self._tokens()
        finally:
            self._ended = perf_counter()

    @property
    def filled(self) -> KVCache:
        """The cache, which there is once the prompt is read."""
        assert self.cache is not None
        return self.cache

    def supply(self, logits: Tensor) -> None:
        """Take float32 logits ``[1, vocab]`` that follow the token awaited, which the cache now holds."""
        self.awaits, self._supplied = None, logits

    def _tokens(self) -> Iterator[int]:
        model, check = self.model, self._check
        cache = self.cache or model.new_cache(len(self.prompt) + min(self.max_new_tokens, KVCache.STEP))
        self.cache = cache
        ids = torch.tensor(self.prompt[cache.length :], dtype=torch.long, device=self.device)
        images = self._look(cache.length)
        logits = read(model, ids, cache, last_only=True, check=check, images=images)
        self._prompt_read = perf_counter()
        decode = Decoder(model, cache, recorder_for(model))
        lookup = self.lookup = Lookup(self.prompt) if self._uses_lookup else None
        done = _Pass(logits)
        try:
            while True:
                right = 0
                for row, guess in zip(done.logits, [*done.guesses, None], strict=True):
                    if check is not None:
                        check(1.0)
                    token = self._sampler(row)
                    if token in self._stop_ids:
                        self.reason = "stop"
                        return
                    self.count += 1
                    if lookup is not None:
                        lookup.add(token)
                    if token == guess:
                        right += 1
                    else:
                        self._forget_guesses(of_said=1)
                        if self.count < self.max_new_tokens:
                            self.awaits = token
                    yield token
                    if self.count >= self.max_new_tokens:
                        return
                    if token != guess:
                        break
                if lookup is not None and done.seconds:
                    lookup.note(len(done.guesses), right, done.seconds)
                if check is not None:
                    check(1.0)
                done = self._next(decode, token)
        finally:
            self.awaits = None
            self._forget_guesses()

    def _look(self, read: int) -> list[PlacedImage]:
        """Return the pictures behind the first `read` tokens, which the cache has."""
        check = self._check
        step = None if check is None else lambda: check(0.0)
        return [PlacedImage(each.at, each.look(step)) for each in self.images if each.at >= read]

    def _next(self, decode: Decoder, token: int) -> _Pass:
        """Let `token` through, with guesses of what follows, unless somebody did."""
        logits, self._supplied = self._supplied, None
        if logits is not None:
            return _Pass(logits)
        self.awaits = None
        guesses: list[int] = []
        if self.lookup is not None and self.alone:
            guesses = self.lookup.guess(self.max_new_tokens - self.count - 1)
        started = perf_counter()
        logits = decode([token, *guesses])
        if logits.device.type != "cpu":  # which computes while this goes on, and is not measured
            return _Pass(logits, guesses, GUESSING if guesses else 1.0)
        return _Pass(logits, guesses, perf_counter() - started)

    def _forget_guesses(self, of_said: int = 0) -> None:
        """Leave in the cache only tokens that were said, without the last `of_said` of these."""
        said = len(self.prompt) + self.count - of_said
        if self.cache is not None and self.cache.length > said:
            self.cache.truncate(said)


def _may_guess(model: LanguageModel) -> bool:
    """Whether guesses leave the answer as it is, down to rounding.

    Rows computed together round as each does alone, or in another way. In float32 no choice hangs on that. In
    half precision it would on a processor, where it is chance, of measured times, what is guessed.
    """
    weight = next(model.parameters())
    return weight.device.type != "cpu" or weight.dtype == torch.float32


class _Pass(NamedTuple):
    """What went through the model at once."""

    logits: Tensor
    """Float32 ``[1 + guesses, vocab]``, behind the last token and behind each guess."""
    guesses: Sequence[int] = ()
    seconds: float = 0.0
    """It took; 0 where that is of no interest."""
